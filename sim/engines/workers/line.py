"""The worker's end of the wire."""

import os
import queue
import shutil
import threading
from typing import Any

from sim.engines.workers.wire import Wire

GRACE = 5.0
"""Seconds in which a step may come to its next batch, when it was told to stop."""
LOOK = 2.0
"""Seconds between two looks at whether the process that started this one is still there."""


class Line:
    """The worker's end of the wire: a thread listens, so that what is void or over is heard while a step runs."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.areas: queue.LifoQueue[str] = queue.LifoQueue()
        """Where outputs may be put; the one that was last let go of is the first to be used again."""
        self.folder = ""
        self._void = 0
        self._over = self._goodbye = False
        self._idle = threading.Event()
        self._parent = os.getppid()

    def listen(self) -> None:
        """Until the other end hangs up; then the process ends, at its next batch or without it."""
        try:
            while (message := self.wire.receive()) is not None:
                self._hear(message)
        finally:
            self._over = True
            self.inbox.put(None)
            self.areas.put("")
            self._idle.wait(GRACE)
            self.leave()

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "void":
            self._void = int(message["upto"])
        elif kind == "area":
            self.areas.put(str(message["area"]))
        elif kind == "goodbye":
            self._goodbye = True
        else:
            self.inbox.put(message)

    @property
    def is_over(self) -> bool:
        """Whether the other end is gone."""
        return self._over or os.getppid() != self._parent

    def is_void(self, number: int) -> bool:
        """Whether nobody waits for that step any more."""
        return number <= self._void or self.is_over

    def next(self) -> dict[str, Any] | None:
        """The next message; None when there will be none."""
        while not self.is_over:
            try:
                return self.inbox.get(timeout=LOOK)
            except queue.Empty:
                continue
        return None

    def leave(self) -> None:
        """End the process at once."""
        if not self._goodbye and self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(0)

    def rest(self) -> None:
        """Say that no step runs, and end."""
        self._idle.set()
        self.leave()
