"""Where a job's inputs and outputs lie: `azureml://` addresses, assets, and which party may touch which datastore."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sim.azureml.blob_store import Place, harmless, inside
from sim.azureml.errors import WorkspaceError
from sim.azureml.state import Body, WorkspaceState

DATASTORE = re.compile(
    r"azureml://(?:subscriptions/.+/workspaces/[^/]+/)?datastores/([^/]+)(?:/paths(?:/(.*))?)?", re.IGNORECASE
)
ASSET = re.compile(
    r"(?:azureml:)?/?/?(?:subscriptions/.+/workspaces/[^/]+/)?(data|models)/([^/]+)/versions/([^/]+)", re.IGNORECASE
)
SHORT_ASSET = re.compile(r"azureml:([^:/@]+):([^:/]+)")
BLOB = re.compile(r"/blob/[^/]+/([^/]+)(?:/(.*))?")


def place_of(state: WorkspaceState, uri: str) -> Place:
    """Datastore and path that an address or asset stands for; raises WorkspaceError (400) if there is none."""
    if match := DATASTORE.fullmatch(uri):
        return Place(datastore=match[1], name=(match[2] or "").strip("/"))
    if match := SHORT_ASSET.fullmatch(uri):
        return asset_place(state, "data", match[1], match[2])
    if match := ASSET.fullmatch(uri):
        return asset_place(state, match[1].lower(), match[2], match[3])
    if uri.startswith(f"{state.settings.url}/"):
        return blob_place(uri)
    message = f"{uri!r} is no place in this workspace: use azureml://datastores/<name>/paths/… or a registered asset"
    raise WorkspaceError(message, status=400, code="UserError")


def asset_place(state: WorkspaceState, kind: str, name: str, version: str) -> Place:
    asset = state.documents.get(kind, name, version)
    if asset is None:
        raise WorkspaceError(f"there is no {kind} asset {name}:{version}", status=400, code="UserError")
    properties = asset.get("properties") or {}
    return place_of(state, properties.get("dataUri") or properties.get("modelUri") or "")


def blob_place(url: str) -> Place:
    """Datastore and path of a blob's address in this workspace; the container may be `<datastore>/<folder>`, quoted."""
    match = BLOB.fullmatch(urlsplit(url).path)
    if match is None:
        raise WorkspaceError(f"{url} is no address of a blob", status=400, code="UserError")
    datastore, _, rest = "/".join(unquote(part) for part in match.groups("") if part).partition("/")
    return Place(datastore=datastore, name=rest.strip("/"))


def path_of(state: WorkspaceState, place: Place) -> Path:
    """The file or folder of a place; raises WorkspaceError (400) for a path that leads out of its datastore."""
    base = state.storage(place.datastore)
    parts = place.name.split("/") if place.name else []
    path = base.joinpath(*parts)
    if not all(harmless(part) for part in parts) or not inside(path, base):
        message = f"{place.name!r} is no path in datastore {place.datastore!r}"
        raise WorkspaceError(message, status=400, code="UserError")
    return path


def short_uri(place: Place) -> str:
    return f"azureml://datastores/{place.datastore}/paths/{place.name}"


def long_uri(state: WorkspaceState, place: Place) -> str:
    """The address with the workspace in it, as run history gives it."""
    names = state.settings
    return (
        f"azureml://subscriptions/{names.subscription}/resourcegroups/{names.resource_group}/workspaces/{names.name}"
        f"/datastores/{place.datastore}/paths/{place.name}"
    )


def default_datastore(state: WorkspaceState) -> str:
    """Where outputs go for which a job names no place; raises WorkspaceError (400) if there is no datastore."""
    names = []
    for key, body in state.documents.list("datastores"):
        if (body.get("properties") or {}).get("isDefault"):
            return key[1]
        names.append(key[1])
    if not names:
        raise WorkspaceError("the workspace has no datastore to write to", status=400, code="UserError")
    return names[0]


def check_locality(state: WorkspaceState, step: str, compute: str, datastore: str, *, verb: str) -> None:
    """Refuse a step at one party that would touch another silo's datastore; raises WorkspaceError (400).

    A datastore that carries the tag `silo` belongs to that silo, and only a compute of the same silo reads or writes
    it. One without the tag, such as the orchestrator's, is open to all. On Azure the storage account's role
    assignments do this, when the step runs.
    """
    owner = silo_of(state.documents.get("datastores", datastore))
    if owner and owner != silo_of(state.documents.get("computes", compute)):
        message = (
            f"step {step or 'of the job'} on compute {compute!r} would {verb} datastore {datastore!r}, "
            f"which belongs to silo {owner!r}; only a compute of that silo may"
        )
        raise WorkspaceError(message, status=400, code="LocalityRefused")


def silo_of(document: Body | None) -> str:
    """The silo that a compute or datastore belongs to; empty for none, and for the orchestrator's."""
    if document is None:
        return ""
    properties = document.get("properties") or {}
    tags = {**(properties.get("tags") or {}), **(document.get("tags") or {})}
    silo = str(tags.get("silo", ""))
    return "" if silo == "orchestrator" else silo
