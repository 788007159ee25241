"""Run history: the records of jobs and steps, their logs as addresses, and where their outputs lie."""

import re
from pathlib import Path
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sim.azureml import runs
from sim.azureml.errors import WorkspaceError
from sim.azureml.jobs import described
from sim.azureml.places import long_uri, place_of
from sim.azureml.resources import read_body
from sim.azureml.state import Body, WorkspaceState
from sim.azureml.tokens import check_sas, sas

LOG_MINUTES = 60
OUTPUT_ASSET = re.compile(r".*/data/azureml_(.+)_output_data_(.+)/versions/[^/]+")


def routes(state: WorkspaceState) -> list[Route]:
    """The calls for run history, and for the addresses that it gives."""

    async def get(request: Request) -> Response:
        return JSONResponse(shown(state, record(state, request.path_params["run"])))

    async def details(request: Request) -> Response:
        body = record(state, request.path_params["run"])
        return JSONResponse(
            {**shown(state, body), "target": (body.get("compute") or {}).get("target"), "logFiles": logs(state, body)}
        )

    async def children(request: Request) -> Response:
        run = record(state, request.path_params["run"])
        return JSONResponse({"value": [shown(state, body) for body in runs.children(state, run["runId"])]})

    async def data(request: Request) -> Response:
        asked = await read_body(request)
        body = record(state, str(asked.get("runId")))
        return JSONResponse({"runMetadata": shown(state, body)})

    async def change(request: Request) -> Response:
        return JSONResponse(shown(state, edit(state, request.path_params["run"], await read_body(request))))

    async def resolve(request: Request) -> Response:
        asked = (await read_body(request)).get("values") or []
        found = {id: {"uri": uri, "type": "uri_folder"} for id in asked if (uri := output_uri(state, id))}
        return JSONResponse({"values": found})

    async def log(request: Request) -> Response:
        return Response(log_text(state, request), media_type="text/plain; charset=utf-8")

    base, data_base = f"/history/v1.0{state.settings.scope}", f"/data/v1.0{state.settings.scope}"
    experiment = f"{base}/experiments/{{experiment}}/runs/{{run}}"
    return [
        Route(f"{base}/runs/{{run}}", get, methods=["GET"]),
        Route(f"{base}/runs/{{run}}/details", details, methods=["GET"]),
        Route(f"{base}/runs/{{run}}/children", children, methods=["GET"]),
        Route(experiment, get, methods=["GET"]),
        Route(experiment, change, methods=["PATCH"]),
        Route(f"{base}/runs/{{run}}", change, methods=["PATCH"]),
        Route(f"{experiment}/details", details, methods=["GET"]),
        Route(f"{experiment}/children", children, methods=["GET"]),
        Route(f"{base}/rundata", data, methods=["POST"]),
        Route(f"{data_base}/dataversion/batchGetResolvedUris", resolve, methods=["POST"]),
        Route("/blob/logs/{run}/{name:path}", log, methods=["GET"]),
    ]


def record(state: WorkspaceState, run: str) -> Body:
    body = state.documents.get("runs", run)
    if body is None:
        raise WorkspaceError(f"there is no run {run!r} in this workspace", code="ResourceNotFound")
    return body


def shown(state: WorkspaceState, body: Body) -> Body:
    """A record as the service gives it; where its outputs lie is told by their assets only."""
    return {key: value for key, value in body.items() if key not in ("places", "node", "kind")} | {
        "runType": "azureml.PipelineRun" if body.get("kind") == "pipeline" else "azureml.StepRun",
        "createdBy": {"userName": "local user"},
    }


def edit(state: WorkspaceState, run: str, changes: Body) -> Body:
    """A record with other words about it; tags and properties are added to what there is."""
    body = record(state, run)
    kept = {
        key: {**body[key], **{name: str(value) for name, value in changes[key].items()}}
        for key in ("tags", "properties")
        if changes.get(key)
    }
    kept |= {key: changes[key] for key in ("displayName", "description") if changes.get(key) is not None}
    if kept:
        state.documents.update("runs", run, **kept)
    job = state.documents.get("jobs", run)
    if job is not None:
        more = {} if changes.get("hidden") is None else {"isArchived": bool(changes["hidden"])}
        state.documents.update("jobs", run, properties={**job["properties"], **kept, **more})
        described(state, run, kept)
    return record(state, run)


def logs(state: WorkspaceState, body: Body) -> dict[str, str]:
    """Name → address of every log of a run; the address lets its holder read the logs of this run, for an hour."""
    folder = log_folder(state, body)
    if not folder.is_dir():
        return {}
    run = body["runId"]
    pass_ = sas(state, f"logs/{run}", permissions="r", minutes=LOG_MINUTES)
    names = [
        path.relative_to(folder).as_posix() for top in LOG_FOLDERS for path in sorted((folder / top).rglob("*.txt"))
    ]
    return {name: f"{state.settings.url}/blob/logs/{quote(run, safe='')}/{quote(name)}?{pass_}" for name in names}


LOG_FOLDERS = ("logs", "user_logs")


def log_folder(state: WorkspaceState, body: Body) -> Path:
    return state.job_folder(body["rootRunId"]) / str(body["runId"])


def log_text(state: WorkspaceState, request: Request) -> bytes:
    """A log as far as it is written; raises WorkspaceError for a call without a signature, and for no such log."""
    run, name = unquote(request.path_params["run"]), request.path_params["name"]
    check_sas(state, f"logs/{run}", request.query_params, needs="r")
    folder = log_folder(state, record(state, run))
    known = {path.relative_to(folder).as_posix(): path for top in LOG_FOLDERS for path in (folder / top).rglob("*.txt")}
    if name not in known:
        raise WorkspaceError(f"run {run!r} has no log {name!r}", code="BlobNotFound")
    return known[name].read_bytes()


def output_uri(state: WorkspaceState, asset: str) -> str:
    """The address of an output's asset; empty for an asset that is none."""
    match = OUTPUT_ASSET.fullmatch(asset)
    body = state.documents.get("runs", match[1]) if match else None
    if match is None or body is None or match[2] not in body["places"]:
        return ""
    return long_uri(state, place_of(state, body["places"][match[2]]))
