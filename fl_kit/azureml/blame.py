"""What made a pipeline fail, and whether another try may mend it."""

from collections import Counter
from collections.abc import Iterable, Sequence

from fl_kit.azureml.verdicts import NO_WORD, Verdict
from fl_kit.errors import FlKitError, MessageError, QuorumLost, StepFailed
from fl_kit.events import STEP_FAILED, Event
from fl_kit.job import Job
from fl_kit.plan import ORCHESTRATOR, Step


class Losses:
    """How often each step of a run was lost, over all its pipelines; `retries` of the job says how often it may be.

    A silo's step that fails by itself is tried again inside its own command. One that was lost cannot do so, nor can
    one whose update was damaged on the way and is refused by the orchestrator's: the run submits its round again.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.times: Counter[str] = Counter()

    def count(self, verdicts: Iterable[Verdict], events: Sequence[Event] = ()) -> None:
        """Note those of one pipeline's last phase."""
        self.times.update(verdict.step.id for verdict in verdicts if verdict.lost or refused(verdict, events))

    def try_again(self, verdicts: Sequence[Verdict], events: Sequence[Event]) -> list[Verdict]:
        """The lost steps for whose sake the pipeline's last phase is to run again; none if that is of no use.

        It is not where a step failed by itself, unless it only may not lack others; nor where one was lost too often.
        """
        lost = [verdict for verdict in verdicts if verdict.lost or refused(verdict, events)]
        if any(self.stubborn(verdict, events) for verdict in verdicts):
            return []
        return [] if any(self.times[verdict.step.id] > self.job.retries for verdict in lost) else lost

    def stubborn(self, verdict: Verdict, events: Sequence[Event]) -> bool:
        """Whether a step would fail again, and the round with it."""
        if verdict.lost or refused(verdict, events):
            return False
        if verdict.step.party != ORCHESTRATOR:
            return self.job.min_silos is None
        told = failure_of(events)
        return told is None or not isinstance(told.value, dict) or told.value["kind"] != QuorumLost.__name__

    def note(self, lost: Sequence[Verdict], round: int) -> str:
        """What a run says when it submits a round again for these steps' sake."""
        which = "; ".join(f"{v.step.party}, step {v.step.op!r}: {v.message}" for v in lost)
        number = max(self.times[verdict.step.id] for verdict in lost)
        return f"round {round} is submitted again (retry {number} of {self.job.retries}): {which}"

    def cure(self, event: Event | None, verdicts: Iterable[Verdict], run: str, round: int) -> str:
        """What a user can do about a run that a lost step ended; nothing to say about one that failed by itself."""
        blamed = [v for v in verdicts if v.lost and event is not None and identity(v.step) == identity(event)]
        if not blamed:
            return ""
        again = f"`AzureML(client).resume({run!r})` goes on from round {round}"
        if self.job.retries:
            return f". The step was lost {self.times[blamed[0].step.id]} times; {again}"
        return f". The step did not do this itself: {again}, and with Job(retries=1) a run does so by itself"


def refused(verdict: Verdict, events: Iterable[Event]) -> bool:
    """Whether it is the orchestrator's step, which would not take what it was sent."""
    told = failure_of(events) if verdict.step.party == ORCHESTRATOR else None
    return told is not None and isinstance(told.value, dict) and told.value["kind"] == MessageError.__name__


def failure_of(events: Iterable[Event], verdicts: Iterable[Verdict] = ()) -> Event | None:
    """The event that tells why a pipeline failed: the orchestrator's own, else the first of a silo.

    Where verdicts are known, only steps that failed in the end count, not those that a second attempt mended.
    """
    final = {identity(verdict.step) for verdict in verdicts}
    failures = [event for event in events if event.name == STEP_FAILED]
    failures = [event for event in failures if identity(event) in final] or failures
    return next((e for e in reversed(failures) if e.party == ORCHESTRATOR), failures[0] if failures else None)


def identity(of: Step | Event) -> tuple[int, str, str]:
    """(round, party, op) of a step, or of the step whose failure an event tells."""
    if isinstance(of, Step):
        return of.round, of.party, of.op
    value = of.value
    assert isinstance(value, dict)
    return of.round, of.party, str(value["step"])


def error_of(event: Event | None, first: Step, more: str = "") -> FlKitError:
    """The error that a failed run raises; `first` is named if nothing is known, `more` is what the user can do."""
    if event is None:
        return StepFailed(NO_WORD + more, op=first.op, silo=first.party, round=first.round)
    value = event.value
    assert isinstance(value, dict)
    if value["kind"] == QuorumLost.__name__:
        return QuorumLost(str(value["message"]) + more)
    return StepFailed(
        str(value["message"]) + more,
        op=str(value["step"]),
        silo=event.party,
        round=event.round,
        kind=str(value["kind"]),
        detail=str(value["detail"]),
    )
