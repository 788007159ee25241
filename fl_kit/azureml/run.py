"""A run on AzureML: the same handle as everywhere, on a pipeline that goes on without this kernel."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

from fl_kit.azureml.blame import Losses, error_of, failure_of
from fl_kit.azureml.following import Follower
from fl_kit.azureml.phases import Phase
from fl_kit.azureml.polling import Feed
from fl_kit.azureml.submission import Submission
from fl_kit.azureml.submissions import Submissions
from fl_kit.azureml.verdicts import Verdict
from fl_kit.branching import begun_anew
from fl_kit.errors import FlKitError, MessageError, StoreError
from fl_kit.events import (
    NOTE,
    ROUND_COMPLETED,
    RUN_CHANGED,
    RUN_COMPLETED,
    RUN_FAILED,
    RUN_RESUMED,
    RUN_STARTED,
    RUN_STOPPED,
    Event,
    now,
)
from fl_kit.legs import Leg
from fl_kit.messages import State, complete, read
from fl_kit.plan import ORCHESTRATOR, round_name
from fl_kit.run_handle import RunHandle, unexpected
from fl_kit.run_ids import new_id

LIFECYCLE = {"completed": RUN_COMPLETED, "stopped": RUN_STOPPED, "failed": RUN_FAILED}


class AzureMLRun(RunHandle):
    """A run on AzureML; see `fl_kit.protocols.Run`.

    The pipeline runs in the workspace: this handle only watches it, and submits the next chunk where the run is cut
    into several. Another kernel attaches to the same run by its id and sees the same events.

    folder   the run's folder on this machine: what was asked for, what was sent, and the states that were asked for

    >>> run = AzureML(client).attach("20261124-071502-heart-3f9a1c07b2")  # doctest: +SKIP
    >>> print(run.logs("alpha", round=3))  # doctest: +SKIP
    """

    def __init__(self, submissions: Submissions) -> None:
        super().__init__(run_id=submissions.run_id, legs=submissions.legs, federation=submissions.federation)
        self.folder = submissions.store.folder
        self._submissions = submissions
        self._events: list[Event] = submissions.store.events.read()  # of the run that this one branched off, if any
        self._last_feed: Feed | None = None
        self._told_legs = len(submissions.legs) if submissions.origin is not None else 1
        self._losses = Losses(self.job)
        self._follower = Follower(submissions, self._events, self._tell_at, self._stop)

    def watch(self, *, resume: bool = False, paused: bool = False) -> "AzureMLRun":
        """Begin to follow the pipelines in a thread; gives itself at once.

        resume  submit what is left, if the last pipeline ended before its time
        paused  submit nothing before somebody says so
        """
        made = self._submissions.made
        if made:
            self._gate.round = self._submissions.of(made[-1])[-1].round
        elif self._submissions.origin is not None:
            self._gate.round = self._submissions.origin.round
        if paused:
            self._gate.pause()
        self._start(0, resume)
        return self

    def change(self, **changes: Any) -> Self:
        self._refuse_if_all_is_submitted("changed", changes)
        return super().change(**changes)

    def pause(self) -> None:
        self._refuse_if_all_is_submitted("paused", {})
        super().pause()

    def undo(self, to_round: int) -> "AzureMLRun":
        """A new run that goes on from an earlier round of this one, which stays as it is; it rests at first.

        Nothing is copied: what this run made up to that round is read where it lies. Raises StoreError for a round
        that is not done.
        """
        done = [i for i, e in enumerate(self.events()) if (e.name, e.round) == (ROUND_COMPLETED, to_round)]
        if not done:
            raise StoreError(f"run {self.id} has no round {to_round} to go back to; {self.rounds_done} rounds are done")
        store = self._submissions.store
        new = new_id(self.job.task.name)
        branch = begun_anew(store, self.folder.parent / new, to_round, self.events()[: done[-1] + 1])
        submissions = Submissions(self._submissions.workspace, new, branch, self._submissions.experiment)
        return AzureMLRun(submissions).watch(paused=True)

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
            if self._submissions.made and not self._gate.resting:
                self._submissions.workspace.cancel(self._submissions.made[-1].job)
            self._gate.leave()

    def state(self, round: int = -1) -> State:
        """The state after a round, brought here once; −1 is the last one.

        One that was damaged here since is brought again. Raises StoreError for a round that is not done, a datastore
        that cannot be read from here, or a state there that is not whole.
        """
        round = self.rounds_done if round == -1 else round
        place = self.folder / round_name(round) / "state"
        if complete(place):
            with contextlib.suppress(MessageError):
                return read(State, place)
        self._download(round)
        try:
            return read(State, place)
        except MessageError as error:
            raise StoreError(f"the state of round {round} cannot be read: {error}") from error

    def logs(self, party: str, round: int) -> str:
        """What a party's steps of a round have said: a silo's name, or "orchestrator".

        Raises FlKitError if there is no such step, or it has not begun.
        """
        found = [phase for phase in self._submissions.phases if phase.round == round]
        texts = [text for phase in found for text in self._log(phase, party)]
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
        fault: StoreError | None = None
        for uri in (uri for source in sources for uri in self._submissions.places(source)):
            try:
                if self._submissions.workspace.download(uri, place):
                    return
            except StoreError as error:  # an earlier submission may have made it too
                fault = fault or error
        if fault is not None:
            raise fault
        done = f"{self.rounds_done} of {self.plan.rounds} rounds are done"
        raise StoreError(f"run {self.id} has no state of round {round} in its datastore: {done}")

    def _log(self, phase: Phase, party: str) -> Iterator[str]:
        """What a party's steps of a phase have said, in the newest submission that has them."""
        nodes = {phase.nodes[step.id] for step in phase.steps if step.party == party}
        workspace = self._submissions.workspace
        makers = [m for m in self._submissions.made if phase.name in {p.name for p in self._submissions.of(m)}]
        if not makers or not nodes:
            return
        for group in workspace.children(makers[-1].job):
            if group.display_name == phase.name:
                steps = [child for child in workspace.children(group.name) if child.display_name in nodes]
                yield from (workspace.log(step.name) for step in steps)

    def _begin(self) -> None:
        """Go on after the end of the last pipeline."""
        self._start(len(self._submissions.made), resume=True)

    def _start(self, position: int, resume: bool) -> None:
        work = partial(self._work, position, resume)
        threading.Thread(target=work, name=f"fl-kit run {self.id}", daemon=True).start()

    def _work(self, position: int, resume: bool) -> None:
        """Follow every submission from a position on, and submit what is left to submit."""
        made = self._submissions.made
        failed: list[Verdict] = []
        before = len(self._events)
        try:
            if position == len(made) and self._submit_rest(self._last_feed, resume):
                resume = False
            while position < len(made):
                submission, before = made[position], len(self._events)
                feed = self._last_feed = self._follow(submission)
                failed = self._follower.verdicts(feed, submission, before) if feed.any_failed else []
                again = self._lost(feed, failed, before)
                position += 1
                if position == len(made) and not self._submit_rest(feed, resume or bool(again)):
                    break
                if again:
                    self._tell_at(NOTE, feed.end_time, self._losses.note(again, feed.failed.round))
                elif feed.ended != "completed":
                    self._tell_at(LIFECYCLE[feed.ended], feed.end_time)
                resume = False
            self._came_to_an_end(self._last_feed, failed, before)
        except BaseException as error:  # noqa: BLE001 - raised again in whoever waits for the run
            self._error = (
                error
                if isinstance(error, FlKitError)
                else unexpected(f"run {self.id} can no longer be followed", error)
            )
            self._end("failed", now())
        finally:
            self._has_ended()

    def _came_to_an_end(self, feed: Feed | None, failed: list[Verdict], before: int) -> None:
        if feed is None or (feed.ended == "completed" and self._stop.is_set() and not self._gate.finished):
            self._end("stopped", now())
            return
        if feed.ended == "failed":
            event = failure_of(self._events[before:], failed)
            phase = feed.failed
            self._error = error_of(event, phase.steps[-1], self._losses.cure(event, failed, self.id, phase.round))
        self._end(feed.ended, feed.end_time)

    def _submit_rest(self, feed: Feed | None, resume: bool) -> bool:
        """Submit what follows a pipeline that has ended, once the gate is open; False if nothing is to follow."""
        submissions = self._submissions
        if feed is not None and not (feed.ended == "completed" or resume):
            return False
        while not self._stop.is_set():
            with self._gate.lock:
                first = self._following(feed)
                if first == len(submissions.phases):
                    self._gate.finished = True
                    return False
                leg, round = len(self._legs), submissions.phases[first].round
            if self._gate.enter(round, self._rests):
                self._goes_on()
            with self._gate.lock:
                if leg != len(self._legs) or self._stop.is_set():  # changed while the run rested: look again
                    continue
                last = submissions.last_after(first, self._gate.until)
                self._gate.round = submissions.phases[last - 1].round
            made = submissions.submit(first, last, resumed=feed is not None and feed.ended != "completed")
            if made is None:  # another kernel has changed the run
                continue
            if self._stop.is_set():  # asked while the workspace was taking it
                submissions.workspace.cancel(made.job)
            return True
        return False

    def _following(self, feed: Feed | None) -> int:
        """The phase that follows what is done; a stop rule that was changed since has stopped nothing."""
        if feed is None:
            return self._submissions.first
        first = self._submissions.after(feed.done, feed.early)
        if self._submissions.made[-1].leg < len(self._legs) - 1:
            self._submissions.early = None
        return first

    def _keep_leg(self, number: int, leg: Leg) -> None:
        self._submissions.change(number, leg)
        self._tell(RUN_CHANGED, leg.announcement(self.federation))
        self._told_legs = number + 1

    def _follow(self, submission: Submission) -> Feed:
        """Tell the events of a pipeline until it ends: before them the changes, for a kernel that attached later."""
        for leg in self._legs[self._told_legs : submission.leg + 1]:
            self._tell_at(RUN_CHANGED, submission.time, leg.announcement(self.federation))
        self._told_legs = max(self._told_legs, submission.leg + 1)
        self._losses.job = job = self._legs[submission.leg].job
        if submission.number == 1 or submission.resumed:
            name = RUN_STARTED if submission.number == 1 else RUN_RESUMED
            self._tell_at(name, submission.time, job.announcement(self.federation))
        return self._follower.follow(submission)

    def _refuse_if_all_is_submitted(self, what: str, changes: Mapping[str, Any]) -> None:
        if not self._is_still() and self._gate.round >= self.job.rounds and "rounds" not in changes:
            raise FlKitError(
                f"run {self.id} cannot be {what}: all its rounds are submitted. stop() it, which keeps the rounds that "
                "are done, or have rounds submitted one by one: AzureML(client, rounds_per_pipeline=1)"
            )

    def _lost(self, feed: Feed, failed: Sequence[Verdict], before: int) -> list[Verdict]:
        """The steps for whose sake a pipeline's last phase is to run again."""
        if feed.ended != "failed":
            return []
        self._losses.count(failed, self._events[before:])
        return self._losses.try_again(failed, self._events[before:])

    def _end(self, status: str, when: float) -> None:
        self._tell_at(LIFECYCLE[status], when, str(self._error) if self._error else None)
        self._status = status

    def _tell(self, name: str, value: dict[str, Any] | str | None = None) -> None:
        self._tell_at(name, now(), value)

    def _tell_at(self, name: str, when: float, value: Any = None) -> None:
        self._events.append(Event(time=when, round=self.rounds_done, party=ORCHESTRATOR, name=name, value=value))
