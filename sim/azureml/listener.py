"""The server of a workspace in a thread of this process: HTTPS on 127.0.0.1."""

import socket
import threading
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sim.azureml.errors import WorkspaceError
from sim.azureml.server import application
from sim.azureml.state import WorkspaceState
from sim.azureml.tls import TLSFiles

START_SECONDS = 60.0
GRACE_SECONDS = 2
"""What a call that is still being answered gets when the workspace stops."""


class Listener:
    """Answers calls from when it is made until `close`."""

    def __init__(self, state: WorkspaceState, files: TLSFiles, bound: socket.socket) -> None:
        config = uvicorn.Config(
            application(state),
            ssl_certfile=files.certificate,
            ssl_keyfile=files.key,
            loop="asyncio",
            http=H11Protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._socket = bound
        self._server = Server(config)
        self._thread = threading.Thread(target=self._serve, name=f"local workspace {state.settings.url}", daemon=True)
        self._thread.start()
        end = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise WorkspaceError(f"the server at {state.settings.url} did not start", status=503)
            time.sleep(0.005)

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Answer no more calls; returns when the port is free."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


class Server(uvicorn.Server):
    """Cuts connections that nobody uses at once when it stops; clients keep them open for minutes."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            cycle: Any = getattr(connection, "cycle", None)  # uvicorn says that there always is one, and there is not
            if isinstance(connection, H11Protocol) and (cycle is None or cycle.response_complete):
                connection.transport.abort()
        await super().shutdown(sockets)


def bind(port: int) -> socket.socket:
    """A socket on loopback: on that port if it is free, else on one that the system chooses (so for 0)."""
    # Asyncio sends small answers at once (TCP_NODELAY) only if the protocol is named: 2 ms for a call instead of 42.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.bind(("127.0.0.1", 0))
    return bound
