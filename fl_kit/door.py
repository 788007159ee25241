"""The doors that updates pass: out of a silo, and in at the orchestrator."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from fl_kit.context import StepContext
from fl_kit.errors import MessageError, QuorumLost, StepFailed
from fl_kit.events import SILO_LEFT_OUT, STEP_FAILED, Event, now
from fl_kit.messages import Update, check_update


def leave(ctx: StepContext, update: Update) -> Update:
    """The silo's door: the update carries its sender's name from here on."""
    return replace(update, silo=ctx.step.party)


def arriving(ctx: StepContext, updates: Iterable[Update], arrived: list[str]) -> Iterator[Update]:
    """The orchestrator's door: each update is checked before it counts, and enough must arrive.

    arrived  hears of each silo whose update counts

    A malformed update is left out where the job has a quorum. Raises MessageError where it has none, and
    QuorumLost where too few arrived.
    """
    private = ctx.job.strategy.private(ctx.model.module)
    trainable = {name: p.detach() for name, p in ctx.model.trainable.items() if name not in private}
    moving = {name: buffer for name, buffer in ctx.model.moving_buffers.items() if name not in private}
    buffers = {"buffers": moving} if moving else {}
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
