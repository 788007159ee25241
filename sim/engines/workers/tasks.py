"""The steps of a round that are computed ahead, and what came of each."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fl_kit.errors import StepFailed
from fl_kit.events import Event
from fl_kit.execute import Inputs, Outputs
from fl_kit.messages import Memory, Update
from fl_kit.plan import Step
from fl_kit.protocols import Emit
from sim.engines.workers.shared import bytes_of


@dataclass(kw_only=True)
class Result:
    """What came of a step: its outputs or its failure, and what it said meanwhile."""

    outputs: Outputs | None = None
    failure: StepFailed | None = None
    events: Sequence[Event] = ()
    said: str = ""

    def deliver(self, emit: Emit) -> Outputs:
        """The outputs, after all that was said; raises the failure."""
        if self.said:
            sys.stdout.write(self.said)
        for event in self.events:
            emit(event)
        if self.failure is not None:
            raise self.failure
        assert self.outputs is not None
        return self.outputs

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(map(size_of, (self.outputs or {}).values()))


@dataclass(kw_only=True, eq=False)
class Task:
    """A silo's step that will be asked for.

    number   counts all the steps of a run; later ones are asked for later
    deaths   how many processes ended while they computed it
    done     what a worker said of it, when it is done
    result   what came of it, where this process computed it
    here     whether this process computes it
    """

    number: int
    step: Step
    inputs: Inputs
    deaths: int = 0
    done: "Done | None" = None
    result: Result | None = None
    here: bool = False


@dataclass(frozen=True, kw_only=True)
class Done:
    """A worker's message that a step is done, and whose it is."""

    worker: Any
    message: dict[str, Any] = field(repr=False)


def size_of(message: Any) -> int:
    if isinstance(message, Update):
        return bytes_of(message.delta) + sum(map(bytes_of, message.extra.values()))
    return sum(map(bytes_of, message.tensors.values())) if isinstance(message, Memory) else 0
