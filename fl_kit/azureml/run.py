"""A run on AzureML: the same handle as everywhere, on a pipeline that goes on without this kernel."""

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fl_kit.azureml.polling import Feed, Patience, failure_of
from fl_kit.azureml.submissions import Submission, Submissions
from fl_kit.door import failed
from fl_kit.errors import FlKitError, QuorumLost, StepFailed, StoreError, TrackingError
from fl_kit.events import (
    NOTE,
    ROUND_COMPLETED,
    RUN_COMPLETED,
    RUN_FAILED,
    RUN_RESUMED,
    RUN_STARTED,
    RUN_STOPPED,
    Event,
    now,
)
from fl_kit.messages import State, complete, read
from fl_kit.plan import ORCHESTRATOR, round_name
from fl_kit.reporting import crowded
from fl_kit.run_handle import RunHandle, unexpected

if TYPE_CHECKING:
    pass

NO_LOG = "AzureML ended it, and it left no log: look at the step in the studio"

LIFECYCLE = {"completed": RUN_COMPLETED, "stopped": RUN_STOPPED, "failed": RUN_FAILED}


class AzureMLRun(RunHandle):
    """A run on AzureML; see `fl_kit.protocols.Run`.

    The pipeline runs in the workspace: this handle only watches it, and submits the next chunk where the run is cut
    into several. Another kernel attaches to the same run by its id and sees the same events.

    folder   the run's folder on this machine: what was asked for, what was sent, and the states that were asked for
    """

    def __init__(self, submissions: Submissions) -> None:
        super().__init__(
            run_id=submissions.run_id, job=submissions.job, plan=submissions.plan, federation=submissions.federation
        )
        self.folder = submissions.store.folder
        self._submissions = submissions
        self._events: list[Event] = []
        self._server = submissions.workspace.tracking()

    def watch(self, *, resume: bool = False) -> "AzureMLRun":
        """Begin to follow the pipelines in a thread; gives itself at once.

        resume  submit what is left, if the last pipeline ended before its time
        """
        self._thread = threading.Thread(target=self._work, args=(resume,), name=f"fl-kit run {self.id}", daemon=True)
        self._thread.start()
        return self

    @property
    def rounds_done(self) -> int:
        """The last round that the orchestrator has completed; 0 before the first."""
        return max((event.round for event in self.events() if event.name == ROUND_COMPLETED), default=0)

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the run's pipeline jobs: one, unless it was cut into chunks or resumed."""
        return tuple(made.job for made in self._submissions.made)

    def events(self, after: int = 0) -> list[Event]:
        """Events from position `after` on."""
        return self._events[after:]

    def stop(self) -> None:
        """Cancel the pipeline; rounds that are done stay usable, and `AzureML.resume` goes on from them."""
        if not self._ended.is_set():
            self._stop.set()
            self._submissions.workspace.cancel(self._submissions.made[-1].job)

    def state(self, round: int = -1) -> State:
        """The state after a round, brought here once; −1 is the last one.

        Raises StoreError for a round that is not done, or a datastore that cannot be read from here.
        """
        round = self.rounds_done if round == -1 else round
        place = self.folder / round_name(round) / "state"
        if not complete(place):
            self._download(round)
        return read(State, place)

    def logs(self, party: str, round: int) -> str:
        """What a party's steps of a round have said: a silo's name, or "orchestrator".

        Raises FlKitError if there is no such step, or it has not begun.
        """
        phases = self._submissions.phases
        texts = [text for i in range(len(phases)) if phases[i].round == round for text in self._log(i, party)]
        if not texts:
            raise FlKitError(f"{party} has no log of round {round}: it has no step there, or has not begun it")
        return "\n".join(texts)

    @property
    def kept_in(self) -> str:
        """The pipelines and the workspace."""
        return f"pipeline {', '.join(self.jobs)} in workspace {self._submissions.workspace.name}"

    def _download(self, round: int) -> None:
        """Bring a state here, from the newest submission that made it."""
        sources = [
            f"{phase.steps[-1].id}:state"
            for phase in self._submissions.phases
            if phase.round == round and "state" in phase.steps[-1].outputs
        ]
        place = self.folder / round_name(round) / "state"
        for source in sources:
            for uri in self._submissions.places(source):
                if self._submissions.workspace.download(uri, place) and complete(place):
                    return
        done = f"{self.rounds_done} of {self.plan.rounds} rounds are done"
        raise StoreError(f"run {self.id} has no state of round {round} in its datastore: {done}")

    def _log(self, index: int, party: str) -> Iterator[str]:
        """What a party's steps of a phase have said, in the newest submission that has them."""
        phase = self._submissions.phases[index]
        nodes = {phase.nodes[step.id] for step in phase.steps if step.party == party}
        workspace = self._submissions.workspace
        made = next((m for m in reversed(self._submissions.made) if m.first <= index < m.last), None)
        if made is None or not nodes:
            return
        for group in workspace.children(made.job):
            if group.display_name == phase.name:
                steps = [child for child in workspace.children(group.name) if child.display_name in nodes]
                yield from (workspace.log(step.name) for step in steps)

    def _work(self, resume: bool) -> None:
        """Follow every submission, and submit what is left to submit."""
        try:
            position = 0
            while True:
                submission, before = self._submissions.made[position], len(self._events)
                feed = self._follow(submission)
                position += 1
                if position == len(self._submissions.made) and not self._submit_rest(feed, resume):
                    break
                if feed.ended != "completed":
                    self._tell(LIFECYCLE[feed.ended], feed.end_time)
                resume = False
            if feed.ended == "failed":
                self._error = self._blame(self._events[before:], submission)
            self._end(feed.ended, feed.end_time)
        except BaseException as error:  # noqa: BLE001 - raised again in whoever waits for the run
            self._error = (
                error
                if isinstance(error, FlKitError)
                else unexpected(f"run {self.id} can no longer be followed", error)
            )
            self._end("failed", now())
        finally:
            self._ended.set()

    def _submit_rest(self, feed: Feed, resume: bool) -> bool:
        """Submit what follows a pipeline that has ended; False if nothing is to follow."""
        rest = feed.done + 1 < len(self._submissions.phases)
        if not rest or self._stop.is_set() or not (feed.ended == "completed" or resume):
            return False
        self._submissions.submit(feed.done + 1, resumed=feed.ended != "completed")
        return True

    def _follow(self, submission: Submission) -> Feed:
        """Tell the events of a pipeline until it ends."""
        if submission.number == 1 or submission.resumed:
            self._tell(
                RUN_STARTED if submission.number == 1 else RUN_RESUMED,
                submission.time,
                self.job.announcement(self.federation),
            )
        series = crowded(self.job, len(self.plan.silos))
        phases = self._submissions.phases
        feed = Feed(self._server, submission.job, phases, submission.first, submission.last, series=series)
        patience = Patience()
        while not feed.ended:
            try:
                found = feed.poll()
            except passing_errors() as error:
                if problem := patience.failed(error):
                    self._tell(NOTE, now(), problem)
            else:
                patience.answered(anything=bool(found))
                self._events.extend(found)
            if not feed.ended:
                self._stop.wait(patience.pause()) if not self._stop.is_set() else time.sleep(patience.pause())
        return feed

    def _blame(self, events: list[Event], submission: Submission) -> FlKitError:
        """What made a pipeline fail: what a step told, else what the log of the step that failed ends with."""
        event = failure_of(events)
        if event is None:
            event = failed(unheard(self._submissions, submission))
            self._events.append(event)
        value = event.value
        assert isinstance(value, dict)
        if value["kind"] == QuorumLost.__name__:
            return QuorumLost(str(value["message"]))
        return StepFailed(
            str(value["message"]),
            op=str(value["step"]),
            silo=event.party,
            round=event.round,
            kind=str(value["kind"]),
            detail=str(value["detail"]),
        )

    def _end(self, status: str, when: float) -> None:
        self._tell(LIFECYCLE[status], when, str(self._error) if self._error else None)
        self._status = status

    def _tell(self, name: str, when: float, value: Any = None) -> None:
        self._events.append(Event(time=when, round=self.rounds_done, party=ORCHESTRATOR, name=name, value=value))


def unheard(submissions: Submissions, submission: Submission) -> StepFailed:
    """A step that failed and could not say so itself: it was killed, or never began."""
    workspace = submissions.workspace
    for phase in submissions.phases[submission.first : submission.last]:
        for group in workspace.children(submission.job):
            if group.display_name != phase.name or group.status != "Failed":
                continue
            for child in workspace.children(group.name):
                if child.status == "Failed":
                    step = next(step for step in phase.steps if phase.nodes[step.id] == child.display_name)
                    log = workspace.log(child.name).strip().splitlines()
                    message = f"the step ended without a word; its log ends with: {log[-1]}" if log else NO_LOG
                    detail = "\n".join(log[-20:])
                    return StepFailed(message, op=step.op, silo=step.party, round=step.round, detail=detail)
    first = submissions.phases[submission.first]
    return StepFailed(NO_LOG, op=first.op, silo=ORCHESTRATOR, round=first.round)


def passing_errors() -> tuple[type[Exception], ...]:
    """What may be over in a while: the network, a token that cannot be renewed just now."""
    from azure.core.exceptions import AzureError

    return (TrackingError, AzureError)
