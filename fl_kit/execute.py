"""run_step: the only caller of an algorithm, and the door through which every shared update leaves."""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from fl_kit.batches import EVALUATION_BATCH, DatasetRows, call
from fl_kit.errors import FlKitError, MessageError, QuorumLost, StepFailed, Stopped, TaskError
from fl_kit.events import GLOBAL, SILO_LEFT_OUT, STEP_FAILED, Event, metric_event, now
from fl_kit.local import evaluate
from fl_kit.messages import Memory, Message, State, Update, check_update
from fl_kit.metrics import ratio
from fl_kit.model_state import ModelState
from fl_kit.plan import ORCHESTRATOR, Step
from fl_kit.protocols import Emit
from fl_kit.randomness import seeded
from fl_kit.standardize import apply_sums, measured_sums, standardizers
from fl_kit.task import traceback_from
from fl_kit.tensors import Tensors
from fl_kit.workbench import Workbench

if TYPE_CHECKING:
    from fl_kit.job import Job

Inputs = Mapping[str, Any]
Outputs = dict[str, Message]


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


def run_step(
    job: "Job",
    step: Step,
    inputs: Inputs,
    bench: Workbench,
    *,
    emit: Emit = unheard,
    check: Callable[[], None] = nothing,
) -> Outputs:
    """Run one step of a plan; gives its outputs by name.

    inputs  "data": the silo's folder; "state": a State; "memory": a Memory or None; "updates": the silos'
            updates one by one in silo order, which may be made while they are read
    emit    hears the figures of the step
    check   raises Stopped to end the step at its next batch

    Raises StepFailed with op, silo and round, whose cause is what went wrong; Stopped as it is.
    """
    try:
        ctx = StepContext(job=job, step=step, bench=bench, folder=inputs.get("data", ""), emit=emit, check=check)
        return OPS[step.op](ctx, inputs)
    except (Stopped, StepFailed, QuorumLost):
        raise
    except (Exception, SystemExit) as error:  # a task that exits would otherwise pass for a step that succeeded
        known = isinstance(error, FlKitError)
        message = str(error) if known else f"{type(error).__name__}: {error}{user_line(error, job)}"
        detail = error.detail if isinstance(error, FlKitError) else traceback_from(error, job.task.file)
        kind = type(error).__name__
        raise StepFailed(message, op=step.op, silo=step.party, round=step.round, kind=kind, detail=detail) from error


def user_line(error: BaseException, job: "Job") -> str:
    """Where in the task's own source the error arose, as ` (file, line n: text)`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == job.task.file:
            return f" ({job.task.name}.py, line {frame.lineno}: {frame.line})"
    return ""


def measure(ctx: StepContext, inputs: Inputs) -> Outputs:
    """In a silo, before round 1: the sums that Standardize needs."""
    module, rows = ctx.model.module, ctx.rows("train")
    for standardizer in standardizers(module).values():
        standardizer.measure()
    module.eval()
    with torch.no_grad(), seeded(ctx.seed, ctx.step.id, "operations"):
        for batch, _ in rows.batches(EVALUATION_BATCH):
            call(module, batch)
    return {"update": leave(ctx, Update(delta={}, weight=float(len(rows)), extra=measured_sums(module)))}


def init(ctx: StepContext, inputs: Inputs) -> Outputs:
    """At the orchestrator: state 0, the shared start."""
    module = ctx.bench.first_model()
    if not any(p.requires_grad for p in module.parameters()):
        raise TaskError(f"{ctx.task.name}.model() has nothing to train: no parameter has requires_grad=True")
    if standardizers(module):
        sums = list(inputs["updates"])
        check_quorum(ctx, [update.silo for update in sums])
        apply_sums(module, (update.extra for update in sums))
    params = ModelState(module, torch.device("cpu")).snapshot()
    return {"state": ctx.job.strategy.init(params, ctx)}


def fit(ctx: StepContext, inputs: Inputs) -> Outputs:
    """In a silo: measure the global model on arrival, then train from it."""
    state, memory = inputs["state"], inputs.get("memory")
    sums, (update, kept) = with_seeded_draws(
        ctx, lambda: (arrival_sums(ctx, state, memory), ctx.job.strategy.fit(state, memory, ctx))
    )
    update = replace(update, metrics={**sums, **update.metrics})
    for transform in ctx.job.transforms:
        update = transform.on_silo(update, ctx)
    outputs: Outputs = {"update": leave(ctx, update)}
    if "memory" in ctx.step.outputs:
        outputs["memory"] = kept or Memory()
    return outputs


def arrival_sums(ctx: StepContext, state: State, memory: Memory | None) -> Tensors:
    every = ctx.job.evaluate_every
    return ctx.job.strategy.evaluate(state, memory, ctx) if every and state.round % every == 0 else {}


T = TypeVar("T")


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


def aggregate(ctx: StepContext, inputs: Inputs) -> Outputs:
    """At the orchestrator: the next state, and the figures that the silos sent along."""
    state = inputs["state"]
    figures = Figures(ctx, measured_round=state.round)
    arrived: list[str] = []
    after = ctx.job.strategy.aggregate(state, figures.noting(arriving(ctx, inputs["updates"], arrived)), ctx)
    figures.tell_global()
    return {"state": replace(after, counted={**state.counted, **dict.fromkeys(arrived, ctx.step.round)})}


def evaluate_step(ctx: StepContext, inputs: Inputs) -> Outputs:
    """In a silo, after the last round: measure the final model."""
    sums = with_seeded_draws(ctx, lambda: ctx.job.strategy.evaluate(inputs["state"], inputs.get("memory"), ctx))
    return {"update": leave(ctx, Update(delta={}, weight=0.0, metrics=sums))}


def report(ctx: StepContext, inputs: Inputs) -> Outputs:
    """At the orchestrator: the figures of the final model."""
    figures = Figures(ctx, measured_round=ctx.step.round)
    for _ in figures.noting(inputs["updates"]):
        ...
    figures.tell_global()
    return {}


OPS: dict[str, Callable[[StepContext, Inputs], Outputs]] = {
    "measure": measure,
    "init": init,
    "fit": fit,
    "aggregate": aggregate,
    "evaluate": evaluate_step,
    "report": report,
}


def leave(ctx: StepContext, update: Update) -> Update:
    """The silo's door: the update carries its sender's name from here on."""
    return replace(update, silo=ctx.step.party)


def arriving(ctx: StepContext, updates: Iterable[Update], arrived: list[str]) -> Iterator[Update]:
    """The orchestrator's door: each update is checked before it counts, and enough must arrive.

    arrived  hears of each silo whose update counts

    A malformed update is left out where the job has a quorum. Raises MessageError where it has none, and
    QuorumLost where too few arrived.
    """
    trainable = {name: p.detach() for name, p in ctx.model.trainable.items()}
    buffers = {"buffers": ctx.model.moving_buffers} if ctx.model.moving_buffers else {}
    for update in updates:
        try:
            length = check_update(update, trainable, buffers)
        except MessageError as error:
            if ctx.job.min_silos is None:
                raise MessageError(f"the update of {update.silo}: {error}") from error
            ctx.emit(left_out(update.silo, ctx.step.round, f"malformed update: {error}"))
            continue
        arrived.append(update.silo)
        yield replace(update, metrics={**update.metrics, "update_norm": float64(length, 1.0)})
        del update  # or it would live on while the next silo trains
    check_quorum(ctx, arrived)


def check_quorum(ctx: StepContext, arrived: Sequence[str]) -> None:
    expected = list(ctx.step.updates)
    needed = len(expected) if ctx.job.min_silos is None else ctx.job.min_silos
    if len(arrived) < needed:
        missing = ", ".join(silo for silo in expected if silo not in arrived)
        raise QuorumLost(
            f"round {ctx.step.round}: {len(arrived)} of {len(expected)} silos delivered, {needed} are needed; "
            f"missing: {missing}. Mend them, then resume the run"
        )


def failed(failure: StepFailed) -> Event:
    """The event that one attempt of a step failed."""
    value = {"step": failure.op, "kind": failure.kind, "message": failure.message, "detail": failure.detail}
    return Event(time=now(), round=failure.round, party=failure.silo, name=STEP_FAILED, value=value)


def left_out(silo: str, round: int, reason: str) -> Event:
    """The event that a silo does not count in a round."""
    return Event(time=now(), round=round, party=silo, name=SILO_LEFT_OUT, value=reason)


def float64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Figures:
    """The metric sums of arriving updates: told for each silo, added up for the federation."""

    def __init__(self, ctx: StepContext, measured_round: int) -> None:
        self.ctx = ctx
        self.round = measured_round
        self.totals: Tensors = {}

    def noting(self, updates: Iterable[Update]) -> Iterator[Update]:
        """The same updates, while their figures are told."""
        for update in updates:
            for name, sums in update.metrics.items():
                self.totals[name] = self.totals[name] + sums if name in self.totals else sums
                self.tell(update.silo, name, sums)
            yield update
            del update  # or it would live on while the next silo trains

    def tell_global(self) -> None:
        """Tell the federation's figures, from the sums over all silos."""
        for name, sums in self.totals.items():
            self.tell(GLOBAL, name, sums)

    def tell(self, party: str, name: str, sums: torch.Tensor) -> None:
        metric = self.ctx.task.metrics.get(name)
        value = metric.value(sums) if metric else ratio(sums)
        trained = name in ("train_loss", "update_norm")
        self.ctx.tell(party, name, value, self.ctx.step.round if trained else self.round)
