"""The doors that updates pass: out of a silo, and in at the orchestrator."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from fl_kit.context import StepContext
from fl_kit.errors import MessageError, QuorumLost, StepFailed
from fl_kit.events import NOTE, SILO_LEFT_OUT, STEP_FAILED, Event, now
from fl_kit.messages import Origin, State, Update
from fl_kit.plan import Step
from fl_kit.update_form import SumsForm, UpdateForm

SHORT = 12
"""So many digits of a sha256 tell two apart in an error."""


def leave(ctx: StepContext, update: Update, state: State | None = None) -> Update:
    """The silo's door: the update carries its sender's name, and where it comes from, from here on.

    state  what the step began with

    Raises MessageError for an update of a training step that is malformed, so that the step is tried again.
    """
    origin = Origin(step=ctx.step.id, start=state, bundle=ctx.bench.bundle)
    named = replace(update, silo=ctx.step.party, origin=origin)
    if ctx.step.op == "fit" and not (state and ctx.job.is_enough(state)):
        object.__setattr__(named, "norm", form_norm(ctx, named))  # frozen for all but this door
    return named


def expected(ctx: StepContext, updates: Iterable[Update], state: State | None = None) -> Iterator[Update]:
    """The first gate of the orchestrator's door: each update is of this round, this state, this bundle and its silo.

    state  what the round began with

    An update without an origin counts: it was made by hand, in this process (`fl_kit.step` reads none from a folder).
    Any other is left out where the job has a quorum; raises MessageError where it has none. Of an update that is
    delivered twice, which does no harm, the first one counts, and a note tells of it.
    """
    seen: set[str] = set()
    for update in updates:
        if update.silo in seen:
            twice = f"{update.silo}, round {ctx.step.round}: its update was delivered twice; the first one counts"
            ctx.emit(Event(time=now(), round=ctx.step.round, party=update.silo, name=NOTE, value=twice))
            continue
        if why := unexpected(ctx, update, state):
            refuse(ctx, update.silo, MessageError(why), "update refused")
            continue
        seen.add(update.silo)
        yield update
        del update  # or it would live on while the next silo trains


def unexpected(ctx: StepContext, update: Update, state: State | None) -> str:
    """Why an update is none of those that this step waits for, and what to do; empty if it is one."""
    silo, origin = update.silo, update.origin
    if origin is None:
        return ""
    source = ctx.step.inputs.get(f"update/{silo}")  # not `updates`, which is made anew for each of a thousand silos
    if source is None:
        return f"{silo!r} has no step in round {ctx.step.round} whose update is waited for; see run.plan"
    wanted = source.partition(":")[0]
    again = f"Let {silo} run {wanted} again: resume the run"
    if origin.step != wanted:
        return f"it was made by {origin.step}, not by {wanted}: {kind_of_mix_up(origin.step, wanted)}. {again}"
    if not origin.began_with(state):
        ours = state.sha256 if state else ""
        return (
            f"it was made from the state {origin.state[:SHORT] or 'none'}…, and round {ctx.step.round} began with "
            f"{ours[:SHORT] or 'none'}…: the silo trained another model. {again}"
        )
    if origin.bundle != ctx.bench.bundle:
        return (
            f"it was made under the bundle {origin.bundle[:SHORT] or 'none'}…, and this run's is "
            f"{ctx.bench.bundle[:SHORT] or 'none'}…: other code or settings. {again} with this run's bundle"
        )
    return ""


def kind_of_mix_up(found: str, wanted: str) -> str:
    """What became of an update that another step made: `swapped between silos`, or `stale or replayed`."""
    ours, theirs = (step.split("/") for step in (wanted, found))
    if ours[1:2] != theirs[1:2]:
        return "swapped between silos"
    return "stale or replayed, of another round" if ours[:1] != theirs[:1] else "of another step"


def arriving(ctx: StepContext, updates: Iterable[Update], arrived: list[str], state: State) -> Iterator[Update]:
    """The orchestrator's door: each update is checked before it counts, and enough must arrive.

    arrived  hears of each silo whose update counts
    state    what the round began with

    An update of another round, state or bundle, and a malformed one, is left out where the job has a quorum. Raises
    MessageError where it has none, and QuorumLost where too few arrived.
    """
    for update, length in wellformed(ctx, updates, state):
        arrived.append(update.silo)
        yield replace(update, metrics={**update.metrics, "update_norm": float64(length, 1.0)})
        del update  # or it would live on while the next silo trains
    check_quorum(ctx, arrived)


def wellformed(
    ctx: StepContext, updates: Iterable[Update], state: State | None = None
) -> Iterator[tuple[Update, float]]:
    """The `expected` updates of the form that the step waits for, each with the norm of its delta; others as there."""
    form, sums = form_of(ctx), SumsForm(ctx.task)
    for update in expected(ctx, updates, state):
        try:
            length = form.norm(update)
            sums.check(update.metrics)
        except MessageError as error:
            refuse(ctx, update.silo, error, "malformed update")
            continue
        yield update, length
        del update


def check_arrival(ctx: StepContext, update: Update, state: State) -> None:
    """Raise MessageError for an update that `arriving` would refuse, so that there is time to ask for another."""
    if why := unexpected(ctx, update, state):
        raise MessageError(why)
    form_of(ctx).norm(update)


def form_of(ctx: StepContext) -> UpdateForm:
    """The form of the updates that the step takes, or makes; worked out once for all silos of a job."""
    job, form = ctx.bench.forms.get(ctx.step.op, (None, None))
    if job is not ctx.job:
        form = UpdateForm.of(ctx.job, ctx.step, ctx.model)
        ctx.bench.forms[ctx.step.op] = ctx.job, form
    return form  # type: ignore[no-any-return]  # the bench stands below the doors


def form_norm(ctx: StepContext, update: Update) -> float:
    """The norm of the update's delta; raises MessageError for an update that is malformed."""
    try:
        return form_of(ctx).norm(update)
    except MessageError as error:
        raise MessageError(f"malformed update: {error}") from error


def refuse(ctx: StepContext, silo: str, error: MessageError, what: str) -> None:
    """Leave a silo out of the round, or raise MessageError where the job has no quorum; its step has failed then."""
    ctx.emit(refused(ctx.step, silo, f"{what}: {error}"))
    if ctx.job.min_silos is None:
        raise MessageError(f"the update of {silo}: {error}") from error
    ctx.emit(left_out(silo, ctx.step.round, f"{what}: {error}"))


def refused(step: Step, silo: str, message: str) -> Event:
    """The event that a silo's step has failed, since the orchestrator's step refused what it made."""
    op = step.updates.get(silo, step.id).partition(":")[0].rpartition("/")[2]
    return failed(StepFailed(message, op=op, silo=silo, round=step.round, kind=MessageError.__name__))


def check_quorum(ctx: StepContext, arrived: Sequence[str]) -> None:
    waited_for = list(ctx.step.updates)
    needed = len(waited_for) if ctx.job.min_silos is None else ctx.job.min_silos
    if len(arrived) < needed:
        missing = ", ".join(silo for silo in waited_for if silo not in arrived)
        raise QuorumLost(
            f"round {ctx.step.round}: {len(arrived)} of {len(waited_for)} silos delivered, {needed} are needed; "
            f"missing: {missing}. Mend them, then resume the run"
        )


def failed(failure: StepFailed, time: float | None = None) -> Event:
    """The event that one attempt of a step failed; `time` defaults to now."""
    value = {"step": failure.op, "kind": failure.kind, "message": failure.message, "detail": failure.detail}
    return Event(
        time=now() if time is None else time, round=failure.round, party=failure.silo, name=STEP_FAILED, value=value
    )


def left_out(silo: str, round: int, reason: str) -> Event:
    """The event that a silo does not count in a round."""
    return Event(time=now(), round=round, party=silo, name=SILO_LEFT_OUT, value=reason)


def float64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)
