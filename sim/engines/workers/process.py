"""One worker, from the side of the process that started it."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import sim
from fl_kit.errors import MessageError
from fl_kit.messages import Memory
from fl_kit.plan import to_dict
from sim.engines.workers.parcels import taken_apart
from sim.engines.workers.shared import Shelf
from sim.engines.workers.tasks import Task
from sim.engines.workers.wire import Wire

AREAS = 2
"""Places for a worker's outputs: one is read while the next step's are put into the other."""
DEEP = 2
"""Steps that a worker may have at once: the second is there when the first is done."""
PATIENCE = 10.0
"""Seconds that a worker has to end by itself."""


class WorkerProcess:
    """A worker's process, the steps that it has, and its places in the shared memory.

    number    its own, never used again
    shelf     this process's view of the shared memory
    heard     called with the worker and each of its messages
    lost      called with the worker and its exit code, when it has ended
    """

    def __init__(
        self,
        number: int,
        shelf: Shelf,
        hello: dict[str, Any],
        heard: "Heard",
        lost: "Lost",
    ) -> None:
        self.number = number
        self.shelf = shelf
        self.ready = False
        self.tasks: deque[Task] = deque()
        self.full: list[Task] = []
        """Steps that it has done, whose outputs are in its areas until they are asked for."""
        self.held: set[str] = set()
        """Areas whose tensors were handed over, and may still be looked at."""
        self._freed: SimpleQueue[str] = SimpleQueue()
        self._sent = 0
        root = str(Path(sim.__file__).parents[1])
        search = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        threads = str(hello["settings"]["threads"])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sim.engines.workers.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            start_new_session=True,  # an interrupt is meant for the notebook
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.wire = Wire(self.process.stdout, self.process.stdin)
        self.send("hello", **hello)
        for place in range(AREAS):
            self.send("area", area=f"out-{number}-{place}")
        self._thread = threading.Thread(
            target=self._listen, args=(heard, lost), name=f"fl-kit worker {number}", daemon=True
        )
        self._thread.start()

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message; a worker that is gone is heard of by the thread that listens to it."""
        try:
            self.wire.send(kind, **fields)
        except (OSError, ValueError):  # ValueError: its pipe is closed
            return

    def give(self, task: Task) -> None:
        """Send a step; raises OSError where there is no room for the silo's memory."""
        memory, packed = task.inputs.get("memory"), None
        if isinstance(memory, Memory):
            described, tensors = taken_apart({"memory": memory})
            packed = [described, self.shelf.put(f"in-{self.number}-{self._sent % DEEP}", tensors)]
        self._sent += 1
        self.tasks.append(task)
        data = str(task.inputs.get("data", ""))
        self.send("step", number=task.number, step=to_dict(task.step), data=data, memory=packed)

    def hold(self, area: str) -> "Callable[[], None] | None":
        """What is to be called when the tensors of an area are gone; None if they are not to be kept there.

        One area always goes round, so that an aggregator that keeps every update does not keep the worker waiting.
        """
        if len(self.held) >= AREAS - 1:
            return None
        self.held.add(area)
        freed = self._freed
        return lambda: freed.put(area)  # from any thread, at any moment: so it takes no lock

    def give_back(self) -> None:
        """Let the worker use again what nobody looks at any more."""
        while not self._freed.empty():
            area = self._freed.get()
            self.held.discard(area)
            self.send("area", area=area)

    def end(self) -> None:
        """End the process, at its next batch if that comes soon."""
        if not self.ready:  # it is still loading torch, and has nothing to lose
            self.process.kill()
        self.send("goodbye")
        self.wire.hang_up()

    def wait(self) -> None:
        """Until it has ended; it is killed if that takes too long."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._thread.join(PATIENCE)

    def _listen(self, heard: "Heard", lost: "Lost") -> None:
        try:
            while (message := self.wire.receive()) is not None:
                heard(self, message)
        except (MessageError, KeyError, TypeError, ValueError):  # what says such a thing cannot be believed
            self.process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        code = self.process.wait()
        self.wire.hang_up()
        lost(self, code)


def ended_by(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was ended by signal {-code}"


Heard = Callable[[WorkerProcess, dict[str, Any]], None]
Lost = Callable[[WorkerProcess, int], None]
