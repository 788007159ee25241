"""Parts of a workspace, served over TLS on loopback as the whole is: for tests with the stock clients."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from sim.azureml.errors import WorkspaceError
from sim.azureml.listener import Server
from sim.azureml.server import Door, refuse
from sim.azureml.state import WorkspaceState
from sim.azureml.tls import TLSFiles, tls_files


@contextmanager
def served(state: WorkspaceState, *parts: ModuleType) -> Iterator[TLSFiles]:
    """These parts of a workspace, listening; gives the certificates that a client needs."""
    files = tls_files(state.root / "tls")
    app = Starlette(
        routes=[route for part in parts for route in part.routes(state)],
        middleware=[Middleware(Door, state=state)],
    )
    app.add_exception_handler(WorkspaceError, refuse)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=H11Protocol,
        log_config=None,
        timeout_graceful_shutdown=1,
        ssl_certfile=files.certificate,
        ssl_keyfile=files.key,
    )
    server = Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < until, "the server does not answer"
        time.sleep(0.01)
    state.listening_on(server.servers[0].sockets[0].getsockname()[1])
    yield files
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def new_workspace(root: Path, *datastores: str) -> WorkspaceState:
    """A workspace with some datastores, not yet served."""
    state = WorkspaceState.open(root)
    for name in datastores:
        state.documents.put("datastores", name, body={"name": name})
        state.storage(name).mkdir(parents=True)
    return state
