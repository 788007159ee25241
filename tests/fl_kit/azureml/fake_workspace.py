"""A client of a workspace that exists only in a test: the SDK's own objects, handed out by stubs of its operations."""

from dataclasses import dataclass, field
from typing import Any

from azure.ai.ml.entities import (
    AmlCompute,
    AzureBlobDatastore,
    Data,
    Environment,
    IdentityConfiguration,
    KubernetesCompute,
    NoneCredentialConfiguration,
)
from azure.core.exceptions import ResourceNotFoundError

from fl_kit.silo import Federation, Orchestrator, Silo


def cluster(name: str, **settings: Any) -> AmlCompute:
    """An AmlCompute cluster as the service gives it."""
    settings = {"max_instances": 2, "provisioning_state": "Succeeded", "location": "westeurope", **settings}
    return AmlCompute(name=name, **settings)


def kubernetes(name: str, *types: str, namespace: str = "default", **settings: Any) -> KubernetesCompute:
    """A Kubernetes cluster with these instance types."""
    settings = {"provisioning_state": "Succeeded", "resource_id": f"/clusters/{name}", **settings}
    properties = {"instanceTypes": {kind: {} for kind in types}}
    return KubernetesCompute(name=name, namespace=namespace, properties=properties, **settings)


def datastore(name: str, *, account: str = "acc", container: str = "", **settings: Any) -> AzureBlobDatastore:
    return AzureBlobDatastore(
        name=name,
        account_name=account,
        container_name=container or name.replace("_", "-"),
        credentials=NoneCredentialConfiguration(),
        endpoint="core.windows.net",
        **settings,
    )


def system_identity() -> IdentityConfiguration:
    return IdentityConfiguration(type="system_assigned")


def asset(name: str, version: str, path: str) -> Data:
    return Data(name=name, version=version, path=path, type="uri_folder")


class Listed:
    """Operations that list and get."""

    def __init__(self, things: list[Any], calls: list[str], kind: str) -> None:
        self.things, self.calls, self.kind = things, calls, kind

    def list(self, name: str | None = None) -> list[Any]:
        self.calls.append(f"{self.kind}.list")
        return [thing for thing in self.things if name is None or thing.name == name]

    def get(self, name: str, version: str | None = None, label: str | None = None) -> Any:
        self.calls.append(f"{self.kind}.get")
        versions = [thing for thing in self.things if thing.name == name and version in (None, thing.version)]
        if not versions or label not in (None, "latest"):
            raise ResourceNotFoundError(f"{self.kind} {name} was not found")
        return versions[-1]


@dataclass
class FakeClient:
    """What `check` and `federation_in` use of an MLClient; `calls` says what they asked."""

    computes: list[Any] = field(default_factory=list)
    stores: list[Any] = field(default_factory=list)
    assets: list[Data] = field(default_factory=list)
    registered: list[Environment] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    subscription_id: str = "s-1"
    resource_group_name: str = "clinic"
    workspace_name: str = "trial"

    def __post_init__(self) -> None:
        self.compute = Listed(self.computes, self.calls, "compute")
        self.datastores = Listed(self.stores, self.calls, "datastores")
        self.data = Listed(self.assets, self.calls, "data")
        self.environments = Listed(self.registered, self.calls, "environments")


def place(name: str, **settings: Any) -> Silo:
    """A silo on `<name>-cpu` with `<name>_store`."""
    settings = {"data": f"azureml://datastores/{name}_store/paths/data/", **settings}
    return Silo(name=name, **{"compute": f"{name}-cpu", "datastore": f"{name}_store", **settings})


def federation(*silos: Silo, **orchestrator: Any) -> Federation:
    """Silos a and b unless others are given, and an orchestrator on `hub`."""
    chosen = silos or (place("a"), place("b"))
    return Federation(
        silos=chosen, orchestrator=Orchestrator(**{"compute": "hub", "datastore": "hub_store", **orchestrator})
    )


def client(**things: list[Any]) -> FakeClient:
    """A workspace with what `federation()` needs; lists of the same names replace the usual ones."""
    usual: dict[str, list[Any]] = {
        "computes": [cluster("hub"), cluster("a-cpu"), cluster("b-cpu")],
        "stores": [datastore("workspaceblobstore"), *map(datastore, ("hub_store", "a_store", "b_store"))],
    }
    return FakeClient(**{**usual, **things})
