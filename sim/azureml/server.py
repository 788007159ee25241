"""The workspace's web server: routes of each part, one door that checks who calls, one shape of error."""

import re
from importlib import import_module

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sim.azureml.errors import WorkspaceError
from sim.azureml.state import Settings, WorkspaceState
from sim.azureml.tokens import check_bearer

PARTS = ("identity", "arm", "jobs", "history", "blobs", "mlflow")
"""Modules of this package; each has `routes(state) -> list[Route]`."""

OPEN = ("/metadata/", "/msi/", "/discovery", "/blob/")
"""Where calls need no bearer token: before there is one, and where the part itself checks a signature."""

METRICS = "/mlflow/"
"""Where a step's own token is good."""

METHODS = ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"]

SCOPE = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)(/resourceGroups/(?P<group>[^/]+)"
    r"(/providers/Microsoft\.MachineLearningServices/workspaces/(?P<workspace>[^/]+))?)?",
    re.IGNORECASE,
)


def application(state: WorkspaceState) -> Starlette:
    """The ASGI application of a workspace. What no part serves is answered with a 404 that names the call."""
    routes = [route for part in PARTS for route in import_module(f"sim.azureml.{part}").routes(state)]
    app = Starlette(
        routes=[*routes, Route("/{path:path}", unknown, methods=METHODS)],
        middleware=[Middleware(Door, state=state)],
    )
    app.add_exception_handler(WorkspaceError, refuse)  # type: ignore[arg-type]  # starlette wants Exception
    app.add_exception_handler(Exception, broken)
    return app


class Door:
    """Lets a call in if it carries a token of this workspace and names no other workspace."""

    def __init__(self, app: ASGIApp, state: WorkspaceState) -> None:
        self.app = app
        self.state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        try:
            if not scope["path"].startswith(OPEN):
                authorization = Request(scope).headers.get("authorization")
                check_bearer(self.state, authorization, step=scope["path"].startswith(METRICS))
                check_scope(self.state.settings, scope["path"])
                check_metrics(self.state, scope["path"])
        except WorkspaceError as error:
            await answer(error)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def check_metrics(state: WorkspaceState, path: str) -> None:
    """Refuse a call for metrics while their server is down on purpose."""
    if path.startswith(METRICS) and state.faults.strikes("metrics down"):
        raise WorkspaceError("the metrics server is down", status=503, code="ServiceUnavailable")


def check_scope(settings: Settings, path: str) -> None:
    """Refuse a path of another subscription, resource group or workspace, as Azure does."""
    match = SCOPE.search(path)
    if match is None:
        return
    subscription, group, workspace = match["subscription"], match["group"], match["workspace"]
    if subscription != settings.subscription:
        message = f"the subscription {subscription!r} could not be found; here is only {settings.subscription!r}"
        raise WorkspaceError(message, code="SubscriptionNotFound")
    if group is not None and group.lower() != settings.resource_group.lower():
        message = f"the resource group {group!r} could not be found; here is only {settings.resource_group!r}"
        raise WorkspaceError(message, code="ResourceGroupNotFound")
    if workspace is not None and workspace != settings.name:
        message = f"the workspace {workspace!r} was not found; here is only {settings.name!r}"
        raise WorkspaceError(message, code="ResourceNotFound")


async def unknown(request: Request) -> Response:
    raise WorkspaceError(f"the local workspace does not serve {request.method} {request.url.path}", code="NotServed")


async def refuse(request: Request, error: WorkspaceError) -> Response:
    return answer(error)


async def broken(request: Request, error: Exception) -> Response:
    """A defect of the workspace: told to the client in one line, and logged by the server with its traceback."""
    message = f"the local workspace failed at {request.method} {request.url.path}: {type(error).__name__}: {error}"
    return answer(WorkspaceError(message, status=500, code="InternalError"))


def answer(error: WorkspaceError) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    body = {"error": {"code": error.code, "message": str(error)}}
    return JSONResponse(body, status_code=error.status, headers=headers)
