"""Every finding of `check`, alone and all at once; and a workspace in which there is none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml.entities import ComputeInstance, Data, Environment
from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError, ServiceRequestError

from fl_kit.azureml import preflight
from fl_kit.azureml.discover import federation_in
from fl_kit.azureml.findings import Check, fault, together
from fl_kit.azureml.known_silos import silo_facts
from fl_kit.azureml.preflight import check
from fl_kit.errors import FederationError
from fl_kit.job import Job
from fl_kit.silo import Federation
from fl_kit.strategies import FedAvg, Scaffold
from sim.azureml import LocalWorkspace
from tests.fl_kit.azureml.fake_workspace import (
    FakeClient,
    asset,
    client,
    cluster,
    datastore,
    federation,
    kubernetes,
    place,
    system_identity,
)
from tests.tasks import LINEAR, job, random_rows, silos, write_task

MOUNTED = {"data": "/mnt/heart", "instance_type": "gpu-small", "compute": "arc"}


def a_job(rounds: int = 2, **settings: Any) -> Job:
    return job(LINEAR, FedAvg(lr=0.1), rounds, **settings)


def found(made: Federation, there: FakeClient, **settings: Any) -> list[tuple[str, str, str]]:
    """Level, party and text of every finding."""
    return [(each.level, each.party, each.what) for each in check(a_job(), made, there, **settings).findings]


def only(made: Federation, there: FakeClient) -> tuple[str, str, str]:
    """The single finding that there is."""
    (finding,) = found(made, there)
    return finding


def test_a_federation_that_is_ready() -> None:
    there = client()
    ready = check(job(LINEAR, Scaffold(lr=0.1), 5), federation(), there)
    assert ready.findings == ()
    assert ready
    assert ready.require() is ready
    assert there.calls == ["compute.list", "datastores.list"]
    assert repr(ready).splitlines()[0] == "Ready to submit: 0 errors, 0 warnings"
    assert "Looked at 3 computes and 4 datastores of 'trial', 2 silos, linear.py and its plan" in repr(ready)


def test_all_kinds_of_silo_are_ready_together() -> None:
    made = federation(
        place("a", data="heart:3", identity="managed", environment="azureml:clinic:1"),
        place("b", **MOUNTED, environment="cuda"),
        place(
            "c", data="azureml://subscriptions/S-1/resourcegroups/clinic/workspaces/Trial/datastores/c_store/paths/x"
        ),
        identity="managed",
    )
    there = client(
        computes=[
            cluster("hub", identity=system_identity()),
            cluster("A-CPU", identity=system_identity()),
            cluster("c-cpu"),
            kubernetes("arc", "gpu-small", "gpu-large"),
        ],
        stores=[datastore(f"{name}_store") for name in ("hub", "a", "b", "c")],
        assets=[asset("heart", "3", "azureml://datastores/a_store/paths/heart/")],
        registered=[Environment(name="clinic", version="1", image="clinic/torch")],
    )
    assert found(made, there) == []


# computes


def test_a_compute_that_is_not_there() -> None:
    there = client(computes=[cluster("hub"), cluster("a-cpu"), cluster("b-cpus")])
    assert only(federation(), there) == (
        "error",
        "b",
        "there is no compute 'b-cpu'; did you mean 'b-cpus'? Known: a-cpu, b-cpus, hub",
    )


def test_an_empty_workspace() -> None:
    whats = [what for _, _, what in found(federation(), client(computes=[], stores=[]))]
    assert "there is no compute 'hub'; the workspace has none" in whats
    assert "there is no datastore 'a_store'; the workspace has none" in whats
    assert len(whats) == 6


def test_a_compute_that_is_not_ready() -> None:
    failed = cluster("b-cpu", provisioning_state="Failed", provisioning_errors="QuotaExceeded")
    there = client(computes=[cluster("hub"), cluster("a-cpu"), failed])
    assert only(federation(), there)[1:] == (
        "b",
        "its compute 'b-cpu' is not ready, its state is Failed: QuotaExceeded",
    )


def test_somebodys_own_machine_is_no_place() -> None:
    there = client(computes=[cluster("hub"), cluster("a-cpu"), ComputeInstance(name="b-cpu")])
    assert only(federation(), there)[2].startswith("its compute 'b-cpu' is a computeinstance")


def test_serverless_is_no_place() -> None:
    made = federation(place("a"), place("b", compute="serverless"))
    assert only(made, client()) == ("error", "b", "its compute is serverless: machines of no party")


@pytest.mark.parametrize("field", ["compute", "datastore"])
def test_a_party_without_a_place(field: str) -> None:
    made = federation(place("a"), place("b", **{field: ""}))
    assert only(made, client()) == ("error", "b", f"it has no {field}")
    made = federation(**{field: ""})
    assert only(made, client()) == ("error", "orchestrator", f"it has no {field}")


def test_instance_types_are_for_kubernetes() -> None:
    made = federation(place("a"), place("b", instance_type="gpu"))
    assert only(made, client())[2] == "instance_type 'gpu' with 'b-cpu', an AmlCompute cluster"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("", "no instance_type with 'arc', a Kubernetes cluster; its default has 2 CPUs and 2 GiB"),
        ("gpu-smal", "there is no instance type 'gpu-smal' in 'arc'; did you mean 'gpu-small'?"),
    ],
)
def test_kubernetes_needs_an_instance_type(kind: str, words: str) -> None:
    made = federation(place("a"), place("b", compute="arc", instance_type=kind))
    there = client(computes=[cluster("hub"), cluster("a-cpu"), kubernetes("arc", "gpu-small")])
    assert only(made, there)[2].startswith(words)


def test_a_cluster_that_lists_no_types_is_believed() -> None:
    made = federation(place("a"), place("b", compute="arc", instance_type="gpu"))
    assert found(made, client(computes=[cluster("hub"), cluster("a-cpu"), kubernetes("arc")])) == []


def test_more_machines_than_the_cluster_has() -> None:
    made = federation(place("a"), place("b", instance_count=3))
    assert ("error", "b", "instance_count 3, and 'b-cpu' has 2 machines at most") in found(made, client())


OWN_FIT = "\n\ndef fit(model, data, context):\n    pass\n"


def test_several_processes_need_a_fit_of_the_tasks_own(tmp_path: Path) -> None:
    made = federation(place("a"), place("b", instance_count=2, processes=4))
    assert only(made, client()) == ("warning", "b", "2 × 4 processes train, and each would do the same work")
    task = write_task(tmp_path, LINEAR.read_text() + OWN_FIT)
    assert check(job(task, FedAvg(lr=0.1), 1), made, client()).findings == ()


def test_a_mounted_path_needs_kubernetes() -> None:
    made = federation(place("a"), place("b", data="/mnt/heart"))
    assert only(made, client())[2].startswith("its data are '/mnt/heart', a mounted path, and 'b-cpu' is no Kubernetes")


# identities


def test_an_identity_that_the_compute_has_not() -> None:
    assert only(federation(place("a"), place("b", identity="managed")), client())[1:] == (
        "b",
        "identity 'managed', and 'b-cpu' has none",
    )


def test_kubernetes_has_one_identity() -> None:
    client_id = "managed:0f8fad5b-d9cb-469f-a165-70867728950e"
    made = federation(place("a"), place("b", compute="arc", instance_type="x", identity=client_id))
    arc = kubernetes("arc", "x", identity=system_identity())
    assert only(made, client(computes=[cluster("hub"), cluster("a-cpu"), arc]))[2] == (
        f"identity {client_id!r} with 'arc': a Kubernetes cluster has only one"
    )


def test_one_kind_of_identity_in_a_job() -> None:
    there = client(computes=[cluster("hub"), cluster("a-cpu", identity=system_identity()), cluster("b-cpu")])
    made = federation(place("a", identity="managed"), place("b", identity="user"))
    assert only(made, there)[1:] == ("federation", "b read as the user, a as a managed identity")


def test_an_identity_that_is_none() -> None:
    assert "identity 'manged' is not known; did you mean 'managed'" in only(federation(identity="manged"), client())[2]


# who shares what


@pytest.mark.parametrize("field", ["compute", "datastore"])
def test_two_silos_that_share(field: str) -> None:
    shared = "a-cpu" if field == "compute" else "a_store"
    findings = found(federation(place("a"), place("b", **{field: shared.upper()}, data="/mnt/x")), client())
    assert ("error", "a, b", f"both use the {field} {shared!r}: one could read what is the other's") in findings


@pytest.mark.parametrize("field", ["compute", "datastore"])
def test_an_orchestrator_that_shares_with_a_silo(field: str) -> None:
    shared = "a-cpu" if field == "compute" else "a_store"
    findings = found(federation(**{field: shared}), client())
    assert any(party == "orchestrator, a" and f"both use the {field}" in what for _, party, what in findings)


def test_two_datastores_of_one_container() -> None:
    """Different names, the same place: b's private outputs would lie where a reads."""
    stores = [datastore("hub_store"), datastore("a_store", container="box"), datastore("b_store", container="BOX")]
    findings = found(federation(), client(stores=stores))
    assert ("error", "a, b", "their datastores are one container, 'box' of the account 'acc'") in findings


def test_two_computes_of_one_cluster() -> None:
    made = federation(place("a", compute="k1", instance_type="x"), place("b", compute="k2", instance_type="x"))
    computes = [cluster("hub"), kubernetes("k1", resource_id="/C/one"), kubernetes("k2", resource_id="/c/one")]
    assert only(made, client(computes=computes))[1:] == (
        "a, b",
        "their computes are one cluster and one namespace, 'default'",
    )
    computes[2] = kubernetes("k2", resource_id="/c/one", namespace="b")
    level, _, what = only(made, client(computes=computes))
    assert (level, what) == ("warning", "their computes are one cluster, in the namespaces 'default' and 'b'")


# data


def test_a_datastore_that_is_not_there() -> None:
    there = client(stores=[datastore("hub_store"), datastore("a_store")])
    assert only(federation(), there) == (
        "error",
        "b",
        "there is no datastore 'b_store'; did you mean 'hub_store'? Known: a_store, hub_store",
    )


@pytest.mark.parametrize("name", ["nowhere", "b/store", "..", "b_store?"])
@pytest.mark.parametrize("whose", ["b", "orchestrator"])
def test_a_datastore_that_is_not_there_is_one_finding_however_many_rounds(name: str, whose: str) -> None:
    made = federation(place("a"), place("b", datastore=name)) if whose == "b" else federation(datastore=name)
    (finding,) = check(job(LINEAR, Scaffold(lr=0.1), 5), made, client()).findings
    assert (finding.level, finding.party) == ("error", whose)
    malformed = f"{name!r} is no name of a datastore"
    assert finding.what.startswith(f"there is no datastore {name!r}" if name == "nowhere" else malformed)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_other_breaches_show_beside_a_missing_datastore(name: str) -> None:
    made = federation(place("a", datastore=name), place("b", data="azureml://datastores/hub_store/paths/x/"))
    whats = [(party, what.partition(",")[0]) for _, party, what in found(made, client())]
    assert ("b", "its data lie in hub_store") in whats
    assert len(whats) == 2


def test_data_in_a_datastore_that_is_not_there() -> None:
    made = federation(place("a"), place("b", data="azureml://datastores/archive/paths/x/"))
    assert found(made, client()) == [
        ("error", "b", "there is no datastore 'archive'; known: a_store, b_store, hub_store, workspaceblobstore"),
        ("warning", "b", "its data lie in archive, the datastore of no party: who else reads there cannot be told"),
    ]


@pytest.mark.parametrize("name", ["heart:4", "azureml:heart:4", "other@latest"])
def test_an_asset_that_is_not_there(name: str) -> None:
    there = client(assets=[asset("heart", "3", "azureml://datastores/b_store/paths/x/")])
    whats = [what for _, _, what in found(federation(place("a"), place("b", data=name)), there)]
    assert f"there is no data asset {name!r} in the workspace" in whats


def test_an_asset_must_be_a_folder_and_is_asked_for_once() -> None:
    table = Data(name="heart", version="3", path="azureml://datastores/b_store/paths/x.csv", type="uri_file")
    there = client(assets=[table])
    result = check(a_job(20), federation(place("a"), place("b", data="heart:3")), there)
    assert [finding.what for finding in result.findings] == [
        "the data asset 'heart:3' is a uri_file; a task reads a folder"
    ]
    assert there.calls == ["compute.list", "datastores.list", "data.get"]


OTHERS = [
    "azureml://datastores/a_store/paths/heart/",
    "azureml://subscriptions/s-1/resourcegroups/clinic/workspaces/trial/datastores/a_store/paths/heart/",
    "https://acc.blob.core.windows.net/a-store/heart/",
    "wasbs://a-store@acc.blob.core.windows.net/heart/",
    "azureml://datastores/alias/paths/heart/",
]
"""Five addresses of silo a's container; in the samples of Microsoft only the first is refused."""


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("as_asset", [False, True])
def test_another_silos_data_are_refused_by_any_address(path: str, as_asset: bool) -> None:
    made = federation(place("a"), place("b", data="heart@latest" if as_asset else path))
    stores = [*client().stores, datastore("alias", container="a-store")]
    there = client(stores=stores, assets=[asset("heart", "1", path)])
    assert only(made, there) == ("error", "b", "its data lie in a_store, the datastore of a")


def test_a_datastore_of_another_workspace_is_refused() -> None:
    path = "azureml://subscriptions/s-1/resourcegroups/clinic/workspaces/other/datastores/b_store/paths/x/"
    assert "of which cannot be told where it leads" in only(federation(place("a"), place("b", data=path)), client())[2]


def test_a_local_folder_is_no_data_there() -> None:
    what = only(federation(place("a"), place("b", data="data/heart")), client())[2]
    assert what == "its data are 'data/heart', a folder of this machine"


# environments


def test_what_the_environment_lacks(tmp_path: Path) -> None:
    source = LINEAR.read_text() + "\n\ndef late():\n    import my_helper\n"
    line = source.splitlines().index("    import my_helper") + 1
    result = check(job(write_task(tmp_path, source, "mine"), FedAvg(lr=0.1), 1), federation(), client())
    (finding,) = result.findings
    assert finding.party == "orchestrator, a, b"
    assert finding.what == f"mine.py, line {line} imports 'my_helper', which its environment lacks"
    assert finding.level == "error"


def test_environments_and_packages_that_will_not_do() -> None:
    made = federation(
        place("a", environment="gpu"), place("b", environment="azureml:clinic:2", packages=("x==1",)), packages=("y",)
    )
    findings = found(made, client(registered=[Environment(name="clinic", version="1", image="clinic/torch")]))
    assert [(level, party) for level, party, _ in findings] == [
        ("error", "a"),
        ("error", "b"),
        ("warning", "orchestrator"),
        ("warning", "b"),
    ]
    whats = [what for _, _, what in findings]
    assert whats[0].startswith("environment 'gpu' is not known")
    assert whats[1] == "there is no environment 'clinic:2' in the workspace"
    assert whats[2] == "the package 'y' has no exact version"
    assert whats[3].startswith("its packages are not installed into 'azureml:clinic:2'")


# sizes


def test_too_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 silos: 3 steps a round, 3 more at the end, and one at the start: 5 rounds are 19 steps."""
    monkeypatch.setattr(preflight, "STEPS", 12)
    (finding,) = check(a_job(5), federation(), client()).findings
    assert finding.what == "19 steps in one pipeline; AzureML takes 12"
    assert finding.cure.endswith("rounds_per_pipeline=2)")
    assert check(a_job(5), federation(), client(), rounds_per_pipeline=2).findings == ()


def many(count: int) -> tuple[Federation, FakeClient]:
    names = [f"s{i:03d}" for i in range(count)]
    computes = [cluster("hub"), *(cluster(f"{name}-cpu") for name in names)]
    stores = [datastore("hub_store"), *(datastore(f"{name}_store") for name in names)]
    return federation(*map(place, names)), client(computes=computes, stores=stores)


@pytest.mark.parametrize(("silos", "fits"), [(198, True), (199, False)])
def test_too_many_inputs(silos: int, fits: bool) -> None:
    """An aggregate step reads the state and one update of each silo: 199 and 200 inputs."""
    made, there = many(silos)
    errors = check(a_job(), made, there).errors
    if fits:
        assert errors == ()
    else:
        assert errors[0].what.endswith("aggregate has 200 inputs; AzureML takes fewer than 200")


def test_metric_names() -> None:
    """5 names (4 metrics, and whether it was left out) for 8 silos and the federation, and one more: 46; for 9: 51."""
    assert found(*many(8)) == []
    made, there = many(9)
    (finding,) = check(a_job(), made, there).findings
    assert (finding.level, finding.party) == ("warning", "job")
    assert finding.what == "51 names of metrics on the pipeline's run; AzureML takes 50"
    assert finding.cure == "nothing to do: each silo's figures go to one child run of its own, named like the silo"


NAMED = """

class Named(MeanSquaredError):
    def __init__(self, name):
        object.__setattr__(self, "own", name)

    @property
    def name(self):
        return self.own


metrics = [Named(f"m{i}") for i in range(47)]
"""


def test_too_many_metrics(tmp_path: Path) -> None:
    task = write_task(tmp_path, LINEAR.read_text() + NAMED)
    (finding,) = check(job(task, FedAvg(lr=0.1), 1), federation(), client()).findings
    assert finding.what == "the task has 47 metrics; AzureML takes fewer than 50 names"
    assert finding.level == "error"


def test_a_bundle_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "BUNDLE_FILES", 10)
    (finding,) = check(a_job(), federation(), client()).findings
    assert finding.what.startswith("the bundle has ")


def test_more_silos_needed_than_there_are() -> None:
    (finding,) = check(a_job(min_silos=3), federation(), client()).findings
    assert "min_silos=3" in finding.what


# a workspace that does not answer


@pytest.mark.parametrize(
    "error",
    [
        ResourceNotFoundError("The Resource 'trial' under resource group 'clinic' was not found.\nmore"),
        ClientAuthenticationError("AADSTS70043: the token has expired"),
        ServiceRequestError("no such host"),
    ],
)
def test_a_workspace_that_does_not_answer_is_a_finding(error: Exception) -> None:
    there = client()

    def refuse(name: str | None = None) -> list[Any]:
        raise error

    there.compute.list = refuse  # type: ignore[method-assign]
    result = check(a_job(), federation(place("a"), place("b", data="data/x")), there)
    assert [finding.party for finding in result.errors] == ["workspace", "b"]
    first = result.errors[0].what
    assert first.startswith("the workspace 'trial' (resource group 'clinic', subscription 's-1') cannot be read: ")
    assert str(error).splitlines()[0] in first
    assert "no workspace" in result.looked_at


# how it shows


def test_everything_at_once() -> None:
    made = federation(
        place("a", compute="gone", instance_type="x"),
        place("b", data="azureml://datastores/a_store/paths/x", packages=("torch",)),
        datastore="nowhere",
    )
    result = check(a_job(), made, client())
    assert not result
    assert [(f.level, f.party) for f in result.findings] == [
        ("error", "a"),
        ("error", "orchestrator"),
        ("error", "b"),
        ("warning", "b"),
    ]
    text = repr(result)
    assert text.splitlines()[0] == "Not ready to submit: 3 errors, 1 warning"
    assert all(finding.cure in text for finding in result.findings)
    with pytest.raises(FederationError) as caught:
        result.require()
    assert all(finding.what in str(caught.value) and finding.cure in str(caught.value) for finding in result.errors)
    assert "torch" not in str(caught.value)
    assert "<td" in result._repr_html_()


def test_what_many_have_in_common_is_one_row() -> None:
    findings = [replace(fault("", "no x", "mend x"), party=f"s{i}") for i in range(7)]
    (row,) = together([*findings, *findings])
    assert row.party == "7 parties, s0 first"
    assert Check(findings=together(findings[:4])).findings[0].party == "s0, s1, s2, s3"


# the local workspace, through the SDK's own client


def test_what_the_local_workspace_was_made_for_is_ready(workspace: LocalWorkspace, client: Any) -> None:
    assert workspace.federation is not None
    assert check(a_job(), workspace.federation, client).findings == ()


def test_managed_identities_and_kubernetes_are_there_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = silos(tmp_path / "data", a=random_rows(3, 4, seed=1), b=random_rows(3, 4, seed=2)).silos
    made = Federation(
        silos=(
            replace(rows[0], identity="managed"),
            replace(rows[1], identity="managed", compute="arc", instance_type="gpu-small"),
        )
    )
    monkeypatch.chdir(tmp_path)
    with LocalWorkspace.for_federation(made, tmp_path / "workspace") as there:
        assert there.federation is not None
        assert check(a_job(), there.federation, there.client()).findings == ()
        proposed = federation_in(there.client())
    assert [(silo.identity, silo.instance_type) for silo in proposed.silos] == [
        ("managed", ""),
        ("managed", "gpu-small"),
    ]


def test_what_it_has_not_is_found(workspace: LocalWorkspace, client: Any) -> None:
    """An asset and an environment that are there, and some that are not; an asset of the other silo's rows."""
    made = workspace.federation
    assert made is not None
    stolen = Data(name="stolen", version="1", type="uri_folder", path=made["a"].data)
    client.data.create_or_update(stolen)
    client.environments.create_or_update(Environment(name="clinic", version="1", image="clinic/torch"))
    silos = (
        replace(made["a"], data="azureml:none:1", environment="azureml:clinic:1"),
        replace(made["b"], data="stolen@latest", compute="gone", environment="azureml:clinic@latest"),
    )
    hub = replace(made.orchestrator, environment="azureml:other:1")
    assert found(replace(made, silos=silos, orchestrator=hub), client) == [
        ("error", "b", "there is no compute 'gone'; known: a, b, orchestrator"),
        ("error", "a", "there is no data asset 'azureml:none:1' in the workspace"),
        ("error", "orchestrator", "there is no environment 'other:1' in the workspace"),
        ("error", "a", "its data are 'azureml:none:1', of which cannot be told where it leads"),
        ("error", "b", "its data lie in a_store, the datastore of a"),
    ]


def test_a_workspace_of_another_name(workspace: LocalWorkspace, client: Any) -> None:
    from azure.ai.ml import MLClient

    there = MLClient(client._credential, client.subscription_id, client.resource_group_name, "nowhere")
    result = check(a_job(), federation(), there)
    assert [finding.party for finding in result.errors] == ["workspace"]
    assert "the workspace 'nowhere' (resource group 'fl-kit'" in result.errors[0].what


# silo_facts: the same knowledge, for choosing silos


def test_who_can_take_part_is_known_before_anybody_is_chosen() -> None:
    failed = cluster("b-cpu", provisioning_state="Failed", provisioning_errors="QuotaExceeded")
    there = client(computes=[cluster("hub"), cluster("a-cpu"), failed])
    facts = silo_facts(federation(place("a", tags={"rows": "40"}), place("b")), there)
    assert (facts["a"].status, facts["a"].reason, facts["a"].rows) == ("ready", "", 40)
    assert facts["b"].reason == "its compute 'b-cpu' is not ready, its state is Failed: QuotaExceeded"


def test_a_datastore_that_is_not_there_is_the_reason() -> None:
    there = client(stores=[datastore("hub_store"), datastore("a_store")])
    facts = silo_facts(federation(), there)
    assert not facts["a"].reason
    assert facts["b"].reason.startswith("there is no datastore 'b_store'")
