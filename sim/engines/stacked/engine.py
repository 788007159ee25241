"""The stacked engine: a round's silos in chunks, each one tensor program."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from fl_kit.batches import TensorRows
from fl_kit.context import StepContext
from fl_kit.errors import StepFailed, Stopped
from fl_kit.events import ENGINE, Event, now
from fl_kit.execute import Inputs, Outputs, run_step
from fl_kit.job import Job
from fl_kit.plan import ORCHESTRATOR, Step
from fl_kit.protocols import Emit
from sim.engines.engine import Ahead, Engine, Simulation
from sim.engines.stacked.chunk import Asked, Chunk, Facts
from sim.engines.stacked.reasons import Unstackable, in_brief, job_refusal
from sim.engines.stacked.rows import bytes_of

TOGETHER = ("fit", "evaluate")
"""The silos' steps that are computed together."""
BUDGET = 256 << 20
"""Bytes that a chunk may take. Fixed, so that the same job makes the same chunks on every machine."""
MOST = 256
"""Silos of a chunk: with more the calls no longer count, and what they touch leaves the CPU's caches."""
MODELS = 8
"""So many times a silo's parameters are held at once: as they began, now, gradients, the optimiser's and the rest."""


class Stacked(Engine):
    """Trains many silos as one tensor program: for small models, whose steps cost calls rather than arithmetic.

    Close to the exact engine, not the same bits: sums are taken in another order. After 5 rounds of a smooth model in
    float32 the parameters differ by at most 1e-5 of their norm. Where a rounding turns a ReLU or a max-pooling to its
    other side, a row's gradient jumps, and longer training may drift further apart, as it does between two machines.
    Run again, or resumed, on the same machine it gives the same bits as itself.

    What it cannot honour is computed exactly, and the event "run/engine" says why: models that draw random numbers in
    training or change their buffers, rows of a Dataset, losses with a term of the strategy's own, and others.
    """

    name: ClassVar[str] = "stacked"
    same_bits: ClassVar[bool] = False
    bound: ClassVar[float] = 1e-5

    def __init__(self, simulation: Simulation) -> None:
        self._job, self._bench, self._federation = simulation.job, simulation.bench, simulation.federation
        self._facts = Facts()
        self._steps: list[Ahead] = []
        self._places: dict[str, int] = {}
        self._chunk: Chunk | None = None
        self._ends, self._size = 0, 0
        self._why, self._untold = "", False
        self._told: list[str] = []

    @classmethod
    def refusal(cls, simulation: Simulation) -> str:
        return job_refusal(simulation.job, simulation.federation)

    @property
    def words(self) -> str:
        if self._why:
            return f"exact: one silo after the other, since {self.name} cannot do it here: {self._why}"
        some = f"; some silos one after the other, since {'; '.join(self._told)}" if self._told else ""
        return f"stacked: many silos as one tensor program, close to the exact engine{some}"

    def take(self, job: Job) -> None:
        self._job = job
        why, self._why = self._why, job_refusal(job, self._federation)
        self._untold = self._why != "" and self._why != why

    def ahead(self, steps: Sequence[Ahead], check: Callable[[], None]) -> None:
        self._steps = [(step, inputs) for step, inputs in steps if step.op in TOGETHER]
        self._places = {step.id: place for place, (step, _) in enumerate(self._steps)}
        self._chunk, self._ends, self._size = None, 0, 0

    def __call__(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        if self._untold:
            self._tell(step, emit)
        # a step that is asked for again has failed before: then it is computed alone
        place = None if self._why else self._places.pop(step.id, None)
        if place is not None and not self._job.is_enough(inputs["state"]):
            try:
                outputs = self._together(place, step, inputs, emit, check)
            except Unstackable as error:
                self._say(error, step, emit)
                outputs = None
            if outputs is not None:
                return outputs
        return run_step(self._job, step, inputs, self._bench, emit=emit, check=check)

    def _together(
        self, place: int, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]
    ) -> Outputs | None:
        """The step as one of a chunk's; None where its chunk is computed one silo after the other.

        Raises Unstackable where that begins.
        """
        try:
            if place >= self._ends:
                self._begin_chunk(place, check)
            if self._chunk is None:
                return None
            return self._run(self._chunk, step, inputs, emit, check)
        except (Stopped, Unstackable):
            raise
        except StepFailed:  # its own step, with what was computed together: alone it says best what is wrong
            return None
        except (Exception, SystemExit) as error:  # computed alone, the silo at fault raises its own
            raise Unstackable(f"together they fail: {in_brief(error)}") from error
        finally:
            self._bench.together = None

    def _begin_chunk(self, place: int, check: Callable[[], None]) -> None:
        """Compute the silos from that place on; until the chunk ends, none of it is tried again if this fails."""
        self._chunk, self._ends = None, place + 1
        self._size = self._size or self._silos_at_once(*self._steps[place])
        steps = self._steps[place : place + self._size]
        self._ends = place + len(steps)
        chunk = self._bench.together = Chunk(self._job, self._bench, steps, self._facts, check)
        if steps[0][0].op == "fit":
            chunk.compute()
        self._chunk = chunk

    def _run(self, chunk: Chunk, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        """The step with what is known; a strategy that trains again has all silos of the chunk do so."""
        self._bench.together = chunk
        while True:
            chunk.begin()
            try:
                return run_step(self._job, step, inputs, self._bench, emit=emit, check=check)
            except Asked:
                chunk.compute()

    def _say(self, error: Unstackable, step: Step, emit: Emit) -> None:
        """Tell once why silos are computed one after the other."""
        self._chunk = None
        if error.everywhere:
            self._why = error.why
        elif error.why in self._told:
            return
        else:
            self._told.append(error.why)
        self._tell(step, emit)

    def _tell(self, step: Step, emit: Emit) -> None:
        self._untold = False
        emit(Event(time=now(), round=step.round, party=ORCHESTRATOR, name=ENGINE, value=self.words))

    def close(self) -> None:
        self._steps, self._places, self._chunk, self._ends = [], {}, None, 0

    def _silos_at_once(self, step: Step, inputs: Inputs) -> int:
        """How many silos a chunk has, a power of two; raises Unstackable where not even two fit the budget.

        By the federation's first silo, whoever takes part, so that a run that is resumed has the same chunks.
        """
        if step.op != "fit":
            return MOST
        first, params = self._federation.silos[0], inputs["state"].params
        ctx = StepContext(job=self._job, step=replace(step, party=first.name), bench=self._bench, folder=first.data)
        rows, probe = ctx.rows("train"), self._facts.probe(ctx, params)
        assert isinstance(rows, TensorRows)  # any other has been refused
        model = sum(value.numel() * value.element_size() for value in params.values())
        batch = min(getattr(self._job.strategy, "batch_size", len(rows)), len(rows))
        need = MODELS * model + bytes_of(rows) + batch * probe.bytes_per_row
        if 2 * need > BUDGET:
            raise Unstackable(
                f"two silos take {2 * need / 2**20:.3g} MB as one tensor program, and its budget is "
                f"{BUDGET / 2**20:.3g} MB",
                everywhere=True,
            )
        fitting: int = BUDGET // need
        return min(MOST, 1 << fitting.bit_length() - 1)
