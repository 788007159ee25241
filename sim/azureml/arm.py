"""What Azure Resource Manager serves of a workspace: the workspace itself, computes, datastores, and the assets."""

import re
import uuid

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sim.azureml import assets
from sim.azureml.errors import WorkspaceError
from sim.azureml.resources import keep, listed, read_body, read_document
from sim.azureml.state import Body, WorkspaceState
from sim.azureml.tokens import sas

COMPUTE_TYPES = ("AmlCompute", "Kubernetes")
COMPUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
DATASTORE_NAME = re.compile(r"[A-Za-z0-9_]{1,255}")
DEFAULT_DATASTORE = "workspaceblobstore"
BUILT_IN = (DEFAULT_DATASTORE, "workspaceartifactstore")
"""Datastores that every workspace has: the one for uploads, and the one for a job's logs and default outputs."""


def routes(state: WorkspaceState) -> list[Route]:
    """The calls for everything but jobs."""
    for name in BUILT_IN:
        if state.documents.get("datastores", name) is None:
            put_datastore(state, name, {"datastoreType": "AzureBlob"})
    return [*workspace_routes(state), *compute_routes(state), *datastore_routes(state), *assets.routes(state)]


def workspace_routes(state: WorkspaceState) -> list[Route]:
    async def get(request: Request) -> Response:
        return JSONResponse(workspace(state))

    async def list_all(request: Request) -> Response:
        return listed([workspace(state)])

    subscription, _, group = state.settings.scope.partition("/resourceGroups/")
    group = f"{subscription}/resourceGroups/{group.split('/')[0]}"
    provider = "/providers/Microsoft.MachineLearningServices/workspaces"
    return [
        Route(state.settings.scope, get, methods=["GET"]),
        Route(f"{subscription}{provider}", list_all, methods=["GET"]),
        Route(f"{group}{provider}", list_all, methods=["GET"]),
    ]


def workspace(state: WorkspaceState) -> Body:
    """The workspace itself as a resource."""
    settings = state.settings
    return {
        "id": settings.scope,
        "name": settings.name,
        "type": "Microsoft.MachineLearningServices/workspaces",
        "location": settings.location,
        "properties": {
            "friendlyName": settings.name,
            "description": "a local workspace on this machine",
            "provisioningState": "Succeeded",
            "workspaceId": str(uuid.uuid5(uuid.NAMESPACE_URL, settings.scope)),
            "discoveryUrl": f"{settings.url}/discovery",
            "mlFlowTrackingUri": f"{settings.url}/mlflow/v2.0{settings.scope}",
        },
    }


def compute_routes(state: WorkspaceState) -> list[Route]:
    async def list_all(request: Request) -> Response:
        return listed(body for _, body in state.documents.list("computes"))

    async def get(request: Request) -> Response:
        return JSONResponse(read_document(state, "computes", request.path_params["name"]))

    async def put(request: Request) -> Response:
        body = put_compute(state, request.path_params["name"], await read_body(request))
        # As on Azure a compute is not there at once: the client looks again. azure-ai-ml 1.33 reads an answer that is
        # final already twice, and finds no computeType the second time.
        making = {**body, "properties": {**body["properties"], "provisioningState": "Creating"}}
        return JSONResponse(making, status_code=201, headers={"Retry-After": "1"})

    async def delete(request: Request) -> Response:
        state.documents.delete("computes", request.path_params["name"])
        return Response(status_code=200)

    one = f"{state.settings.scope}/computes/{{name}}"
    return [
        Route(f"{state.settings.scope}/computes", list_all, methods=["GET"]),
        Route(one, get, methods=["GET"]),
        Route(one, put, methods=["PUT"]),
        Route(one, delete, methods=["DELETE"]),
    ]


def put_compute(state: WorkspaceState, name: str, body: Body) -> Body:
    """Keep a compute, ready at once; raises WorkspaceError (400) for a name or type that cannot be."""
    if not COMPUTE_NAME.fullmatch(name):
        raise invalid(f"compute name {name!r} will not do: letters, digits, '-' and '_', at most 63")
    properties = body.get("properties", {})
    if properties.get("computeType") not in COMPUTE_TYPES:
        raise invalid(f"compute {name!r} is of type {properties.get('computeType')!r}; here are only {COMPUTE_TYPES}")
    properties = {**properties, "provisioningState": "Succeeded", "properties": properties.get("properties") or {}}
    return keep(state, ("computes", name), f"computes/{name}", {**body, "properties": properties})


def datastore_routes(state: WorkspaceState) -> list[Route]:
    async def list_all(request: Request) -> Response:
        only_default = request.query_params.get("isDefault", "").lower() == "true"
        found = [shown(state, body) for _, body in state.documents.list("datastores")]
        return listed(body for body in found if body["properties"]["isDefault"] or not only_default)

    async def get(request: Request) -> Response:
        return JSONResponse(shown(state, read_document(state, "datastores", request.path_params["name"])))

    async def put(request: Request) -> Response:
        body = await read_body(request)
        return JSONResponse(put_datastore(state, request.path_params["name"], body.get("properties", {})), 201)

    async def delete(request: Request) -> Response:
        name = request.path_params["name"]
        if name in BUILT_IN:
            raise invalid(f"datastore {name!r} belongs to the workspace and cannot be deleted")
        state.documents.delete("datastores", name)
        return Response(status_code=200)

    async def secrets(request: Request) -> Response:
        name = str(read_document(state, "datastores", request.path_params["name"])["name"])
        return JSONResponse({"secretsType": "Sas", "sasToken": sas(state, name)})

    one = f"{state.settings.scope}/datastores/{{name}}"
    return [
        Route(f"{state.settings.scope}/datastores", list_all, methods=["GET"]),
        Route(one, get, methods=["GET"]),
        Route(one, put, methods=["PUT"]),
        Route(one, delete, methods=["DELETE"]),
        Route(f"{one}/listSecrets", secrets, methods=["POST"]),
    ]


def put_datastore(state: WorkspaceState, name: str, properties: Body) -> Body:
    """Keep a datastore and make its folder; whatever account it names, its blobs are files of this workspace.

    Raises WorkspaceError (400) for a name or type that cannot be.
    """
    if not DATASTORE_NAME.fullmatch(name):
        raise invalid(f"datastore name {name!r} will not do: letters, digits and '_', at most 255")
    if properties.get("datastoreType") != "AzureBlob":
        raise invalid(f"datastore {name!r} is of type {properties.get('datastoreType')!r}; here is only AzureBlob")
    kept: Body = {
        key: properties[key] for key in ("datastoreType", "description", "tags", "properties") if key in properties
    }
    kept["isDefault"] = name == DEFAULT_DATASTORE
    (state.root / "storage" / name).mkdir(parents=True, exist_ok=True)
    return shown(state, keep(state, ("datastores", name), f"datastores/{name}", {"properties": kept}))


def shown(state: WorkspaceState, body: Body) -> Body:
    """A datastore as it is answered: with the account where it can be reached now, and no secret."""
    where = {
        "accountName": state.settings.account,
        "containerName": body["name"],
        "endpoint": "localhost",
        "protocol": "https",
        "credentials": {"credentialsType": "Sas"},
    }
    return {**body, "properties": {**body["properties"], **where}}


def invalid(message: str) -> WorkspaceError:
    return WorkspaceError(message, status=400, code="ValidationError")
