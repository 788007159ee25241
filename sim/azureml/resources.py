"""What every resource has in common: how its body is read, dated, named and answered."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sim.azureml.errors import WorkspaceError
from sim.azureml.state import Body, WorkspaceState

CREATOR = "local user"

DATASTORE_URI = re.compile(
    r"azureml://(?:subscriptions/[^/]+/resourcegroups/[^/]+/"
    r"(?:providers/Microsoft\.MachineLearningServices/)?workspaces/[^/]+/)?"
    r"datastores/(?P<datastore>[^/]+)/paths/(?P<path>.*)",
    re.IGNORECASE,
)
"""A path in a datastore, in its short or its long form."""


async def read_body(request: Request) -> Body:
    """The JSON object that a call carries; raises WorkspaceError (400) for anything else."""
    try:
        body = json.loads(await request.body())
    except ValueError as error:
        raise WorkspaceError(f"the body is not JSON: {error}", status=400, code="InvalidRequestContent") from error
    if not isinstance(body, dict) or not isinstance(body.get("properties", {}), dict):
        raise WorkspaceError("the body is no resource", status=400, code="InvalidRequestContent")
    return body


def read_document(state: WorkspaceState, kind: str, *names: str) -> Body:
    """A resource that is kept; raises WorkspaceError (404) that names what there is instead."""
    found = state.documents.get(kind, *names)
    if found is not None:
        return found
    known = sorted({key[1] for key, _ in state.documents.list(kind)})
    shown = ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
    what = f"{kind} {':'.join(names)!r}"
    raise WorkspaceError(f"{what} was not found in this workspace; there is {shown or 'none'}", code="ResourceNotFound")


def keep(state: WorkspaceState, key: tuple[str, ...], path: str, body: Body) -> Body:
    """Keep a resource under its key with its id, name, type and dates, and give it back."""
    before = state.documents.get(*key) or {}
    now = datetime.now(UTC).isoformat()
    dates = {
        "createdAt": before.get("systemData", {}).get("createdAt", now),
        "createdBy": CREATOR,
        "createdByType": "User",
        "lastModifiedAt": now,
        "lastModifiedBy": CREATOR,
        "lastModifiedByType": "User",
    }
    kind = "/".join(path.split("/")[::2])
    return state.documents.put(
        *key,
        body={
            **body,
            "id": f"{state.settings.scope}/{path}",
            "name": key[-1],
            "type": f"Microsoft.MachineLearningServices/workspaces/{kind}",
            "systemData": dates,
        },
    )


def newest_first(bodies: Iterable[Body]) -> list[Body]:
    """Resources by the time at which they were made, the last one first."""
    return sorted(bodies, key=lambda body: str(body["systemData"]["createdAt"]), reverse=True)


def listed(bodies: Iterable[Body]) -> Response:
    """Resources as the answer to a call for a list; all of them on one page."""
    return JSONResponse({"value": list(bodies)})


def long_uri(state: WorkspaceState, uri: Any) -> Any:
    """A place in a datastore in the long form of its path, as Azure answers it; anything else as it is.

    A blob's own address is put into this form as well, because another start may listen at another port.
    Raises WorkspaceError (400) for a datastore that does not exist.
    """
    if not isinstance(uri, str):
        return uri
    containers = state.settings.container_url("")
    if uri.startswith(containers):
        datastore, _, path = unquote(uri.removeprefix(containers)).partition("/")
        uri = f"azureml://datastores/{datastore}/paths/{path}"
    match = DATASTORE_URI.fullmatch(uri)
    if match is None:
        return uri
    if state.documents.get("datastores", match["datastore"]) is None:
        message = f"{uri}: there is no datastore {match['datastore']!r} in this workspace"
        raise WorkspaceError(message, status=400, code="UserError")
    settings = state.settings
    return (
        f"azureml://subscriptions/{settings.subscription}/resourcegroups/{settings.resource_group}"
        f"/workspaces/{settings.name}/datastores/{match['datastore']}/paths/{match['path']}"
    )
