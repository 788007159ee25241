"""The exact engine: one step after the other, in this process. Its bits define those of all others."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from fl_kit.execute import Inputs, Outputs, run_step
from fl_kit.job import Job
from fl_kit.plan import Step
from fl_kit.protocols import Emit
from sim.engines.engine import Ahead, Engine, Simulation


class Exact(Engine):
    """Runs each step when it is asked for, on the run's own bench.

    why  the reason for it, where another one was asked for
    """

    name: ClassVar[str] = "exact"
    same_bits: ClassVar[bool] = True
    works_ahead: ClassVar[bool] = False

    def __init__(self, simulation: Simulation, why: str = "") -> None:
        self._job = simulation.job
        self._bench = simulation.bench
        self._why = why

    @property
    def words(self) -> str:
        return f"exact: one silo after the other{f', since {self._why}' if self._why else ''}"

    def take(self, job: Job) -> None:
        self._job = job

    def ahead(self, steps: Sequence[Ahead], check: Callable[[], None]) -> None:
        """It computes nothing ahead."""

    def __call__(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        return run_step(self._job, step, inputs, self._bench, emit=emit, check=check)

    def close(self) -> None:
        """It holds nothing."""
