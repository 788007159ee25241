"""What may be changed in a run that has begun, and the leg that follows from it."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from fl_kit.entries import nearest
from fl_kit.errors import IncompatibleError
from fl_kit.legs import Leg
from fl_kit.planning import next_plan
from fl_kit.silo import Federation

if TYPE_CHECKING:
    from fl_kit.job import Job

MAY_CHANGE = (
    "strategy", "rounds", "aggregator", "fraction", "per_round", "min_silos", "retries", "deadline", "grace",
    "evaluate_every", "stop",
)  # fmt: skip
"""Settings of a job that hold for the rounds to come only; the others say what the run is."""


def changed(leg: Leg, federation: Federation, after: int, changes: Mapping[str, Any]) -> Leg:
    """The leg that follows another one after a round, with some settings changed.

    changes  settings of the job (`rounds=30`), numbers of its strategy (`lr=0.01`), and `silos`: the names of those
             that take part from then on

    Raises IncompatibleError for what cannot be changed in a run that has begun, or does not fit together.
    """
    silos = chosen(changes["silos"], federation) if "silos" in changes else leg.silos
    job = changed_job(leg.job, {name: value for name, value in changes.items() if name != "silos"})
    if job.rounds <= after:
        raise IncompatibleError(
            f"round {after} is the last of {leg.job.rounds}, so no round is left to change: "
            f"give `rounds` too, as in run.extend(rounds=5{''.join(f', {name}=…' for name in changes)})"
            if job.rounds == leg.job.rounds
            else f"rounds={job.rounds}: round {after} is made already, or being made; give a higher number"
        )
    told = differences(leg, job, silos, federation)
    if not told:
        raise IncompatibleError(
            f"nothing would change: {', '.join(f'{n}={v!r}' for n, v in changes.items())} holds already"
        )
    plan = next_plan(job, federation, silos, leg.plan, after)
    words = f"from round {after + 1} on: {', '.join(told)}"
    return Leg(job=job, plan=plan, silos=silos, after=after, words=words)


def chosen(names: Any, federation: Federation) -> tuple[str, ...]:
    if isinstance(names, str):
        raise IncompatibleError(f"silos={names!r}: must be a list of names, such as [{names!r}]")
    return federation.select([str(name) for name in names]).names


def changed_job(job: "Job", changes: Mapping[str, Any]) -> "Job":
    """The job with other settings, of its own and of its strategy."""
    numbers = {name for name, value in settings(job.strategy).items() if changeable(value)}
    of_job = {name: value for name, value in changes.items() if name in MAY_CHANGE}
    of_strategy = {name: value for name, value in changes.items() if name not in of_job}
    for name, value in of_strategy.items():
        if name not in numbers or not changeable(value):
            raise IncompatibleError(refusal(job, name, numbers))
    strategy: Any = of_job.get("strategy", job.strategy)
    if type(strategy) is not type(job.strategy):
        raise IncompatibleError(
            f"strategy={type(strategy).__name__}(…): a run that {type(job.strategy).__name__} began goes on with it, "
            "since states and memories are its own; change its numbers, or start another job with init=run"
        )
    for name, before in settings(job.strategy).items():
        after = getattr(strategy, name)
        if before != after and not (changeable(before) and changeable(after)):
            raise IncompatibleError(refusal(job, name, numbers))
    rule = of_job.get("stop")
    if rule is not None and job.stop is not None and rule.metric != job.stop.metric:
        raise IncompatibleError(
            f"stop={rule}: the run has watched {job.stop.metric!r} so far, and a rule needs all values of its metric: "
            f"give a rule on {job.stop.metric!r}, or stop=None"
        )
    return replace(job, **{**of_job, "strategy": with_settings(strategy, of_strategy)})


def with_settings(part: Any, values: Mapping[str, Any]) -> Any:
    return replace(part, **values)


def settings(part: Any) -> dict[str, Any]:
    """A job's or a strategy's settings by name."""
    return {each.name: getattr(part, each.name) for each in fields(part) if each.init}


def changeable(value: Any) -> bool:
    """Whether a strategy's setting is a number, a row of them, or absent: what no state or memory is shaped by."""
    if isinstance(value, tuple):
        return all(type(one) in (int, float) for one in value)
    return value is None or type(value) in (int, float)


def refusal(job: "Job", name: str, numbers: set[str]) -> str:
    known = [*sorted(numbers), *MAY_CHANGE, "silos"]
    if name in settings(job) or name in settings(job.strategy):
        return f"{name} cannot be changed in a run that has begun: start another job, perhaps with init=run"
    return f"there is no {name!r} to change{nearest(name, known)}"


def differences(leg: Leg, job: "Job", silos: tuple[str, ...], federation: Federation) -> list[str]:
    """Each setting that differs: `lr 0.1 → 0.01`, `without bern`."""
    parts: list[tuple[Any, Any, str]] = [(leg.job, job, name) for name in MAY_CHANGE if name != "strategy"]
    parts += [(leg.job.strategy, job.strategy, name) for name in settings(job.strategy)]
    values = [(name, getattr(old, name), getattr(new, name)) for old, new, name in parts]
    found = [f"{name} {old} → {new}" for name, old, new in values if old != new]
    gone = [silo for silo in leg.silos if silo not in silos]
    back = [silo for silo in silos if silo not in leg.silos]
    found += [f"without {', '.join(gone)}"] if gone else []
    found += [f"with {', '.join(back)} again"] if back else []
    return found
