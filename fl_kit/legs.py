"""Leg: the part of a run that one job and one plan hold for. A run that was changed on its way has several.

A run folder holds the first one at its top, and the later ones in the order in which they came:

    changes/001/   job.json  plan.json  leg.json      leg.json: after which round, among which silos, in which words
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_kit.entries import nearest
from fl_kit.errors import IncompatibleError
from fl_kit.files import make_folder, write_text
from fl_kit.plan import Plan
from fl_kit.planning import next_plan
from fl_kit.silo import Federation

if TYPE_CHECKING:
    from fl_kit.job import Job

CHANGES = "changes"
MAY_CHANGE = (
    "strategy", "rounds", "aggregator", "fraction", "per_round", "min_silos", "retries", "deadline", "grace",
    "evaluate_every", "stop",
)  # fmt: skip
"""Settings of a job that hold for the rounds to come only; the others say what the run is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Leg:
    """What holds for the rounds after one.

    after  the last round that it does not hold for; −1 for the first leg of a run
    silos  who may take part
    words  what was changed, for people; empty for the first leg
    """

    job: "Job"
    plan: Plan
    silos: tuple[str, ...]
    after: int = -1
    words: str = ""

    def announcement(self, federation: Federation) -> dict[str, Any]:
        """What the event of a change says."""
        told = self.job.announcement(federation)
        return {**told, "silos": list(self.silos), "after": self.after, "words": self.words}


def first_leg(job: "Job", plan: Plan, federation: Federation) -> Leg:
    """The leg with which a run begins."""
    return Leg(job=job, plan=plan, silos=federation.names)


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


def keep(folder: Path, number: int, leg: Leg) -> None:
    """Write a run's leg into its folder; it is there once its job.json is."""
    place = folder / part_of(number)
    make_folder(place, durable=True)
    write_text(place / "plan.json", leg.plan.to_json(), durable=True)
    about = {"after": leg.after, "silos": list(leg.silos), "words": leg.words}
    write_text(place / "leg.json", json.dumps(about, indent=1) + "\n", durable=True)
    write_text(place / "job.json", leg.job.to_json(), durable=True)


def part_of(number: int) -> str:
    """Where a leg lies in a run's folder: at its top, or in `changes/001/`."""
    return f"{CHANGES}/{number:03d}/" if number else ""
