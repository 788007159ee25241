"""Silos and federations: names that work everywhere, and one message for all that is wrong."""

import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_kit.errors import FederationError
from fl_kit.silo import Federation, Orchestrator, Silo

text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
silo_name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True).filter(
    lambda name: name.lower() not in ("global", "orchestrator", "state")
)
count = st.integers(1, 64)
texts = st.dictionaries(text, text, max_size=2)
party = dict.fromkeys(["compute", "datastore", "region", "instance_type"], text) | {
    "identity": st.sampled_from(["", "managed", "user", "managed:0f8fad5b-d9cb-469f-a165-70867728950e"]),
    "environment": st.sampled_from(["", "cpu", "cuda", "ghcr.io/clinic/torch:2.6", "azureml:clinic@latest"]),
    "packages": st.lists(text, max_size=2).map(tuple),
    "variables": texts,
}
silo = st.builds(Silo, name=silo_name, data=text, instance_count=count, processes=count, tags=texts, **party)
orchestrator = st.builds(Orchestrator, **party)
federations = st.builds(
    lambda silos, chosen: Federation(silos=tuple(silos), orchestrator=chosen),
    st.lists(silo, min_size=1, max_size=4, unique_by=lambda found: found.name.lower()),
    orchestrator,
)


def named(*names: str) -> Federation:
    return Federation(silos=tuple(Silo(name=name, data=f"data/{name}") for name in names))


@pytest.mark.parametrize("name", ["a", "A", "7", "long_beach-2", "x" * 63])
def test_names_that_work_on_every_system(name: str) -> None:
    assert Silo(name=name, data="d").name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "a b",
        "a/b",
        "a\\b",
        "..",
        ".hidden",
        "-a",
        "_a",
        "a:b",
        "ä",
        "x" * 64,
        "a\n",
        "a.b",
        None,
        3.5,
        7,
        False,
    ],
)
def test_other_names_are_refused(name: Any) -> None:
    with pytest.raises(FederationError, match=r"silo name .* will not do"):
        Silo(name=name, data="d")


@pytest.mark.parametrize("name", ["global", "orchestrator", "state", "Global", "STATE"])
def test_fl_kits_own_names_are_refused(name: str) -> None:
    with pytest.raises(FederationError, match=f"silo name '{name}' is fl-kit's own"):
        Silo(name=name, data="d")


def test_a_path_is_taken_as_text() -> None:
    assert Silo(name="a", data=Path("x") / "y").data == str(Path("x") / "y")  # type: ignore[arg-type]


def test_silos_are_sorted_however_they_are_listed() -> None:
    assert named("c", "a", "b") == named("a", "b", "c")
    assert named("c", "a", "b").names == ("a", "b", "c")


@pytest.mark.parametrize("names", [("a", "a"), ("Cleveland", "cleveland"), ("x", "b", "X")])
def test_two_silos_of_one_name_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(FederationError, match="names must differ in more than case; rename one") as caught:
        named(*names)
    assert all(repr(name) in str(caught.value) for name in names if name != "b")


def test_a_federation_of_nobody_is_refused() -> None:
    with pytest.raises(FederationError, match="at least one silo"):
        Federation(silos=())


# select


def test_select_keeps_the_rest() -> None:
    whole = Federation(silos=named("a", "b", "c").silos, orchestrator=Orchestrator(compute="cpu"))
    chosen = whole.select(["c", "a", "c"])
    assert chosen.names == ("a", "c")
    assert chosen.orchestrator.compute == "cpu"
    assert whole.names == ("a", "b", "c")


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(FederationError, match="no silo 'clevland'; did you mean 'cleveland'"):
        named("cleveland", "hungary").select(["hungary", "clevland"])


def test_a_name_near_to_nothing_gets_the_list() -> None:
    with pytest.raises(FederationError, match="no silo 'zzz'; known: cleveland, hungary"):
        named("cleveland", "hungary")["zzz"]


def test_many_names_are_cut_short() -> None:
    with pytest.raises(FederationError, match=r"known: .* …$"):
        named(*(f"silo-{i:02d}" for i in range(40)))["zzz"]


def test_one_name_in_place_of_a_list() -> None:
    with pytest.raises(FederationError, match=r"write \['hungary'\]"):
        named("cleveland", "hungary").select("hungary")


def test_selecting_nobody_is_refused() -> None:
    with pytest.raises(FederationError, match="at least one silo"):
        named("a").select([])


def regions() -> Federation:
    where = {"boston": "us-east", "dallas": "us-south", "lyon": "europe"}
    return Federation(silos=tuple(Silo(name=name, data="", region=region) for name, region in where.items()))


@pytest.mark.parametrize(
    ("names", "region", "left"),
    [
        (["d*", "lyon"], None, ("dallas", "lyon")),
        (None, "us-*", ("boston", "dallas")),
        (["*o*"], "us-*", ("boston",)),
        (None, None, ("boston", "dallas", "lyon")),
    ],
)
def test_silos_are_chosen_by_pattern_and_region(
    names: list[str] | None, region: str | None, left: tuple[str, ...]
) -> None:
    assert regions().select(names, region=region).names == left


def test_a_pattern_or_region_that_means_nobody_is_refused() -> None:
    with pytest.raises(FederationError, match=r"there is no silo 'x\*'"):
        regions().select(["x*"])
    with pytest.raises(FederationError, match="there is no region 'eurpe'; did you mean 'europe'"):
        regions().select(region="eurpe")
    with pytest.raises(FederationError, match="leaves no silo"):
        regions().select(["lyon"], region="us-*")


# check


def test_check_lists_every_fault(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "train.csv").write_text("x\n", encoding="utf-8")
    places = {
        "empty": tmp_path / "empty",
        "file": tmp_path / "file",
        "good": tmp_path / "good",
        "gone": tmp_path / "gone",
        "unset": "",
        "remote": "azureml://datastores/x",
    }
    federation = Federation(silos=tuple(Silo(name=name, data=str(place)) for name, place in places.items()))
    with pytest.raises(FederationError) as caught:
        federation.check()
    message = str(caught.value)
    assert f"empty: the folder {tmp_path / 'empty'} is empty" in message
    assert "unset: no data folder is given" in message
    assert f"gone: there is no folder {tmp_path / 'gone'}" in message
    assert f"file: there is no folder {tmp_path / 'file'}" in message
    assert "remote: azureml://datastores/x is not a local folder" in message
    assert "good:" not in message
    assert federation.select(["good"]).check().names == ("good",)


# federation.yaml


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(federation=federations)
def test_yaml_there_and_back(tmp_path: Path, federation: Federation) -> None:
    path = federation.save(tmp_path / "federation.yaml")
    assert Federation.load(path) == federation
    assert Federation.from_dict(federation.to_dict()) == federation


def test_the_file_is_for_people(tmp_path: Path) -> None:
    """Written out by hand; fields that are empty are left out."""
    path = tmp_path / "federation.yaml"
    path.write_text(
        "orchestrator: {compute: cpu}\nsilos:\n- name: zürich\n".replace("ü", "ue") + "  data: data/z\n"
        "  region: switzerlandnorth\n"
        "- {name: basel, data: data/b, tags: {beds: '800'}}\n",
        encoding="utf-8",
    )
    found = Federation.load(path)
    assert found == Federation(
        silos=(
            Silo(name="zuerich", data="data/z", region="switzerlandnorth"),
            Silo(name="basel", data="data/b", tags={"beds": "800"}),
        ),
        orchestrator=Orchestrator(compute="cpu"),
    )
    assert "identity" not in found.save(path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no list called `silos`"),
        ("- a\n- b\n", "no list called `silos`"),
        ("silos: 3", "no list called `silos`"),
        ("silos: {a: 1}", "no list called `silos`"),
        ("silos: []", "at least one silo"),
        ("silos: [3]", "silo 1: expected fields"),
        ("silos: [{name: 7, data: d}]", "name is 7, expected text: put it into quotes"),
        ("silos: [{name: a, data: d, region: NO}]", "region is False, expected text: put it into quotes"),
        ("silos: [{name: a, data: d, tags: [x]}]", "tags is"),
        ("silos: [{name: a, data: d}, {data: e}]", "silo 2: .*name"),
        ("silos: [{name: a, data: d, compte: cpu}]", "silo 1: unknown field 'compte'; did you mean 'compute'"),
        ("silos: [{name: a, data: d, 7: cpu}]", "silo 1: unknown field"),
        ("silos: [{name: a, data: d}]\norchestrator: 3", "orchestrator: expected fields"),
        ("silos: [{name: a, data: d}]\norchestrator: {name: x}", "orchestrator: unknown field 'name'"),
        ("silos: [{name: a b, data: d}]", "silo name 'a b' will not do"),
        ("silos: [{name: a, data: d}, {name: A, data: d}]", "names must differ"),
        ("silos: [", "is not YAML"),
        ("silos: !!python/object/apply:os.system ['true']", "line 1 is not YAML that fl-kit reads: the tag"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_wrong_file_is_a_federation_error(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "federation.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FederationError, match=words):
        Federation.load(path)


def test_a_file_that_is_missing_or_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(FederationError, match="cannot be read"):
        Federation.load(tmp_path / "nowhere.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"silos: [{name: a, data: d\xfc}]")
    with pytest.raises(FederationError, match="is not YAML"):
        Federation.load(tmp_path / "latin.yaml")


LINES = """\
orchestrator:
  compute: hub
  idenity: managed
silos:
- name: basel
  data: data/b
  instance_count: "2"
  variables: {PROXY: 8080}
- name: bern
  region: NO
- {name: Basel, data: x, packages: torch==2.6.0}
- data: [x]
  processes: true
- name: ulm
  data: u
  instance_count: 0
-
"""


def test_every_fault_has_its_line(tmp_path: Path) -> None:
    """The lines are counted by hand in LINES."""
    path = tmp_path / "federation.yaml"
    path.write_text(LINES, encoding="utf-8")
    with pytest.raises(FederationError) as caught:
        Federation.load(path)
    faults = [line.removeprefix(f"{path}, ") for line in str(caught.value).splitlines()]
    assert sorted(faults) == sorted(
        [
            "line 3, orchestrator: unknown field 'idenity'; did you mean 'identity'? Known: compute, datastore, "
            "environment, identity, instance_type, packages, region, variables",
            "line 7, silo 1: instance_count is '2', expected a whole number",
            "line 8, silo 1: variables is {'PROXY': 8080}, expected fields with text: put each value into quotes",
            "line 9, silo 2: data is missing",
            "line 10, silo 2: region is False, expected text: put it into quotes",
            "line 11, silo 3: packages is 'torch==2.6.0', expected a list of texts",
            "line 12, silo 4: name is missing",
            "line 12, silo 4: data is ['x'], expected text: put it into quotes",
            "line 13, silo 4: processes is True, expected a whole number",
            "line 14, silo 5: silo 'ulm': instance_count is 0; it must be a whole number from 1 on",
            "line 17, silo 6: expected fields such as "
            "['compute', 'data', 'datastore', 'environment', 'identity', 'instance_count', 'instance_type', 'name', "
            "'packages', 'processes', 'region', 'tags', 'variables'], found None",
        ]
    )


def test_an_identity_and_an_environment_that_will_not_do_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "federation.yaml"
    path.write_text(
        "orchestrator:\n  environment: gpu\nsilos:\n- name: basel\n  data: b\n  identity: manged\n"
        "- {name: bern, data: c, environment: ghcr.io/clinic/torch:2.6, identity: user}\n",
        encoding="utf-8",
    )
    with pytest.raises(FederationError) as caught:
        Federation.load(path)
    faults = [line.removeprefix(f"{path}, ") for line in str(caught.value).splitlines()]
    assert [fault.partition(" is not known")[0] for fault in faults] == [
        "line 2, orchestrator: environment 'gpu'",
        "line 6, silo 1: identity 'manged'",
    ]


def test_a_name_that_is_taken_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "federation.yaml"
    path.write_text("silos:\n- {name: basel, data: b}\n- data: c\n  name: Basel\n", encoding="utf-8")
    with pytest.raises(FederationError, match=r"line 4, silo 2: there is a silo 'Basel' before: names must differ"):
        Federation.load(path)


def bomb(first: str, later: str) -> str:
    """Nine aliases of nine aliases of …: 9**7 parts in a few lines."""
    names = "abcdefgh"
    lines = [f"{c}: &{c} {later.format(', '.join([f'*{b}'] * 9))}" for b, c in pairwise(names)]
    return "\n".join([f"a: &a {first}", *lines])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("silos:\n- name: a\n  data: d\n  data: e\n", "line 4: 'data' was said before, on line 3"),
        ("silos: [{name: a, data: d}]\n\norchestartor: {}\n", "line 3: unknown field 'orchestartor'; did you mean"),
        ("silos: [{name: a, data: d}]\nsilos: [{name: b, data: d}]\n", "line 2: 'silos' was said before, on line 1"),
        ("silos: [{name: a, data: 2026-13-77}]", "is not YAML"),
        ("silos: [{name: a, data: &x [*x]}]", "line 1: what stands there refers to itself"),
        ("silos: [{name: a, data: !!str 7}]\nx: " + "1:" * 40 + "1", "line 2: '1:1:.*is nothing that fl-kit reads"),
        ("silos: [{name: !!bool x, data: d}]", "line 1: 'x' with the tag .*is nothing that fl-kit reads"),
        (bomb("[x]", "[{}]"), "means more than 100,000 parts, by its aliases"),
        (bomb("{k: v}", "{{<<: [{}]}}"), "means more than 100,000 parts, by its aliases"),
        ("silos: " + "[" * 5000, "nested deeper than 32 levels"),
        ("silos: []\n" + "#" * (1 << 20), "larger than"),
        ("silos: [{name: a, data: d, ? [k] : v}]", "is not YAML"),
    ],
)
def test_what_yaml_lets_pass(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "federation.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FederationError, match=words):
        Federation.load(path)


def test_what_silos_share_is_written_once(tmp_path: Path) -> None:
    """An anchor and `<<`, as YAML has them; a silo's own field goes before."""
    path = tmp_path / "federation.yaml"
    path.write_text(
        "silos:\n- &first {name: a, data: d, identity: managed, region: north}\n"
        "- {<<: *first, name: b, data: e, region: south}\n",
        encoding="utf-8",
    )
    assert Federation.load(path) == Federation(
        silos=(
            Silo(name="a", data="d", identity="managed", region="north"),
            Silo(name="b", data="e", identity="managed", region="south"),
        )
    )


def test_the_docstrings_example_is_a_federation(tmp_path: Path) -> None:
    lines = inspect.getdoc(Federation.save).split("\n\n")[1]  # type: ignore[union-attr]
    path = tmp_path / "federation.yaml"
    path.write_text(inspect.cleandoc(lines), encoding="utf-8")
    found = Federation.load(path)
    assert found.names == ("cleveland", "zurich")
    assert found["zurich"].instance_type == "gpu-small"
    assert found.orchestrator == Orchestrator(compute="hub", datastore="hub_store")


# places


@pytest.mark.parametrize("count", ["instance_count", "processes"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "2", True, None])
def test_counts_are_whole_numbers_from_one_on(count: str, value: Any) -> None:
    with pytest.raises(FederationError, match=f"silo 'a': {count} is {value!r}; it must be a whole number"):
        Silo(name="a", data="d", **{count: value})


def test_what_is_as_by_default_is_not_written() -> None:
    lean = Federation(silos=(Silo(name="a", data="d"),))
    assert lean.to_dict() == {"orchestrator": {}, "silos": [{"name": "a", "data": "d"}]}
    full = Silo(name="a", data="d", instance_count=2, processes=4, packages=("x==1",), variables={"A": "1"})
    expected = {"name": "a", "data": "d", "packages": ["x==1"], "variables": {"A": "1"}}
    expected |= {"instance_count": 2, "processes": 4}
    found = Federation(silos=(full,), orchestrator=Orchestrator(environment="cuda")).to_dict()
    assert found == {"orchestrator": {"environment": "cuda"}, "silos": [expected]}
    assert list(found["silos"][0])[:2] == ["name", "data"]


# what it shows


def test_it_shows_only_the_columns_that_say_something() -> None:
    federation = Federation(silos=(Silo(name="a", data="x", region="north"), Silo(name="b", data="y")))
    assert list(federation.table().columns) == ["silo", "region", "data"]
    assert repr(federation).splitlines()[0] == "Federation of 2 silos"
    assert "<td" in federation._repr_html_()
