"""From a job and a federation to the plan, also for the rest of a run that has begun."""

from inspect import signature
from typing import Any, Protocol

from fl_kit.compositions import called, check_rounds
from fl_kit.errors import IncompatibleError
from fl_kit.participation import Participants, drawn_by
from fl_kit.plan import ORCHESTRATOR, Plan, Step
from fl_kit.protocols import Aggregator, Strategy
from fl_kit.silo import Federation


class Asked(Protocol):
    """A job, as far as a plan follows from it; see `fl_kit.Job`."""

    @property
    def strategy(self) -> Strategy: ...
    @property
    def aggregator(self) -> Aggregator: ...
    @property
    def rounds(self) -> int: ...
    @property
    def min_silos(self) -> int | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def measures(self) -> bool: ...

    def participants(self, silos: int) -> int:
        """How many of so many silos train in each round."""


def first_plan(job: Asked, federation: Federation) -> Plan:
    """Every step of every party; raises as `Job.plan` does."""
    return checked(plan_among(job, federation, federation.names), job)


def next_plan(job: Asked, federation: Federation, silos: tuple[str, ...], before: Plan, after: int) -> Plan:
    """A plan whose rounds up to `after` are those of the plan before, and whose later ones follow from the job.

    silos  who may take part from then on

    Raises IncompatibleError if there is no such plan: the strategy does not let silos be chosen, or the silos would
    have to keep what they did not keep until then.
    """
    begun = until(before, after)
    found = plan_among(job, federation, silos)
    if until(found, after) != begun:
        found = plan_among(job, federation, silos, before={step.round: step for step in begun if step.updates})
    if until(found, after) != begun:
        raise IncompatibleError(
            f"{called(job.strategy)} with these settings would have made other rounds 1 to {after} than the run has "
            "made: they change what its silos keep, or who takes part when; start another run with them"
        )
    return checked(without(found, set(federation.names) - set(silos), later_than=len(begun)), job)


def plan_among(
    job: Asked, federation: Federation, silos: tuple[str, ...], before: dict[int, Step] | None = None
) -> Plan:
    """The strategy's plan in which these silos train, as many a round as the job says.

    before  round → the step that combined it: the silos that took part then are those of its updates
    """
    count = job.participants(len(silos))
    if job.min_silos is not None and job.min_silos > count:
        among = f", of which {count} take part in a round" if count < len(silos) else ""
        raise IncompatibleError(f"Job(min_silos={job.min_silos}) with a federation of {len(silos)} silos{among}")
    some: dict[str, Any] = {}
    if before is not None or count < len(federation):
        if "participants" not in signature(job.strategy.plan).parameters:
            raise IncompatibleError(
                f"{called(job.strategy)}.plan() takes no `participants`, so all silos train in each round: "
                "remove fraction and per_round from the job, or see strategies.rounds.rounds_plan"
            )
        some = {"participants": going_on(before or {}, drawn_by(job.seed, silos, count))}
    return job.strategy.plan(federation, job.rounds, measure=job.measures, **some).check()


def going_on(before: dict[int, Step], drawn: Participants) -> Participants:
    """Who took part in the rounds before, and who is drawn for the later ones."""

    def of_round(round: int) -> tuple[str, ...]:
        return tuple(before[round].updates) if round in before else drawn(round)

    return of_round


def checked(plan: Plan, job: Asked) -> Plan:
    check_rounds(plan, job.strategy, job.aggregator, job.min_silos)
    return plan


def until(plan: Plan, round: int) -> tuple[Step, ...]:
    """The steps up to and with the one that makes the state of a round."""
    made = [i for i, step in enumerate(plan.steps) if "state" in step.outputs and step.round <= round]
    return plan.steps[: made[-1] + 1] if made else ()


def without(plan: Plan, silos: set[str], *, later_than: int) -> Plan:
    """The plan in which these silos have no step after the first so many."""
    if not silos:
        return plan
    rest = (step for step in plan.steps[later_than:] if step.party not in silos)
    return Plan(steps=(*plan.steps[:later_than], *(unheard_of(silos, step) for step in rest))).check()


def unheard_of(silos: set[str], step: Step) -> Step:
    """The step, if it is one of the orchestrator's without the silos' updates."""
    if step.party != ORCHESTRATOR:
        return step
    left = {name: source for name, source in step.inputs.items() if name.removeprefix("update/") not in silos}
    return Step(op=step.op, party=step.party, round=step.round, inputs=left, outputs=step.outputs)
