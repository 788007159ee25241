"""Engine: what computes the steps of a simulation. Strategies do not know which one does."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fl_kit.execute import Inputs, Outputs
from fl_kit.job import Job
from fl_kit.plan import Step
from fl_kit.protocols import Emit
from fl_kit.silo import Federation
from fl_kit.workbench import Workbench

Runner = Callable[[Step, Inputs, Emit, Callable[[], None]], Outputs]
"""(step, inputs, emit, check) → outputs: where and how one step runs."""

Ahead = tuple[Step, Inputs]
"""A silo's step that will be asked for soon, and what it begins with."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What an engine has to do with, the same for all of a run.

    job         as the run begins; a change of it comes with `Engine.take`
    bench       the run's own: its model and rows, in this process
    threads     torch threads of this process
    workers     how many processes may compute at once, as it was asked for; None leaves it to the engine
    own_load    whether the rows are read by a function of the notebook, which no other process can call
    """

    job: Job
    federation: Federation
    bench: Workbench
    threads: int
    own_load: bool
    workers: int | None = None


class Engine(ABC):
    """Computes the steps of a run, one when it is asked for, or several ahead.

    name         what `InProcess(engine=…)` calls it
    same_bits    whether its bits are those of the exact engine
    bound        how close one is that says no: the most that the parameters of a smooth model differ after 5 rounds,
                 relative to their norm
    works_ahead  whether it wants to hear what is ahead

    >>> run = job.run(federation, on=InProcess(engine="exact"))          # doctest: +SKIP
    """

    name: ClassVar[str]
    same_bits: ClassVar[bool]
    bound: ClassVar[float] = 0.0
    works_ahead: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, simulation: Simulation) -> None:
        """Costs next to nothing; what is dear begins with the first steps."""

    @classmethod
    def refusal(cls, simulation: Simulation) -> str:
        """Why it cannot compute a run, in words that follow "since"; empty if it can."""
        return ""

    @property
    @abstractmethod
    def words(self) -> str:
        """What computes the run, in one line for the event and the run's own table."""

    @abstractmethod
    def take(self, job: Job) -> None:
        """Go on with that job: at the start of the run, and after each change."""

    @abstractmethod
    def ahead(self, steps: Sequence[Ahead], check: Callable[[], None]) -> None:
        """Hear of the silos' steps that will be asked for one by one, in this order; what was ahead before is void.

        A step that is asked for again, after a failure, is computed anew. One that is never asked for is forgotten.
        check  raises Stopped to end the work at its next batch
        """

    @abstractmethod
    def __call__(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        """Run one step, as `fl_kit.execute.run_step` does; raises what that raises."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything, when the run has ended, however it did; a run that is extended begins anew."""
