"""One process at a time serves a workspace: a lock on a file of its folder, which ends with the process."""

import fcntl
import os
from pathlib import Path

from sim.azureml.errors import WorkspaceError


class Lock:
    """Held between `acquire` and `release`; the file names the process that holds it."""

    def __init__(self, root: Path) -> None:
        self._path = root / "lock"
        self._handle: int | None = None

    def acquire(self) -> None:
        """Hold the lock; raises WorkspaceError (409) that names the process that holds it already."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            message = f"the workspace in {self._path.parent} is running in process {self._path.read_text()}"
            raise WorkspaceError(f"{message}; stop that one, or use another root", status=409) from error
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        self._handle = handle

    def release(self) -> None:
        """Let go; nothing happens if it is not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def holder(self) -> int | None:
        """The process that holds the lock, or None."""
        try:
            handle = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(self._path.read_text())
        finally:
            os.close(handle)
        return None
