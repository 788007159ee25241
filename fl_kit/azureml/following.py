"""Follows the pipelines of a run, one after the other, and tells what happens in them."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from fl_kit.azureml.blame import identity
from fl_kit.azureml.phases import Phase
from fl_kit.azureml.polling import Feed, Patience
from fl_kit.azureml.submission import Submission
from fl_kit.azureml.submissions import Submissions
from fl_kit.azureml.verdicts import Verdict, verdict, verdicts
from fl_kit.errors import TrackingError
from fl_kit.events import NOTE, SILO_LEFT_OUT, STEP_FAILED, Event, now
from fl_kit.reporting import ABSENT, crowded

Answer = TypeVar("Answer")
Tell = Callable[[str, float, Any], None]
"""(name, when, value): appends an event of the run's life."""


class Follower:
    """What a run's thread asks the workspace while pipelines go on.

    events  of the run, to which what is heard is added
    tell    for what the run itself has to say
    hurry   wakes it before it would look again by itself
    """

    def __init__(self, submissions: Submissions, events: list[Event], tell: Tell, hurry: threading.Event) -> None:
        self._submissions = submissions
        self._server = submissions.workspace.tracking()
        self._events = events
        self._tell = tell
        self._hurry = hurry

    def follow(self, submission: Submission) -> Feed:
        """Tell the events of a pipeline until it ends."""
        leg = self._submissions.legs[submission.leg]
        feed = Feed(
            self._server,
            submission.job,
            self._submissions.phases_of(submission.leg),
            submission.first,
            submission.last,
            series=crowded(leg.job, len(leg.plan.silos)),
            early=self._submissions.early,
        )
        patience, before = Patience(), len(self._events)
        while not feed.ended:
            found = self._asked(feed.poll, patience)
            patience.answered(anything=bool(found))
            self._events.extend(self._explained(found, submission, before))
            self._submissions.early = feed.early
            if not feed.ended:
                self._pause(patience)
        if lost := feed.silent_rounds():
            which = ", ".join(map(str, lost))
            self._tell(NOTE, feed.end_time, f"figures are missing: the steps of round {which} could not reach MLflow")
        return feed

    def verdicts(self, feed: Feed, submission: Submission, before: int) -> list[Verdict]:
        """What AzureML says of the steps that failed in the phase that was the last to run; told as far as it is new.

        A step that was lost may have told of an earlier attempt, so its loss is told all the same.

        before  how many events there were when the pipeline began
        """
        heard = {identity(event) for event in self._events[before:] if event.name == STEP_FAILED}
        last = self._submissions.of(submission)[min(feed.done + 1, submission.last - 1) - submission.first :]
        found = self._asked_verdicts(submission, last)
        if not found and feed.ended == "failed":  # no step's fault: what AzureML says of the pipeline itself
            ask = partial(verdict, self._submissions.workspace, submission.job, feed.failed.steps[-1])
            found = [self._asked(ask, Patience())]
        strict = self._submissions.legs[submission.leg].job.min_silos is None
        self._events += [
            each.event(feed.end_time) for each in found if identity(each.step) not in heard or (each.lost and strict)
        ]
        return found

    def _asked(self, ask: Callable[[], Answer], patience: Patience) -> Answer:
        """What the workspace answers, in the end: a failure that may pass is told once, and borne for a while."""
        while True:
            try:
                return ask()
            except passing_errors() as error:
                if problem := patience.failed(error):
                    self._tell(NOTE, now(), problem)
            self._pause(patience)

    def _pause(self, patience: Patience) -> None:
        time.sleep(patience.pause()) if self._hurry.is_set() else self._hurry.wait(patience.pause())

    def _explained(self, found: Iterable[Event], submission: Submission, before: int) -> Iterator[Event]:
        """The events with the reason why a silo is left out: its step's own, or before it what AzureML says of it."""
        found = list(found)
        told = [e for e in (*self._events[before:], *found) if e.name == STEP_FAILED and isinstance(e.value, dict)]
        heard = {(e.round, e.party): str(e.value["message"]) for e in told if isinstance(e.value, dict)}
        for event in found:
            absent = event.name == SILO_LEFT_OUT and event.value == ABSENT
            if absent and (event.round, event.party) in heard:
                yield replace(event, value=heard[event.round, event.party])
            elif absent:
                of_round = [phase for phase in self._submissions.of(submission) if phase.round == event.round]
                own = [v for v in self._asked_verdicts(submission, of_round) if v.step.party == event.party]
                yield from (each.event(event.time) for each in own[:1])
                yield replace(event, value=own[0].message) if own else event
            else:
                yield event

    def _asked_verdicts(self, submission: Submission, phases: Sequence[Phase]) -> list[Verdict]:
        """Verdicts on some phases; none, with a note, if the workspace refuses to give any."""
        ask = partial(verdicts, self._submissions.workspace, submission.job, phases)
        try:
            return self._asked(ask, Patience())
        except passing_errors() as error:
            self._tell(NOTE, now(), f"the workspace does not say why a step failed: {error}")
            return []


def passing_errors() -> tuple[type[Exception], ...]:
    """What may be over in a while: the network, a token that cannot be renewed just now."""
    from azure.core.exceptions import AzureError

    return (TrackingError, AzureError)
