"""Who is who: the cloud's metadata document, the endpoint that hands out tokens, and the discovery of addresses.

The token endpoint is the one that an AzureML compute has: the variables MSI_ENDPOINT and MSI_SECRET lead
`DefaultAzureCredential` to it.
"""

import hmac
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sim.azureml.errors import WorkspaceError
from sim.azureml.state import Settings, WorkspaceState
from sim.azureml.tokens import bearer, mac

TOKEN_MINUTES = 60


def routes(state: WorkspaceState) -> list[Route]:
    """The calls that a client makes before it has a token, and discovery."""

    async def metadata(request: Request) -> Response:
        return JSONResponse([cloud(state.settings)])

    async def token(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("secret", "").encode(), identity_secret(state).encode()):
            message = "the header `secret` is not the workspace's MSI_SECRET"
            raise WorkspaceError(message, status=401, code="AuthenticationFailed")
        resource = request.query_params.get("resource", "")
        if not resource:
            raise WorkspaceError("the query names no `resource`", status=400, code="InvalidRequest")
        return JSONResponse(
            {
                "access_token": bearer(state, resource, TOKEN_MINUTES),
                "expires_on": str(int(time.time()) + TOKEN_MINUTES * 60),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    async def discovery(request: Request) -> Response:
        url = state.settings.url
        return JSONResponse({"api": url, "history": url, "experimentation": url, "catalog": url})

    return [
        Route("/metadata/endpoints", metadata, methods=["GET"]),
        Route("/msi/token", token, methods=["GET"]),
        Route("/discovery", discovery, methods=["GET"]),
    ]


def identity_secret(state: WorkspaceState) -> str:
    """MSI_SECRET: who knows it may ask for tokens. It stays the same over a restart."""
    return mac(state, "identity").hex()


def cloud_name(settings: Settings) -> str:
    """The cloud's name; clients keep clouds by name for as long as a process lives, so each address has its own."""
    return f"FlKitLocal{settings.port}"


def cloud(settings: Settings) -> dict[str, Any]:
    """This workspace as a cloud, as Azure Resource Manager describes clouds.

    The SDK takes the portal's host without its first two labels for the audience of its tokens.
    """
    return {
        "name": cloud_name(settings),
        "portal": "https://portal.azureml.localhost/",
        "resourceManager": f"{settings.url}/",
        "authentication": {"loginEndpoint": f"{settings.url}/login/"},
        "suffixes": {"storage": "localhost"},
    }
