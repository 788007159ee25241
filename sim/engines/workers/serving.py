"""What a worker does: it runs the steps that it is sent, as any process does, and hands their outputs back."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fl_kit.errors import FlKitError, MessageError, StepFailed, Stopped
from fl_kit.events import Event
from fl_kit.execute import Inputs, Outputs, run_step
from fl_kit.job import Job
from fl_kit.messages import State
from fl_kit.plan import from_dict
from fl_kit.workbench import Workbench
from sim.allocator import warm_allocator
from sim.engines.workers import settings
from sim.engines.workers.line import Line
from sim.engines.workers.parcels import joined, taken_apart
from sim.engines.workers.shared import Shelf

SAID = 1 << 16
"""Characters that a step's own printing may have; what is more is cut off."""


def serve(line: Line, hello: dict[str, Any]) -> None:
    """Run steps until there are no more."""
    settings.take(hello["settings"])
    server = Server(line)
    line.wire.send("ready")
    with warm_allocator():
        while (message := line.next()) is not None:
            server.hear(message)


class Server:
    """A job's bench, the state of the round, and the steps one after the other."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.shelf = Shelf(Path(line.folder))
        self.job: Job | None = None
        self.bench: Workbench | None = None
        self.state: State | None = None

    def hear(self, message: dict[str, Any]) -> None:
        """Do what a message says."""
        if message["kind"] == "job":
            self._take(message)
        elif message["kind"] == "state":
            found = joined(message["described"], self.shelf.views(message["packed"]))["state"]
            assert isinstance(found, State)
            self.state = found
        elif message["kind"] == "step" and self.job is not None:
            self._step(message)

    def _take(self, message: dict[str, Any]) -> None:
        try:
            job = Job.from_json(message["job"], message["source"], path=message["path"])
            if self.bench is None or self.job is None or made_of(job) != made_of(self.job):
                self.bench = Workbench(job.task, seed=job.seed, device="cpu")
            self.bench.bundle = message["bundle"]
            self.job = job
        except FlKitError as error:
            self.line.wire.send("unable", why=str(error))

    def _step(self, message: dict[str, Any]) -> None:
        """Run one step and say what came of it."""
        number, events = message["number"], list[list[Any]]()
        said = io.StringIO()

        def check() -> None:
            if self.line.is_void(number):
                raise Stopped("nobody waits for this step any more")

        def tell(kind: str, **fields: Any) -> None:
            printed = {"events": events, "said": said.getvalue()[:SAID]}
            self.line.wire.send(kind, number=number, **printed, **fields)

        try:
            check()
            with contextlib.redirect_stdout(said):
                outputs = self._run(message, lambda event: events.append(told(event)), check)
            tell("done", **self._handed_over(outputs))
        except Stopped:
            tell("void")
        except StepFailed as failure:
            own = {name: getattr(failure, name) for name in ("message", "op", "silo", "round", "kind", "detail")}
            tell("failed", failure=own)
        except (MessageError, OSError) as error:  # of the sharing; what a step itself raises is a StepFailed
            tell("unshared", why=str(error))

    def _run(self, message: dict[str, Any], emit: Callable[[Event], None], check: Callable[[], None]) -> Outputs:
        assert self.job is not None
        assert self.bench is not None
        step = from_dict(message["step"])
        inputs: dict[str, Any] = {"data": message["data"], "memory": None}
        if "state" in step.inputs:
            inputs["state"] = self.state
        if message["memory"] is not None:
            described, packed = message["memory"]
            inputs |= joined(described, self.shelf.views(packed))
        found: Inputs = inputs
        return run_step(self.job, step, found, self.bench, emit=emit, check=check)

    def _handed_over(self, outputs: Outputs) -> dict[str, Any]:
        """Put a step's outputs where the other process sees them, as soon as there is a place."""
        described, tensors = taken_apart(outputs)
        area = self.line.areas.get()
        if not area:
            raise Stopped("nobody is there to take it")
        try:
            return {"described": described, "packed": self.shelf.put(area, tensors)}
        except (MessageError, OSError):
            self.line.areas.put(area)
            raise


def made_of(job: Job) -> tuple[Any, ...]:
    """What a bench is made of; with the same, rows and model are kept."""
    return job.task, job.task.path, job.seed


def told(event: Event) -> list[Any]:
    """An event as plain data."""
    return [event.time, event.round, event.party, event.name, event.value]
