"""What a workspace says of itself: its computes and datastores, read once, and what its data assets stand for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fl_kit.azureml.locality import Location, datastores_of, locate, same_storage
from fl_kit.errors import FederationError
from fl_kit.silo import Federation

KUBERNETES, AML = "kubernetes", "amlcompute"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A workspace as a client sees it. Names are compared without regard to case, as Azure does.

    client      an azure.ai.ml.MLClient
    computes    lower-case name → the SDK's compute
    datastores  lower-case name → the SDK's datastore
    named       the datastores that the federation names, in lower case
    assets      what was asked for already: (name, version, label) → the SDK's data asset, or None
    """

    client: Any
    computes: Mapping[str, Any]
    datastores: Mapping[str, Any]
    named: Collection[str]
    assets: dict[tuple[str, str, str], Any] = field(default_factory=dict)

    @classmethod
    def of(cls, client: Any, federation: Federation) -> "Facts":
        """Ask the workspace; raises FederationError, naming it and the cure, if it does not answer."""
        from azure.core.exceptions import AzureError

        try:
            computes = {each.name.lower(): each for each in client.compute.list() if each}
            datastores = {each.name.lower(): each for each in client.datastores.list() if each}
        except AzureError as error:
            raise FederationError(unreachable(client, error)) from error
        named = [name.lower() for _, name in datastores_of(federation)]
        return cls(client=client, computes=computes, datastores=datastores, named=named)

    def locate(self, text: str) -> Location:
        """Where a path leads: an asset to what it stands for, an address of the storage to its datastore.

        A datastore of another workspace is unknown: nothing is known of who reads it.
        """
        place = self._meant(locate(text))
        if self._elsewhere(place):
            return Location(text=text, kind="unknown")
        place = same_storage(self.storage, place)
        datastore = self._twins.get(place.datastore.lower(), place.datastore)
        return replace(place, datastore=datastore, text=text)

    def asset_fault(self, text: str) -> str:
        """Why a data asset cannot be read as a silo's data, or an empty string; also for what is no asset."""
        place = locate(text)
        if place.kind != "asset":
            return ""
        found = self._asset(place)
        if found is None:
            return f"there is no data asset {text!r} in the workspace"
        return "" if found.type == "uri_folder" else f"the data asset {text!r} is a {found.type}; a task reads a folder"

    @cached_property
    def storage(self) -> Mapping[str, tuple[str, str]]:
        """Datastore → (account, container), for those that stand for a storage container."""
        found = {}
        for name, datastore in self.datastores.items():
            container = getattr(datastore, "container_name", None) or getattr(datastore, "filesystem", None)
            if container and getattr(datastore, "account_name", None):
                found[name] = (str(datastore.account_name).lower(), str(container).lower())
        return found

    @cached_property
    def _twins(self) -> Mapping[str, str]:
        """Datastore → the one of the same container that the federation names, or else the first."""
        first: dict[tuple[str, str], str] = {}
        ordered = sorted(self.storage, key=lambda name: name not in self.named)
        return {name: first.setdefault(self.storage[name], name) for name in ordered}

    def _meant(self, place: Location) -> Location:
        """A data asset as the place that it stands for; anything else as it is."""
        found = self._asset(place) if place.kind == "asset" else None
        return place if found is None else locate(str(found.path))

    def _asset(self, place: Location) -> Any:
        """The SDK's data asset, asked for once; None if there is no such asset."""
        from azure.ai.ml.exceptions import MlException
        from azure.core.exceptions import HttpResponseError

        key = (place.name, place.version, place.label)
        if key not in self.assets:
            which = {"label": place.label} if place.label else {"version": place.version}
            try:
                self.assets[key] = self.client.data.get(place.name, **which)
            except (MlException, HttpResponseError):
                self.assets[key] = None
        return self.assets[key]

    def _elsewhere(self, place: Location) -> bool:
        mine = (self.client.subscription_id, self.client.resource_group_name, self.client.workspace_name)
        theirs = (place.subscription, place.group, place.workspace)
        return bool(place.workspace) and [part.lower() for part in theirs] != [str(part).lower() for part in mine]


def unreachable(client: Any, error: Exception) -> str:
    """One line about a workspace that does not answer."""
    reason = (getattr(error, "message", None) or str(error) or type(error).__name__).strip().splitlines()[0]
    return (
        f"the workspace {client.workspace_name!r} (resource group {client.resource_group_name!r}, subscription "
        f"{client.subscription_id!r}) cannot be read: {reason}. Check these three names, and that you are signed in "
        "(`az login`) and have the role Reader on the workspace"
    )
