"""Jobs as Azure Resource Manager serves them: submit, look, list, cancel."""

import re
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sim.azureml import runs
from sim.azureml.errors import WorkspaceError
from sim.azureml.executor import Executor
from sim.azureml.graph import graph_of
from sim.azureml.resources import keep, newest_first, read_body
from sim.azureml.state import Body, WorkspaceState
from sim.azureml.submission import check_graph, component_spec

EXPERIMENT = "Default"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""A job's name is a folder's name too."""

EDITABLE = ("displayName", "description", "tags", "isArchived")
"""What a second PUT of a job may change, as on Azure."""


def routes(state: WorkspaceState) -> list[Route]:
    """The calls for jobs; the executor that runs them ends with the workspace."""
    executor = Executor(state)

    async def put(request: Request) -> Response:
        name, body = request.path_params["name"], await read_body(request)
        if state.documents.get("jobs", name) is not None:
            return JSONResponse(edit(state, name, body.get("properties") or {}))
        return JSONResponse(submit(state, executor, name, body.get("properties") or {}), status_code=201)

    async def get(request: Request) -> Response:
        return JSONResponse(view(state, request.path_params["name"]))

    async def list_all(request: Request) -> Response:
        bodies = newest_first(body for _, body in state.documents.list("jobs"))
        wanted = {"activeonly": (False,), "archivedonly": (True,)}.get(
            request.query_params.get("listViewType", "ActiveOnly").lower(), (False, True)
        )
        found = [with_status(state, body) for body in bodies]
        return JSONResponse({"value": [body for body in found if body["properties"]["isArchived"] in wanted]})

    async def cancel(request: Request) -> Response:
        name = request.path_params["name"]
        view(state, name)
        executor.cancel(name)
        return Response(status_code=200)

    base = f"{state.settings.scope}/jobs"
    return [
        Route(base, list_all, methods=["GET"]),
        Route(f"{base}/{{name}}", put, methods=["PUT"]),
        Route(f"{base}/{{name}}", get, methods=["GET"]),
        Route(f"{base}/{{name}}/cancel", cancel, methods=["POST"]),
    ]


def submit(state: WorkspaceState, executor: Executor, name: str, properties: Body) -> Body:
    """Check a job as a whole, keep it, and start it; raises WorkspaceError (400) and keeps nothing otherwise."""
    if not NAME.fullmatch(name):
        message = f"{name!r} is no name for a job: letters, digits, '_', '-' and '.', at most 255"
        raise WorkspaceError(message, status=400, code="UserError")
    if state.documents.get("runs", name) is not None:
        raise WorkspaceError(f"there is a run {name!r} already", status=409, code="Conflict")
    graph = graph_of(properties, cache(lambda id: component_spec(state, id)))
    check_graph(state, graph)
    experiment = properties.get("experimentName") or EXPERIMENT
    tags = {key: str(value) for key, value in (properties.get("tags") or {}).items()}
    body = keep(
        state,
        ("jobs", name),
        f"jobs/{name}",
        {"properties": {**properties, "experimentName": experiment, "isArchived": False, "services": {}}},
    )
    runs.begin(
        state,
        name,
        root=name,
        displayName=properties.get("displayName") or name,
        tags=tags,
        properties=properties.get("properties") or {},
        kind=str(properties["jobType"]).lower(),
        experimentId=experiment,
    )
    executor.submit(name, graph, experiment)
    return with_status(state, body)


def edit(state: WorkspaceState, name: str, properties: Body) -> Body:
    """A job that exists, with other words about it; what it runs cannot be changed."""
    changes = {key: properties[key] for key in EDITABLE if key in properties}
    body = state.documents.get("jobs", name) or {}
    state.documents.update("jobs", name, properties={**body["properties"], **changes})
    described(state, name, changes)
    return view(state, name)


def described(state: WorkspaceState, name: str, changes: dict[str, Any]) -> None:
    """Carry a change of words over to run history."""
    shared = {key: value for key, value in changes.items() if key in ("displayName", "description", "tags")}
    if shared:
        state.documents.update("runs", name, **shared)


def view(state: WorkspaceState, name: str) -> Body:
    """A job as a resource; of a step only its name, which leads the SDK to run history, as on Azure."""
    body = state.documents.get("jobs", name)
    if body is not None:
        return with_status(state, body)
    if state.documents.get("runs", name) is not None:
        kind = "Microsoft.MachineLearningServices/workspaces/jobs"
        return {"id": f"{state.settings.scope}/jobs/{name}", "name": name, "type": kind, "properties": None}
    raise WorkspaceError(f"there is no job {name!r} in this workspace", code="ResourceNotFound")


def with_status(state: WorkspaceState, body: Body) -> Body:
    """A job with its status as run history has it."""
    return {**body, "properties": {**body["properties"], "status": runs.status_of(state, body["name"])}}
