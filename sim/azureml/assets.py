"""Versioned assets: code, environments, components, data and models. A version that exists is never changed."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sim.azureml.errors import WorkspaceError
from sim.azureml.places import path_of, place_of
from sim.azureml.resources import DATASTORE_URI, keep, listed, long_uri, newest_first, read_body, read_document
from sim.azureml.state import Body, WorkspaceState
from sim.azureml.tokens import sas

FIXED: dict[str, tuple[str, ...]] = {
    "codes": ("codeUri",),
    "environments": ("image", "condaFile", "build"),
    "components": ("componentSpec",),
    "data": ("dataUri", "dataType"),
    "models": ("modelUri", "modelType"),
}
"""Kind of asset → what of a version stays as it was when it was made."""

URIS = ("codeUri", "dataUri", "modelUri")
LATEST = "azureml_default"
"""The version that stands for the newest one."""

FREE_IN_SPEC = ("description", "display_name", "tags")
UPLOADS = "workspaceblobstore"


def routes(state: WorkspaceState) -> list[Route]:
    """The calls for assets of every kind."""
    return [route for kind in FIXED for route in kind_routes(state, kind)] + [upload_route(state)]


def kind_routes(state: WorkspaceState, kind: str) -> list[Route]:
    async def list_containers(request: Request) -> Response:
        names = dict.fromkeys(key[1] for key, _ in state.documents.list(kind))
        return listed(in_view(request, (container(state, kind, name) for name in names)))

    async def get_container(request: Request) -> Response:
        return JSONResponse(container(state, kind, request.path_params["name"]))

    async def put_container(request: Request) -> Response:
        name = request.path_params["name"]
        properties = (await read_body(request)).get("properties", {})
        container(state, kind, name)
        kept = {key: properties[key] for key in ("tags", "description", "isArchived") if key in properties}
        state.documents.put("containers", kind, name, body=kept)
        return JSONResponse(container(state, kind, name))

    async def list_versions(request: Request) -> Response:
        sha256 = request.query_params.get("hash", "")
        # A snapshot is looked for by its content: the SDK asks under a new, random name each time.
        prefix = (kind,) if sha256 else (kind, request.path_params["name"])
        found = in_view(request, newest_first(body for _, body in state.documents.list(*prefix)))
        found = [body for body in found if not sha256 or hash_of(body) == sha256]
        top = request.query_params.get("$top", "")
        return listed(found[: int(top)] if top.isdigit() else found)

    async def get(request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params["version"]
        if version == LATEST:
            version = container(state, kind, name)["properties"]["latestVersion"]
        return JSONResponse(read_document(state, kind, name, version))

    async def put(request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params["version"]
        return JSONResponse(put_version(state, kind, name, version, await read_body(request)), status_code=201)

    async def delete(request: Request) -> Response:
        state.documents.delete(kind, request.path_params["name"], request.path_params["version"])
        return Response(status_code=200)

    all_of_kind = f"{state.settings.scope}/{kind}"
    versions = f"{all_of_kind}/{{name}}/versions"
    return [
        Route(all_of_kind, list_containers, methods=["GET"]),
        Route(f"{all_of_kind}/{{name}}", get_container, methods=["GET"]),
        Route(f"{all_of_kind}/{{name}}", put_container, methods=["PUT"]),
        Route(versions, list_versions, methods=["GET"]),
        Route(f"{versions}/{{version}}", get, methods=["GET"]),
        Route(f"{versions}/{{version}}", put, methods=["PUT"]),
        Route(f"{versions}/{{version}}", delete, methods=["DELETE"]),
    ]


def put_version(state: WorkspaceState, kind: str, name: str, version: str, body: Body) -> Body:
    """Keep a version. Raises WorkspaceError: 409 if it exists with other content, 400 for an unknown datastore."""
    properties = {
        key: long_uri(state, value) if key in URIS else value for key, value in body.get("properties", {}).items()
    }
    if kind == "models":
        properties["flavors"] = flavors(state, properties)
    if kind == "components":
        properties["componentSpec"] = {**properties.get("componentSpec", {}), "name": name, "version": version}
    before = state.documents.get(kind, name, version)
    if before is not None:
        properties = {**before["properties"], **properties}
        for key in FIXED[kind]:
            if settled(before["properties"].get(key)) != settled(properties.get(key)):
                message = f"{kind} {name}:{version} exists with another {key}; register it as a new version"
                raise WorkspaceError(message, status=409, code="UserError")
    return keep(state, (kind, name, version), f"{kind}/{name}/versions/{version}", {"properties": properties})


def flavors(state: WorkspaceState, properties: Body) -> Body:
    """What the MLmodel file of an MLflow model says about each of its flavors, as text; of other models, nothing."""
    if properties.get("modelType") != "mlflow_model" or not DATASTORE_URI.fullmatch(properties["modelUri"]):
        return {}
    file = path_of(state, place_of(state, properties["modelUri"])) / "MLmodel"
    if not file.is_file():
        message = f"{properties['modelUri']} holds no file MLmodel, so it is no MLflow model"
        raise WorkspaceError(message, status=400, code="UserError")
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))["flavors"]
        return {name: {"data": {key: str(value) for key, value in flavor.items()}} for name, flavor in found.items()}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        message = f"the file MLmodel in {properties['modelUri']} describes no flavors: {error}"
        raise WorkspaceError(message, status=400, code="UserError") from error


def settled(content: Any) -> Any:
    """What of a version's content may not change: everything but what describes it."""
    if not isinstance(content, dict):
        return content
    return {key: value for key, value in content.items() if key not in FREE_IN_SPEC}


def container(state: WorkspaceState, kind: str, name: str) -> Body:
    """All versions of a name as one resource; raises WorkspaceError (404) if there is none."""
    versions = newest_first(body for _, body in state.documents.list(kind, name))
    if not versions:
        read_document(state, kind, name)
    numbers = [int(body["name"]) for body in versions if body["name"].isdecimal()]
    properties = {
        "isArchived": False,
        "latestVersion": versions[0]["name"],
        "nextVersion": str(max(numbers, default=0) + 1),
        **({"dataType": versions[0]["properties"].get("dataType")} if kind == "data" else {}),
        **(state.documents.get("containers", kind, name) or {}),
    }
    return {
        "id": f"{state.settings.scope}/{kind}/{name}",
        "name": name,
        "type": f"Microsoft.MachineLearningServices/workspaces/{kind}",
        "systemData": versions[-1]["systemData"],
        "properties": properties,
    }


def in_view(request: Request, bodies: Iterable[Body]) -> list[Body]:
    """What the call wants to see: what is not archived (the default), only what is, or all."""
    view = request.query_params.get("listViewType", "ActiveOnly")
    wanted = {"ActiveOnly": (False,), "ArchivedOnly": (True,)}.get(view, (False, True))
    return [body for body in bodies if bool(body["properties"].get("isArchived")) in wanted]


def hash_of(body: Body) -> str:
    """The sha256 that a client gave with a version's content; empty if it gave none."""
    return str((body["properties"].get("properties") or {}).get("hash_sha256", ""))


def upload_route(state: WorkspaceState) -> Route:
    async def start(request: Request) -> Response:
        # The SDK uploads to the root of the container that it is given, so each snapshot needs one of its own. A
        # quoted folder of the datastore passes for a container's name.
        folder = f"{UPLOADS}/codes/{request.path_params['name']}/{request.path_params['version']}"
        where = state.settings.container_url(quote(folder, safe=""))
        credential = {"credentialType": "SAS", "sasUri": f"{where}?{sas(state, UPLOADS)}"}
        return JSONResponse({"blobReferenceForConsumption": {"blobUri": where, "credential": credential}})

    path = f"{state.settings.scope}/codes/{{name}}/versions/{{version}}/startPendingUpload"
    return Route(path, start, methods=["POST"])
