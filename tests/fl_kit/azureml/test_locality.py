"""Who may read and write where, and that no spelling of a path goes around it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.azureml.layout import Layout
from fl_kit.azureml.locality import Breach, Location, breaches, locate, same_storage
from fl_kit.azureml.nodes import Terms
from fl_kit.azureml.pipeline import Pipeline, compile_pipeline
from fl_kit.plan import Plan, Step
from fl_kit.silo import Federation, Orchestrator, Silo
from fl_kit.strategies import FedAvg, Scaffold
from tests.tasks import LINEAR, job

LONG = "azureml://subscriptions/s-1/resourcegroups/g/workspaces/w/datastores/"


def federation(**data: str) -> Federation:
    """A federation whose silos a and b have their own datastores, `a_store` and `b_store`."""
    return Federation(
        silos=tuple(
            Silo(
                name=name,
                data=data.get(name, f"azureml://datastores/{name}_store/paths/data/"),
                compute=f"{name}-cpu",
                datastore=f"{name}_store",
            )
            for name in ("a", "b")
        ),
        orchestrator=Orchestrator(compute="hub", datastore="hub_store"),
    )


def plan(made: Federation) -> Plan:
    return Scaffold(lr=0.1).plan(made, 3, measure=True)


def found(made: Federation, **given: Any) -> list[Breach]:
    return breaches(plan(made), made, **given)


# paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("azureml://datastores/a_store/paths/x/y/", {"kind": "datastore", "datastore": "a_store", "path": "x/y/"}),
        ("azureml://datastores/a_store", {"kind": "datastore", "datastore": "a_store"}),
        ("azureml://datastores/a_store/paths/", {"kind": "datastore", "datastore": "a_store"}),
        ("AzureML://Datastores/a_store/Paths/x", {"kind": "datastore", "datastore": "a_store", "path": "x"}),
        ("azureml://datastores/a%5Fstore/paths/x", {"kind": "datastore", "datastore": "a_store", "path": "x"}),
        ("azureml:///datastores//a_store//paths//x", {"kind": "datastore", "datastore": "a_store", "path": "x"}),
        (f"{LONG}a_store/paths/x", {"kind": "datastore", "datastore": "a_store", "path": "x", "workspace": "w"}),
        (
            "azureml://subscriptions/s-1/resourceGroups/g/providers/Microsoft.MachineLearningServices"
            "/workspaces/w/datastores/a_store/paths/x",
            {"kind": "datastore", "datastore": "a_store", "subscription": "s-1", "group": "g"},
        ),
        ("heart:3", {"kind": "asset", "name": "heart", "version": "3"}),
        ("azureml:heart:3", {"kind": "asset", "name": "heart", "version": "3"}),
        ("azureml:heart@latest", {"kind": "asset", "name": "heart", "label": "latest"}),
        (
            "azureml:/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
            "/data/heart/versions/3",
            {"kind": "asset", "name": "heart", "version": "3", "workspace": "w"},
        ),
        (
            "azureml://locations/westeurope/workspaces/0-1/data/heart/versions/3",
            {"kind": "asset", "name": "heart", "version": "3"},
        ),
        (
            "https://acc.blob.core.windows.net/box/x/y",
            {"kind": "storage", "account": "acc", "container": "box", "path": "x/y"},
        ),
        ("wasbs://box@acc.blob.core.windows.net/x", {"kind": "storage", "account": "acc", "container": "box"}),
        ("abfss://box@acc.dfs.core.windows.net/x", {"kind": "storage", "account": "acc", "container": "box"}),
        ("/mnt/heart", {"kind": "mounted", "path": "mnt/heart"}),
        ("data/heart", {"kind": "local"}),
        ("heart", {"kind": "local"}),
        (r"C:\data\heart", {"kind": "local"}),
        ("", {"kind": "unknown"}),
        ("azureml://datastores/a_store/paths/../../b", {"kind": "unknown"}),
        ("azureml://datastores/a_store/paths/x/%2e%2e/y", {"kind": "unknown"}),
        ("/mnt/../etc", {"kind": "unknown"}),
        ("azureml://datastores//paths/x", {"kind": "unknown"}),
        ("azureml://registries/r/data/heart/versions/3", {"kind": "unknown"}),
        ("azureml://jobs/j/outputs/o", {"kind": "unknown"}),
        ("ftp://example.org/x", {"kind": "unknown"}),
    ],
)
def test_paths_are_taken_apart(text: str, expected: dict[str, str]) -> None:
    place = locate(text)
    assert {name: getattr(place, name) for name in expected} == expected
    assert place.text == text


def test_an_address_of_the_storage_is_the_datastore_that_stands_for_it() -> None:
    known = {"a_store": ("acc", "box"), "b_store": ("acc", "other")}
    place = same_storage(known, locate("wasbs://Other@ACC.blob.core.windows.net/x/"))
    assert (place.kind, place.datastore, place.path) == ("datastore", "b_store", "x/")
    alien = locate("https://acc.blob.core.windows.net/third/x")
    assert same_storage(known, alien) == alien


# the rules


def test_a_federation_that_keeps_the_rules() -> None:
    assert found(federation()) == []
    assert found(federation(a="/mnt/heart", b=f"{LONG}B_STORE/paths/x")) == []


@pytest.mark.parametrize("store", ["b_store", "hub_store"])
@pytest.mark.parametrize(
    "form",
    [
        "azureml://datastores/{}/paths/data/",
        LONG + "{}/paths/data/",
        "azureml://subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
        "/datastores/{}/paths/data",
        "azureml:///datastores/{}",
    ],
)
def test_data_in_another_partys_datastore_are_refused_in_any_form(store: str, form: str) -> None:
    (breach,) = found(federation(a=form.format(store)))
    assert (breach.party, breach.doubtful) == ("a", False)
    assert store in breach.what


def swapped(text: str, flags: list[bool]) -> str:
    """The text with some letters in the other case, and some characters escaped."""
    return "".join(c.swapcase() if flag else c for c, flag in zip(text, flags, strict=True))


@given(
    flags=st.lists(st.booleans(), min_size=7, max_size=7),
    escaped=st.sets(st.integers(0, 6)),
    slashes=st.integers(1, 3),
    long=st.booleans(),
)
def test_no_spelling_leads_around_the_rules(flags: list[bool], escaped: set[int], slashes: int, long: bool) -> None:
    name = "".join(f"%{ord(c):02x}" if i in escaped else c for i, c in enumerate(swapped("b_store", flags)))
    head = LONG if long else "azureml://datastores/"
    (breach,) = found(federation(a=f"{head}{name}{'/' * slashes}paths/data/"))
    assert breach.what == f"its data lie in {swapped('b_store', flags)}, the datastore of b"


@given(text=st.text(max_size=30) | st.text("azureml:/dstorep_.%@ ", max_size=40))
def test_a_path_is_its_own_its_silos_mount_or_a_breach(text: str) -> None:
    """Whatever is written as data: without a breach it is a's own datastore or a mount."""
    if not found(federation(a=text)):
        place = locate(text)
        assert place.kind == "mounted" or (place.kind, place.datastore.lower()) == ("datastore", "a_store")


def test_data_of_nobody_are_doubtful_only() -> None:
    (breach,) = found(federation(a="azureml://datastores/public/paths/x/"))
    assert breach.doubtful
    assert "the datastore of no party: who else reads there cannot be told" in breach.what
    (breach,) = found(federation(a="https://acc.blob.core.windows.net/box/x"))
    assert breach.doubtful


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("data/heart", "'data/heart', a folder of this machine"),
        ("heart:3", "'heart:3', of which cannot be told where it leads"),
        ("azureml://jobs/j/outputs/o", "cannot be told where it leads"),
        ("azureml://datastores/a_store/paths/../../b_store", "cannot be told where it leads"),
    ],
)
def test_what_leads_nowhere_known_is_refused(data: str, words: str) -> None:
    (breach,) = found(federation(a=data))
    assert words in breach.what
    assert not breach.doubtful


def test_what_a_workspace_knows_counts() -> None:
    """Here the asset heart:3 stands for a folder of b's."""
    other = locate("azureml://datastores/b_store/paths/x/")
    (breach,) = found(federation(a="heart:3"), where=lambda text: other if text == "heart:3" else locate(text))
    assert breach.what == "its data lie in b_store, the datastore of b"


def test_two_silos_of_one_datastore_are_found_once_each() -> None:
    made = federation()
    silos = tuple(replace(silo, datastore="shared", data="/mnt/x") for silo in made.silos)
    found_here = found(replace(made, silos=silos))
    assert {(b.party, b.what) for b in found_here} == {
        (name, f"it would {verb} memory (private) {way} shared, the datastore of no single party")
        for name in ("a", "b")
        for verb, way in (("read", "from"), ("write", "to"))
    }
    assert len(found_here) == 4


def test_an_orchestrator_in_a_silos_datastore_is_found() -> None:
    made = federation()
    found_here = found(replace(made, orchestrator=replace(made.orchestrator, datastore="A_store")))
    whats = {(b.party, b.what) for b in found_here}
    assert ("orchestrator", "it would write state (shared) to A_store, the datastore of no single party") in whats
    assert ("a", "its data lie in a_store, the datastore of no party: who else reads there cannot be told") in whats


STEP = {"round": 1, "op": "fit", "outputs": {"update": "shared", "memory": "private"}}


@pytest.mark.parametrize(
    ("reader", "output", "words"),
    [
        ("orchestrator", "memory", "it would read stolen (private) from a_store, the datastore of a"),
        ("b", "memory", "it would read stolen (private) from a_store, the datastore of a"),
        ("orchestrator", "update", ""),
        ("b", "update", ""),
    ],
)
def test_a_private_output_is_read_by_its_own_silo_only(reader: str, output: str, words: str) -> None:
    """A plan that was never checked: what `Plan.check` refuses by names is refused by paths too."""
    fit = Step(party="a", inputs={}, **STEP)  # type: ignore[arg-type]
    thief = Step(op="aggregate", party=reader, round=1, inputs={"stolen": f"{fit.id}:{output}"}, outputs={})
    assert [b.what for b in breaches(Plan(steps=(fit, thief)), federation())] == ([words] if words else [])


def test_an_orchestrator_that_reads_data_is_refused() -> None:
    step = Step(op="aggregate", party="orchestrator", round=1, inputs={"data": "data:a"}, outputs={})
    (breach,) = breaches(Plan(steps=(step,)), federation())
    assert breach.party == "orchestrator"
    assert "a silo's data" in breach.what


def test_fifty_rounds_are_told_once() -> None:
    made = federation(a="azureml://datastores/b_store/paths/data/")
    assert len(breaches(FedAvg(lr=0.1).plan(made, 50, measure=False), made)) == 1


def test_a_location_shows_what_was_written() -> None:
    assert locate(quote("azureml://datastores/x y/paths/z", safe=":/")).datastore == "x y"
    assert isinstance(locate("x"), Location)


# what is really submitted


def touched(pipeline: Pipeline) -> Iterator[tuple[str, str, str]]:
    """(compute, "inputs" or "outputs", address) for every address that a node of the submitted pipeline binds."""
    for call in pipeline.job["jobs"].values():
        component = pipeline.components[call["component"].removeprefix("azureml:")]
        for node in component["jobs"].values():
            for way in ("inputs", "outputs"):
                for bound in node.get(way, {}).values():
                    name = str(bound).removeprefix("${{parent." + way + ".").removesuffix("}}")
                    given = call[way].get(name)
                    address = given.get("path", "") if isinstance(given, dict) else ""
                    if address.startswith("azureml:"):
                        yield node["compute"].removeprefix("azureml:"), way, address


@pytest.mark.parametrize("min_silos", [None, 1])
def test_no_compute_is_given_an_address_of_another_silo(min_silos: int | None) -> None:
    """Read from the compiled pipeline alone: what its nodes bind, whatever the plan and the layout say."""
    made = federation()
    asked = job(LINEAR, Scaffold(lr=0.1), 3, min_silos=min_silos)
    terms = Terms(job=asked, federation=made, code="code", digest="0" * 64, limit=None, threads=1)
    pipeline = compile_pipeline(terms, Layout("run-1", asked.plan(made), made))
    seen = {(compute, way, locate(address).datastore) for compute, way, address in touched(pipeline)}
    assert seen == {
        ("a-cpu", "inputs", "a_store"),
        ("a-cpu", "outputs", "a_store"),
        ("a-cpu", "outputs", "hub_store"),
        ("b-cpu", "inputs", "b_store"),
        ("b-cpu", "outputs", "b_store"),
        ("b-cpu", "outputs", "hub_store"),
        ("hub", "outputs", "hub_store"),
    }
    private = [address for _, _, address in touched(pipeline) if "memory" in address and "hub_store" in address]
    assert private == []
