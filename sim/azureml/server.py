"""The workspace's web server: routes of each part, one door that checks who calls, one shape of error."""

from collections.abc import Awaitable, Callable
from importlib import import_module

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sim.azureml.errors import WorkspaceError
from sim.azureml.state import WorkspaceState

PARTS = ("identity", "arm", "jobs", "history", "blobs", "mlflow")
"""Modules of this package; each has `routes(state) -> list[Route]`."""


def application(state: WorkspaceState) -> Starlette:
    """The ASGI application of a workspace. What no part serves is answered with a 404 that names the call."""
    routes = [route for part in PARTS for route in import_module(f"sim.azureml.{part}").routes(state)]
    app = Starlette(routes=[*routes, Route("/{path:path}", unknown, methods=METHODS)])
    app.add_exception_handler(WorkspaceError, refuse)  # type: ignore[arg-type]  # starlette wants Exception
    return app


METHODS = ["GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"]


async def unknown(request: Request) -> Response:
    raise WorkspaceError(f"the local workspace does not serve {request.method} {request.url.path}", code="NotServed")


async def refuse(request: Request, error: WorkspaceError) -> Response:
    return JSONResponse({"error": {"code": error.code, "message": str(error)}}, status_code=error.status)


Handler = Callable[[Request], Awaitable[Response]]
