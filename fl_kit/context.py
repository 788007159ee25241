"""The Context of a step, and the seeded draws of its work."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from fl_kit.batches import DatasetRows
from fl_kit.errors import TaskError
from fl_kit.events import Event, metric_event
from fl_kit.local import evaluate
from fl_kit.messages import Update
from fl_kit.plan import ORCHESTRATOR, Step
from fl_kit.protocols import Emit
from fl_kit.randomness import seeded
from fl_kit.tensors import Tensors
from fl_kit.workbench import Workbench

if TYPE_CHECKING:
    from fl_kit.job import Job

T = TypeVar("T")


VIEW = "view size is not compatible"
"""What torch says of `x.view(…)` on a tensor that does not lie row by row."""


def nothing() -> None:
    """Nobody asked to stop."""


def unheard(event: Event) -> None:
    """Nobody listens."""


@dataclass(kw_only=True)
class StepContext:
    """The Context of one step, on a workbench."""

    job: "Job"
    step: Step
    bench: Workbench
    folder: str = ""
    emit: Emit = unheard
    check: Callable[[], None] = nothing
    seed: int = field(init=False)

    def __post_init__(self) -> None:
        self.seed = self.job.seed
        self.task = self.bench.task
        self.device = self.bench.device
        self.loss = self.bench.loss
        self.measure_loss = self.bench.measure_loss
        self.model = self.bench.model
        self.together = self.bench.together

    def rows(self, split: str) -> Any:
        if self.step.party == ORCHESTRATOR:
            raise TaskError("the orchestrator has no rows: it never reads a silo's data")
        return self.bench.rows(self.step.party, self.folder, split)

    def evaluate(self, params: Tensors) -> Tensors:
        return evaluate(self, params)

    def combine(self, updates: Iterable[Update]) -> Update:
        combined = self.job.aggregator(updates, self)
        for transform in reversed(self.job.transforms):
            combined = transform.on_orchestrator(combined, self)
        return combined

    def tell(self, party: str, metric: str, value: float, round: int) -> None:
        """Emit one figure, measured on the model of that round."""
        self.emit(metric_event(round=round, party=party, metric=metric, value=value))


def computed(ctx: StepContext, work: Callable[[], T]) -> T:
    """What `work` gives, in the fastest way that gives the step's own bits."""
    if ctx.together is not None:  # what is costly has been computed, or will be, for many silos at once
        return with_seeded_draws(ctx, work)
    return in_fast_layout(ctx, lambda: with_seeded_draws(ctx, work))


def in_fast_layout(ctx: StepContext, work: Callable[[], T]) -> T:
    """What `work` gives, with the model's convolutions in the layout in which the CPU is fast at them.

    A model that looks at its tensors as if they lay row by row (`x.view(len(x), -1)` behind a convolution) cannot work
    so; for its silo everything is done anew in the usual layout. Either way is the same on every machine, since it
    follows from the model and the rows.
    """
    party = ctx.step.party
    if party not in ctx.bench.row_by_row:
        try:
            with ctx.model.in_layout(torch.channels_last):
                return work()
        except RuntimeError as error:
            if VIEW not in str(error):
                raise
        ctx.bench.row_by_row.add(party)
        ctx.model.changed()
    return work()


def with_seeded_draws(ctx: StepContext, work: Callable[[], T]) -> T:
    """What `work` gives, with its random operations following from the seed and the step.

    Watching for such operations costs as much as a small step itself. So the first fit on a bench finds out
    whether there are any (for a Dataset, each silo's first), and later ones that have none go unwatched; if one
    turns out to draw after all, it is done again, watched. A task's own fit is always watched.
    """
    rows = ctx.rows("train" if ctx.step.op == "fit" else "test")
    whose = ctx.step.party if isinstance(rows, DatasetRows) else ""
    if not ctx.bench.draws.get(whose, True) and ctx.task.fit is None:
        before = generator_states(ctx.device)
        result = work()
        if all(torch.equal(now, then) for now, then in zip(generator_states(ctx.device), before, strict=True)):
            return result
        del result
        ctx.model.changed()
    with seeded(ctx.seed, ctx.step.id, "operations") as draws:
        result = work()
    if ctx.step.op == "fit":
        ctx.bench.draws[whose] = ctx.bench.draws.get(whose, False) or draws.drew
    return result


def generator_states(device: torch.device) -> list[torch.Tensor]:
    """The states of the global generators; another thread may move them too, which costs a repetition."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states
