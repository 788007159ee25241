"""Which parts of a job go together: refused before anything runs, saying why and what to use instead.

Each function raises IncompatibleError, or returns.
"""

import math
from collections.abc import Sequence

from fl_kit.entries import nearest
from fl_kit.errors import IncompatibleError
from fl_kit.plan import Plan
from fl_kit.protocols import Aggregator, StopRule, Strategy, Transform
from fl_kit.task import Task


def check_participation(fraction: object, per_round: int | None, min_silos: int | None) -> None:
    """A fraction that is none, or settings that contradict one another."""
    number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    if fraction is not None and not (number and 0 < fraction <= 1):  # type: ignore[operator]  # it is a number
        raise IncompatibleError(f"Job(fraction={fraction!r}): must be a number above 0 and at most 1")
    if fraction is not None and per_round is not None:
        raise IncompatibleError(
            f"Job(fraction={fraction}, per_round={per_round}): both say how many silos take part; give one"
        )
    if per_round is not None and min_silos is not None and min_silos > per_round:
        raise IncompatibleError(f"Job(min_silos={min_silos}, per_round={per_round}): more must deliver than take part")


def check_deadline(deadline: object, grace: object) -> None:
    """Seconds that are none, or a grace that nothing comes before."""
    if deadline is not None and not (is_seconds(deadline) and deadline > 0):  # type: ignore[operator]  # it is a number
        raise IncompatibleError(f"Job(deadline={deadline!r}): must be a number of seconds above 0, or None")
    if not (is_seconds(grace) and grace >= 0):  # type: ignore[operator]  # it is a number
        raise IncompatibleError(f"Job(grace={grace!r}): must be a number of seconds of at least 0")
    if grace and deadline is None:
        raise IncompatibleError(f"Job(grace={grace:g}): it begins at the deadline, so give deadline too")


def is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_schedule(strategy: Strategy, rounds: int) -> None:
    """A schedule that ends before the job does."""
    schedule = getattr(strategy, "lr", None)
    if isinstance(schedule, tuple) and len(schedule) < rounds:
        raise IncompatibleError(
            f"{called(strategy)}(lr=…): a schedule of {len(schedule)} rounds for a job of {rounds}: "
            "give one learning rate a round"
        )


def check_own_fit(task: Task, strategy: Strategy) -> None:
    """A task with its own `fit`, under a strategy that has to see the training."""
    if task.fit is None:
        return
    if strategy.corrects_gradients:
        raise IncompatibleError(
            f"{called(strategy)} changes the silo's gradients or counts them, and the task {task.name!r} brings its "
            "own fit(), which would ignore that: use FedAvg, or remove fit() from the task"
        )
    if getattr(strategy, "optimizer_state", "reset") == "kept":
        raise IncompatibleError(
            f"{called(strategy)}(optimizer_state='kept'): the task {task.name!r} brings its own fit(), whose optimiser "
            "fl-kit does not see: remove fit() from the task, or leave out optimizer_state"
        )


def check_transforms(strategy: Strategy, aggregator: Aggregator, transforms: Sequence[Transform]) -> None:
    """A transform that hides single updates from a strategy or an aggregator that has to read them."""
    hiding = [called(transform) for transform in transforms if transform.hides_individuals]
    if hiding and strategy.inspects_individuals:
        raise IncompatibleError(
            f"{called(strategy)} changes single updates before they are combined, and {hiding[0]} hides them: "
            f"use FedAvg, or drop {hiding[0]}"
        )
    if hiding and aggregator.inspects_individuals:
        raise IncompatibleError(
            f"{called(aggregator)} compares single updates, and {hiding[0]} hides them: use Mean, or drop {hiding[0]}"
        )


def check_means(strategy: Strategy, aggregator: Aggregator) -> None:
    """An aggregator that gives no exact mean to a strategy whose equations need one."""
    if not aggregator.is_mean and strategy.needs_mean:
        raise IncompatibleError(
            f"{called(strategy)} needs exact means, and {aggregator} gives something else, so its equations would no "
            "longer hold: use aggregator=Mean(), or FedAvg or FedProx with this aggregator"
        )


def check_stop(rule: StopRule | None, task: Task, evaluate_every: int) -> None:
    """A stop rule that could never say anything."""
    if rule is None:
        return
    known = ["loss", *task.metrics]
    if rule.metric not in known:
        raise IncompatibleError(
            f"{called(rule)} watches {rule.metric!r}, which the task {task.name!r} does not measure"
            f"{nearest(rule.metric, known)}"
        )
    if evaluate_every == 0:
        raise IncompatibleError(
            f"{called(rule)} needs figures of rounds, and evaluate_every=0 measures the last one only"
        )


def check_rounds(plan: Plan, strategy: Strategy, aggregator: Aggregator, min_silos: int | None) -> None:
    """A quorum or an aggregator that cannot do with the silos of each round."""
    drawn = min((len(step.updates) for step in plan.steps if step.op == "aggregate"), default=0)
    if drawn and min_silos is not None and min_silos > drawn:
        raise IncompatibleError(
            f"Job(min_silos={min_silos}): in {called(strategy)}'s plan only {drawn} of {len(plan.silos)} silos take "
            "part in a round"
        )
    if drawn:
        aggregator.check(plan.silos, drawn=drawn, least=drawn if min_silos is None else min(min_silos, drawn))


def called(part: object) -> str:
    """A part by its class, as people write it."""
    return type(part).__name__
