"""What federation_in makes of a workspace's computes and datastores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml.entities import ComputeInstance
from azure.core.exceptions import ResourceNotFoundError

from fl_kit.azureml.discover import federation_in
from fl_kit.azureml.preflight import check
from fl_kit.errors import FederationError
from fl_kit.silo import Federation, Orchestrator, Silo
from fl_kit.strategies import FedAvg
from sim.azureml import LocalWorkspace
from tests.fl_kit.azureml.fake_workspace import FakeClient, cluster, datastore, kubernetes, system_identity
from tests.tasks import LINEAR, job


def found(computes: list[str], stores: list[str]) -> dict[str, tuple[str, str]]:
    """Party → compute and datastore, as made out by names alone."""
    made = federation_in(FakeClient(computes=[*map(cluster, computes)], stores=[*map(datastore, stores)]))
    pairs = {silo.name: (silo.compute, silo.datastore) for silo in made.silos}
    hub = (made.orchestrator.compute, made.orchestrator.datastore)
    return pairs | ({"orchestrator": hub} if any(hub) else {})


def test_tags_say_it_all() -> None:
    there = FakeClient(
        computes=[
            cluster("c1", tags={"silo": "cleveland", "region": "ohio"}),
            kubernetes("c2", "gpu-small", tags={"silo": "long-beach"}, identity=system_identity()),
            cluster("c3", tags={"silo": "orchestrator"}),
        ],
        stores=[
            datastore("d1", tags={"silo": "long-beach", "data": "/heart/2024/"}),
            datastore("d2", tags={"silo": "orchestrator"}),
            datastore("d3", tags={"silo": "cleveland", "data": "heart:3"}),
        ],
    )
    assert federation_in(there) == Federation(
        silos=(
            Silo(name="cleveland", data="heart:3", compute="c1", datastore="d3", region="ohio"),
            Silo(
                name="long-beach",
                data="azureml://datastores/d1/paths/heart/2024/",
                compute="c2",
                datastore="d1",
                instance_type="gpu-small",
                identity="managed",
            ),
        ),
        orchestrator=Orchestrator(compute="c3", datastore="d2", region="westeurope"),
    )
    assert there.calls == ["compute.list", "datastores.list"]


@pytest.mark.parametrize(
    ("computes", "stores", "expected"),
    [
        (  # as fl-kit's own local workspace calls them
            ["a", "b", "orchestrator"],
            ["a_store", "b_store", "orchestrator_store"],
            {"a": ("a", "a_store"), "b": ("b", "b_store"), "orchestrator": ("orchestrator", "orchestrator_store")},
        ),
        (  # as Microsoft's samples do
            ["orchestrator-01", "silo0-01", "silo0-02", "silo1-01"],
            ["datastore_orchestrator", "datastore_silo0", "datastore_silo1", "workspaceblobstore"],
            {
                "orchestrator": ("orchestrator-01", "datastore_orchestrator"),
                "silo0": ("silo0-01", "datastore_silo0"),
                "silo1": ("silo1-01", "datastore_silo1"),
            },
        ),
        (
            ["hub-cpu", "Long-Beach-gpu-cluster", "cpu-cluster"],
            ["long_beach_storage", "hub", "archive"],
            {"long_beach": ("Long-Beach-gpu-cluster", "long_beach_storage"), "orchestrator": ("hub-cpu", "hub")},
        ),
    ],
)
def test_names_are_taken_apart(computes: list[str], stores: list[str], expected: dict[str, tuple[str, str]]) -> None:
    assert found(computes, stores) == expected


def test_a_tag_goes_before_a_name() -> None:
    """c1 is called like silo b and tagged as a's; a's store has no tag and another spelling."""
    there = FakeClient(
        computes=[cluster("a-b", tags=None), cluster("b", tags={"silo": "A-B"})], stores=[datastore("a_b_store")]
    )
    (silo,) = federation_in(there).silos
    assert (silo.name, silo.compute, silo.datastore) == ("A-B", "b", "a_b_store")


def test_several_instance_types_are_not_chosen_from() -> None:
    there = FakeClient(computes=[kubernetes("a-arc", "x", "y")], stores=[datastore("a_store")])
    assert federation_in(there).silos[0].instance_type == ""


def test_what_is_alone_or_no_party_is_left_out() -> None:
    there = FakeClient(
        computes=[cluster("a"), cluster("b"), cluster("global"), ComputeInstance(name="c")],
        stores=[datastore("a_store"), datastore("d_store"), datastore("global_store"), datastore("c_store")],
    )
    assert federation_in(there).names == ("a",)
    assert federation_in(there).orchestrator == Orchestrator()


def test_nobody_is_an_error_that_says_what_there_is() -> None:
    there = FakeClient(computes=[cluster("cpu-cluster"), cluster("a")], stores=[datastore("archive")])
    with pytest.raises(FederationError, match=r"no silo can .* computes: a, cpu-cluster; datastores: archive$"):
        federation_in(there)
    with pytest.raises(FederationError, match=r"computes: none; datastores: none$"):
        federation_in(FakeClient())
    hub = FakeClient(computes=[cluster("hub")], stores=[datastore("hub_store")])
    with pytest.raises(FederationError, match="no silo can be made out"):
        federation_in(hub)


def test_a_workspace_that_does_not_answer() -> None:
    there = FakeClient()

    def refuse(name: str | None = None) -> list[object]:
        raise ResourceNotFoundError("not found")

    there.datastores.list = refuse  # type: ignore[method-assign]
    with pytest.raises(FederationError, match=r"the workspace 'trial' .* cannot be read: not found"):
        federation_in(there)


def test_the_proposal_can_be_saved_and_checked(tmp_path: Path) -> None:
    stores = [datastore(f"{name}_store") for name in ("orchestrator", "a", "b")]
    there = FakeClient(computes=[cluster("orchestrator"), cluster("a"), cluster("b")], stores=stores)
    made = Federation.load(federation_in(there).save(tmp_path / "federation.yaml"))
    assert made == federation_in(there)
    assert check(job(LINEAR, FedAvg(lr=0.1), 1), made, there).findings == ()


def test_the_local_workspaces_own_federation_is_found(workspace: LocalWorkspace, client: Any) -> None:
    """Through the SDK's own client: what the workspace was made for, its regions aside."""
    made, expected = federation_in(client), workspace.federation
    assert expected is not None
    assert [replace(silo, region="") for silo in made.silos] == [*expected.silos]
    assert replace(made.orchestrator, region="") == expected.orchestrator
