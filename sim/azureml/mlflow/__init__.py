"""The workspace's MLflow: tracking for the stock client, with every job's name as the id of its run.

    mlflow.set_tracking_uri(workspace.mlflow_tracking_uri)
    MlflowClient().get_metric_history(job.name, "global/accuracy")

Experiments, runs, metrics, parameters, tags, artifacts, logged models. Not served, with a 404 that names the call:
traces, the model registry (a workspace's models are registered through `MLClient.models`), datasets, scorers.
"""

import json
from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sim.azureml.errors import WorkspaceError
from sim.azureml.mlflow.artifacts import Artifacts
from sim.azureml.mlflow.book import Book, Call
from sim.azureml.mlflow.calls import CALLS
from sim.azureml.mlflow.figures import invalid
from sim.azureml.state import Body, WorkspaceState

HERE = (
    "/mlflow/{version}/subscriptions/{subscription}/resourceGroups/{group}"
    "/providers/Microsoft.MachineLearningServices/workspaces/{workspace}"
)
FILES = f"{HERE}/api/2.0/mlflow-artifacts/artifacts"

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(state: WorkspaceState) -> list[Route]:
    book = Book.of(state)
    artifacts = Artifacts(state, book)
    endpoints: list[tuple[str, str, Endpoint]] = [
        *((method, f"{HERE}/api/2.0/mlflow/{path}", answering(book, call)) for (method, path), call in CALLS.items()),
        ("GET", f"{HERE}/ajax-api/2.0/mlflow/metrics/get-history-bulk", answering(book, BULK)),
        ("GET", f"{HERE}/api/2.0/mlflow/artifacts/list", artifacts.of_run),
        ("GET", f"{HERE}/api/2.0/mlflow/logged-models/{{model_id}}/artifacts/directories", artifacts.of_model),
        ("GET", FILES, artifacts.listing),
        ("GET", f"{FILES}/{{path:path}}", artifacts.download),
        ("PUT", f"{FILES}/{{path:path}}", artifacts.upload),
        ("DELETE", f"{FILES}/{{path:path}}", artifacts.delete),
    ]
    served = [Route(path, guarded(endpoint), methods=[method]) for method, path, endpoint in endpoints]
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [*served, Route("/mlflow/{path:path}", guarded(unserved), methods=methods)]


BULK = CALLS["GET", "metrics/get-history-bulk"]


def answering(book: Book, call: Call) -> Endpoint:
    """An endpoint that hands what a client asks to a call."""

    async def endpoint(request: Request) -> Response:
        asked = {**(in_query(request) if request.method == "GET" else await in_body(request)), **named(request)}
        return JSONResponse(await run_in_threadpool(call, book, asked))

    return endpoint


def guarded(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are in MLflow's words."""

    async def safe(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        except WorkspaceError as error:
            return JSONResponse({"error_code": error.code, "message": str(error)}, status_code=error.status)

    return safe


async def unserved(request: Request) -> Response:
    message = f"the local workspace's MLflow does not serve {request.method} {request.url.path}"
    raise WorkspaceError(message, status=404, code="ENDPOINT_NOT_FOUND")


async def in_body(request: Request) -> Body:
    raw = await request.body()
    try:
        asked = json.loads(raw or b"{}")
    except ValueError as error:
        raise invalid(f"the body of the call is no JSON: {error}") from error
    if not isinstance(asked, dict):
        raise invalid("the body of the call is no JSON object")
    return asked


def in_query(request: Request) -> Body:
    """The query's fields; of one that is given several times, all."""
    query = request.query_params
    return {name: values if len(values := query.getlist(name)) > 1 else values[0] for name in query}


def named(request: Request) -> Body:
    """What the path of the call names beside the workspace."""
    return {name: request.path_params[name] for name in ("model_id", "tag_key") if name in request.path_params}
