"""A step's process, plain: a shell that runs the command, in a process group of its own."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class View:
    """What a process may see beside the system and the interpreter: absolute paths, shown where they are.

    code  nothing, or a folder, where it is shown to be changed freely, and an empty folder that takes the changes
    """

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A process to start.

    command    for a shell
    folder     where it starts
    variables  its whole environment
    log        the file that its output is appended to
    view       what it may see, or None for everything
    unpacked   archive of Python modules → a folder of the same with their byte code, from which a warm process imports
    """

    command: str
    folder: Path
    variables: Mapping[str, str]
    log: Path
    view: View | None = None
    unpacked: Mapping[Path, Path] = field(default_factory=dict)


class Process(Protocol):
    """A process that was started."""

    def wait(self, seconds: float) -> int | None:
        """Its exit status, or None if it still runs after some seconds; negative for a signal."""

    def kill(self) -> None:
        """End it and everything that it started."""


class PlainProcess:
    """A shell that runs a launch's command, behind the arguments of a wrapper if one is given."""

    def __init__(self, launch: Launch, wrapper: Sequence[str] = ()) -> None:
        shell = ("/bin/sh", "-c", launch.command) if os.name == "posix" else launch.command
        with launch.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapper, *shell] if os.name == "posix" else shell,
                cwd=launch.folder,
                env=dict(launch.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, seconds: float) -> int | None:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        kill_group(self._process.pid)
        self._process.wait()


def kill_group(leader: int) -> None:
    """Kill a process and its group; nothing happens if they are gone."""
    try:
        if sys.platform == "win32":
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(leader)], capture_output=True, check=False)
        else:
            os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Ended:
    """What is known of a process that somebody else waits for."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._event = threading.Event()

    def set(self, code: int) -> None:
        self.code = code
        self._event.set()

    def wait(self, seconds: float | None = None) -> int | None:
        self._event.wait(seconds)
        return self.code
