"""What a worker hands over, taken out of the shared memory or left there while somebody looks at it."""

from typing import Any

from fl_kit.errors import StepFailed
from fl_kit.events import Event
from fl_kit.messages import State
from sim.engines.workers.parcels import joined
from sim.engines.workers.process import WorkerProcess
from sim.engines.workers.shared import Shelf
from sim.engines.workers.tasks import Result

COPIED = 1 << 20
"""Bytes below which an update is copied out of the shared memory, rather than looked at there."""


def received(
    worker: WorkerProcess, message: dict[str, Any], shelf: Shelf, state: State | None, *, here: bool
) -> Result:
    """The outputs of a step; a large update stays where it is, and its place is free again when it is let go of.

    state  what the step began with
    here   whether all is copied into memory of this process

    Raises MessageError, KeyError or TypeError for anything else.
    """
    packed = message["packed"]
    layout = packed["layout"]
    size = layout[-1][3] if layout else 0
    freed = worker.hold(packed["area"]) if size >= COPIED and not here else None
    staying = [row for row in layout if freed is not None and grows(row[0])]
    going = [row for row in layout if freed is None or not grows(row[0])]
    tensors = {name: value.clone() for name, value in shelf.views({**packed, "layout": going}).items()}
    if freed is None:
        worker.send("area", area=packed["area"])
    else:
        tensors |= shelf.views({**packed, "layout": staying}, freed)
    outputs = joined(message["described"], tensors, state)
    return Result(outputs=outputs, events=events_of(message), said=str(message["said"]))


def grows(name: str) -> bool:
    """Whether it is one of an update's tensors that grow with the model; figures are kept beyond the update."""
    return name.startswith("update:") and not name.startswith("update:metrics/")


def failed(message: dict[str, Any]) -> Result:
    """The failure of a step, as the worker met it."""
    return Result(failure=StepFailed(**message["failure"]), events=events_of(message), said=str(message["said"]))


def events_of(message: dict[str, Any]) -> list[Event]:
    return [
        Event(time=time, round=round, party=party, name=name, value=value)
        for time, round, party, name, value in message["events"]
    ]
