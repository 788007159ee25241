"""run_step: the only caller of an algorithm, wherever a step runs."""

import math
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from fl_kit.batches import EVALUATION_BATCH, call
from fl_kit.context import StepContext, computed, nothing, unheard
from fl_kit.deadline import Deadline
from fl_kit.door import arriving, check_quorum, leave, wellformed
from fl_kit.errors import FlKitError, QuorumLost, StepFailed, Stopped, TaskError
from fl_kit.events import STOPPED_EARLY, Event, now
from fl_kit.figures import Figures
from fl_kit.messages import Memory, Message, State, Update
from fl_kit.model_state import ModelState
from fl_kit.plan import ORCHESTRATOR, Step
from fl_kit.protocols import Emit
from fl_kit.randomness import seeded
from fl_kit.standardize import apply_sums, measured_sums, standardizers, to_measure
from fl_kit.task import traceback_from
from fl_kit.tensors import Tensors
from fl_kit.workbench import Workbench

if TYPE_CHECKING:
    from fl_kit.job import Job

Inputs = Mapping[str, Any]
Outputs = dict[str, Message]


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
    deadline = None if step.party == ORCHESTRATOR else Deadline(job, step, bench.clock)
    check = deadline.holding(check) if deadline else check
    try:
        ctx = StepContext(job=job, step=step, bench=bench, folder=inputs.get("data", ""), emit=emit, check=check)
        outputs = OPS[step.op](ctx, inputs)
        if deadline:
            deadline.refuse_late(emit)
        return outputs
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
    if ctx.job.init is not None:
        ctx.job.init.load_into(module)
    if measured := to_measure(module, given=ctx.job.init is not None):
        sums = [update for update, _ in wellformed(ctx, inputs["updates"])]
        check_quorum(ctx, [update.silo for update in sums])
        apply_sums(measured, (update.extra for update in sums))
    params = ModelState(module, torch.device("cpu")).snapshot()
    return {"state": ctx.job.strategy.init(params, ctx)}


def fit(ctx: StepContext, inputs: Inputs) -> Outputs:
    """In a silo: measure the global model on arrival, then train from it."""
    state, memory = inputs["state"], inputs.get("memory")
    if ctx.job.is_enough(state):
        return passed_on(ctx, state, memory)
    sums, (update, kept) = computed(
        ctx, lambda: (arrival_sums(ctx, state, memory), ctx.job.strategy.fit(state, memory, ctx))
    )
    update = replace(update, metrics={**sums, **update.metrics})
    for transform in ctx.job.transforms:
        update = transform.on_silo(update, ctx)
    outputs: Outputs = {"update": leave(ctx, update, state)}
    if "memory" in ctx.step.outputs:
        outputs["memory"] = kept or Memory()
    return outputs


def passed_on(ctx: StepContext, state: State, memory: Memory | None) -> Outputs:
    """What a silo gives after the job has stopped early: nothing to add, and its memory as it is."""
    outputs: Outputs = {"update": leave(ctx, Update(delta={}, weight=0.0), state)}
    return {**outputs, "memory": memory or Memory()} if "memory" in ctx.step.outputs else outputs


def arrival_sums(ctx: StepContext, state: State, memory: Memory | None) -> Tensors:
    every = ctx.job.evaluate_every
    return ctx.job.strategy.evaluate(state, memory, ctx) if every and state.round % every == 0 else {}


def aggregate(ctx: StepContext, inputs: Inputs) -> Outputs:
    """At the orchestrator: the next state, and the figures that the silos sent along."""
    state = inputs["state"]
    if ctx.job.is_enough(state):
        return {"state": state}
    figures = Figures(ctx, measured_round=state.round)
    arrived: list[str] = []
    after = ctx.job.strategy.aggregate(state, figures.noting(arriving(ctx, inputs["updates"], arrived, state)), ctx)
    figures.tell_global()
    counted = {**state.counted, **dict.fromkeys(arrived, ctx.step.round)}
    return {"state": enough(ctx, figures, replace(after, counted=counted, watched=state.watched))}


def enough(ctx: StepContext, figures: Figures, after: State) -> State:
    """The state after a round, marked as the last one if the job's stop rule says so.

    The figures that a round brings are those of the model that it started from: the rule looks back by one round.
    """
    rule = ctx.job.stop
    value = figures.of_federation(rule.metric) if rule else None
    if rule is None or value is None or math.isnan(value):
        return after
    watched = (*after.watched, value)
    why = rule.why(watched, ctx.task.sign(rule.metric))
    if why:
        said = f"stopped early after round {after.round}: {why}"
        ctx.emit(Event(time=now(), round=after.round, party=ORCHESTRATOR, name=STOPPED_EARLY, value=said))
    return replace(after, watched=watched, done=bool(why))


def evaluate_step(ctx: StepContext, inputs: Inputs) -> Outputs:
    """In a silo, after the last round: measure the final model."""
    sums = computed(ctx, lambda: ctx.job.strategy.evaluate(inputs["state"], inputs.get("memory"), ctx))
    return {"update": leave(ctx, Update(delta={}, weight=0.0, metrics=sums), inputs["state"])}


def report(ctx: StepContext, inputs: Inputs) -> Outputs:
    """At the orchestrator: the figures of the final model."""
    figures = Figures(ctx, measured_round=inputs["state"].round)
    for _ in figures.noting(update for update, _ in wellformed(ctx, inputs["updates"], inputs["state"])):
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
