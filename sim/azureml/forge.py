"""Warm processes: a server that has imported torch forks one for each step, in tens of milliseconds."""

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sim.azureml.errors import WorkspaceError
from sim.azureml.processes import Ended, Launch, kill_group

WARM = ("torch", "torch._dynamo", "numpy", "safetensors.torch", "pandas")
"""What the server imports beforehand, as far as it is installed: what most steps import, some of it only when they
first go backward through a model or make an optimizer."""

READ_AT_IMPORT = ("OMP_", "MKL_", "KMP_", "OPENBLAS_", "NUMEXPR_", "PYTHON", "LD_", "TORCH", "CUDA_", "NVIDIA_")
"""Variables that take effect while Python or torch start; a step that sets one differently starts cold."""

HANDLED = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"})
"""Of these, the ones that the server itself heeds in a warm process."""

AGAIN = 0.05
"""Seconds after which a process that was killed and has not ended is killed again."""

INTERPRETERS = frozenset({"python", "python3"})


@dataclass(frozen=True, kw_only=True)
class Call:
    """One plain call of Python: where, with which further variables, and what follows `python`.

    path  what is put before PYTHONPATH, relative to the folder
    """

    folder: str = "."
    path: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...]


class Forge:
    """The warm process server, started when it is first needed and again if it dies; safe for threads.

    variables  the environment in which it starts; see READ_AT_IMPORT
    """

    def __init__(self, variables: Mapping[str, str], modules: tuple[str, ...] = WARM) -> None:
        self._variables = dict(variables)
        self._modules = modules
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._waiting: dict[int, ForgedProcess] = {}
        self._next = 0

    def start(self) -> None:
        """Start the server if it does not run; it imports while others go on."""
        with self._lock:
            self._start()

    def launch(self, launch: Launch) -> "ForgedProcess":
        """Start a process; raises WorkspaceError if the server cannot be reached."""
        call, view = python_call(launch.command), launch.view
        if call is not None and not self.warm_for({**launch.variables, **call.variables}):
            call = None
        request = {
            "command": launch.command,
            "call": call and {**vars(call)},
            "folder": str(launch.folder),
            "variables": dict(launch.variables),
            "log": str(launch.log),
            "unpacked": {str(archive): str(folder) for archive, folder in launch.unpacked.items()},
            "view": view and {name: [*map(str, paths)] for name, paths in vars(view).items()},
        }
        process = ForgedProcess()
        with self._lock:
            channel = self._start()
            self._next += 1
            self._waiting[self._next] = process
            try:
                channel.sendall(json.dumps({**request, "id": self._next}).encode() + b"\n")
            except OSError as error:
                del self._waiting[self._next]
                message = f"the warm process server is gone: {error.strerror}"
                raise WorkspaceError(message, status=500, code="InternalError") from error
        return process

    def warm_for(self, variables: Mapping[str, str]) -> bool:
        """Whether a step with these variables may start from what is imported already."""
        return all(
            self._variables.get(name) == value
            for name, value in variables.items()
            if name.startswith(READ_AT_IMPORT) and name not in HANDLED
        )

    def close(self) -> None:
        """End the server and every process that it started."""
        with self._lock:
            server, channel = self._server, self._channel
            self._server = self._channel = None
        if channel is not None:
            with contextlib.suppress(OSError):  # the thread that listens may just have closed it
                channel.shutdown(socket.SHUT_RDWR)
        if server is not None:
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def _start(self) -> socket.socket:
        if self._server is not None and self._server.poll() is None and self._channel is not None:
            return self._channel
        ours, theirs = socket.socketpair()
        script = Path(__file__).with_name("forge_server.py")
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(script), str(theirs.fileno()), *self._modules],
            pass_fds=[theirs.fileno()],
            env=self._variables,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self._channel = ours
        threading.Thread(target=self._listen, args=(ours,), name="forge", daemon=True).start()
        return ours

    def _listen(self, channel: socket.socket) -> None:
        """Hear which processes began and ended, until the server is gone."""
        with channel.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                process = self._waiting.get(message.get("id", 0))
                if process is not None and "pid" in message:
                    process.began(message["pid"])
                elif process is not None:
                    self._waiting.pop(message["id"]).ended.set(message["code"])
        channel.close()
        for key in list(self._waiting):
            process = self._waiting.pop(key)
            process.began(0)
            process.ended.set(-9)


class ForgedProcess:
    """A process of the server's."""

    def __init__(self) -> None:
        self.ended = Ended()
        self._began = threading.Event()
        self._leader = 0

    def began(self, leader: int) -> None:
        self._leader = leader
        self._began.set()

    def wait(self, seconds: float) -> int | None:
        return self.ended.wait(seconds)

    def kill(self) -> None:
        self._began.wait()
        while self._leader and self.ended.code is None:
            kill_group(self._leader)  # one that was forked just now leads no group yet
            self.ended.wait(AGAIN)
        self.ended.wait()


def can_fork() -> bool:
    """Whether a warm server works here: Linux, where forking a process that has imported torch is safe."""
    return sys.platform == "linux" and hasattr(os, "fork")


def python_call(command: str) -> Call | None:
    """The call that a command is, if it is one plain call of a module or script of Python; None for any other.

    It may begin with `cd <folder> &&`, with more of a path, and with variables, as in
    `cd bundle && PYTHONPATH=$PWD/fl_kit.zip:$PYTHONPATH A=1 python -m fl_kit.step …`.
    """
    line = re.sub(r"\\\r?\n", " ", command).strip()
    folder, path, variables = ".", (), {}
    if match := re.match(r"cd\s+([\w./-]+)\s*&&\s*", line):
        folder, line = match[1], line[match.end() :]
    if match := re.match(r"PYTHONPATH=((?:\$PWD/[\w./-]+:)+)\$PYTHONPATH\s+", line):
        path, line = tuple(re.findall(r"\$PWD/([^:]+):", match[1])), line[match.end() :]
    while match := re.match(r"([A-Za-z_]\w*)=([\w./:-]*)\s+", line):
        variables[match[1]], line = match[2], line[match.end() :]
    if re.search(r"[\n\r;&|<>$`*?~#(){}\[\]!]", line):
        return None
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    rest = words[2:] if words[1:2] == ["-u"] else words[1:]
    known = (rest[:1] == ["-m"] and len(rest) > 1) or (bool(rest) and rest[0].endswith(".py") and rest[0][0] != "-")
    if not known or words[0] not in INTERPRETERS:
        return None
    return Call(folder=folder, path=path, variables=variables, arguments=tuple(rest))
