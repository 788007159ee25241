"""What the handle of a run does alike, wherever the run is."""

import threading
import traceback
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from fl_kit import history as frames
from fl_kit.amending import changed
from fl_kit.errors import FlKitError, IncompatibleError
from fl_kit.events import GLOBAL, RUN_PAUSED, RUN_RESUMED, STOPPED_EARLY, Event, is_metric, metric_name
from fl_kit.gate import Gate
from fl_kit.job import Job
from fl_kit.legs import Leg
from fl_kit.messages import State
from fl_kit.plan import Plan
from fl_kit.silo import Federation
from fl_kit.table import Shown, Table
from fl_kit.tensors import digest

if TYPE_CHECKING:
    import pandas as pd


POLICIES = {
    "strict": "strict: a silo that fails stops it",
    "quorum": "quorum: it goes on without silos that fail, while enough deliver",
    "best effort": "best effort: it goes on with whichever silos deliver",
}
"""What a run says of its job's policy."""


class RunHandle(Shown, ABC):
    """The part of `fl_kit.protocols.Run` that follows from events, states and the end.

    A subclass gives the abstract methods; its own thread asks `_gate` before each step, and at its end sets
    `_status` and `_error` and calls `_has_ended`.

    tracker  its mirror in MLflow, if `job.run` was given `track`

    >>> run = job.run(federation, on=InProcess(folder=None)).wait()
    >>> run.status, run.rounds_done
    ('completed', 3)
    >>> final = run.history().query("party == 'global' and round == 3")
    """

    def __init__(self, *, run_id: str, legs: list[Leg], federation: Federation) -> None:
        self.id = run_id
        self.federation = federation
        self.tracker: Any = None
        self._legs = legs
        self._gate = Gate()
        self._stop = threading.Event()
        self._ended = threading.Event()  # not the thread's own join: CPython's does not survive an interrupt
        self._error: BaseException | None = None
        self._status = "running"

    @property
    def job(self) -> Job:
        """The job, as it was changed last."""
        return self._legs[-1].job

    @property
    def plan(self) -> Plan:
        """The plan, as it was changed last; rounds that are done stand in it as they were made."""
        return self._legs[-1].plan

    @abstractmethod
    def events(self, after: int = 0) -> list[Event]:
        """Events from position `after` on."""

    @abstractmethod
    def state(self, round: int = -1) -> State:
        """The state after a round; −1 is the last one."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the run to stop; completed rounds stay usable."""

    @abstractmethod
    def undo(self, to_round: int) -> "RunHandle":
        """A new run that goes on from an earlier round of this one, which stays as it is; it rests at first."""

    @abstractmethod
    def _begin(self) -> None:
        """Start the thread that works on the run or follows it."""

    def _hold(self) -> None:
        """Be the one kernel that goes on with the run; raises RunLocked if another one does."""

    @abstractmethod
    def _keep_leg(self, number: int, leg: Leg) -> None:
        """Keep a change, and tell of it."""

    @abstractmethod
    def _tell(self, name: str, value: dict[str, Any] | str | None) -> None:
        """Append an event of the run's life."""

    @property
    @abstractmethod
    def rounds_done(self) -> int:
        """The last round that is done; 0 before the first."""

    @property
    @abstractmethod
    def kept_in(self) -> str:
        """Where the run is, in words."""

    @property
    def status(self) -> str:
        """One of "running", "paused", "completed", "stopped", "failed"."""
        return "paused" if self._status == "running" and self._gate.resting else self._status

    @property
    def failures(self) -> "pd.DataFrame":
        """One row for each failed attempt of a step: silo, round, step, kind, message, detail."""
        return frames.failures(self.events())

    def wait(self, timeout: float | None = None) -> Self:
        """Itself when the run has ended or is paused, or after `timeout` seconds.

        Raises what made the run fail. An interrupt stops the run cleanly first, so that what is done is kept.
        """
        try:
            self._gate.quiet.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            self._ended.wait()
            raise
        if self._error is not None:
            raise self._error
        return self

    def pause(self) -> None:
        """Ask the run to rest before its next step; what is done stays, and `resume` or `step` goes on from there.

        Raises FlKitError if the run has ended, or nothing of it is left that could wait.
        """
        if self._is_still():
            raise FlKitError(f"run {self.id} has ended ({self._status}); there is nothing to pause")
        self._gate.pause()

    def resume(self) -> Self:
        """Let a paused run go on, and begin a stopped or failed one again from its last whole round; gives itself.

        A run that goes on, or has made all its rounds, is given as it is.
        """
        if not self._is_over():
            self._gate.open()
            self._go_on()
        return self

    def step(self, *, wait: bool = True, **changes: Any) -> Self:
        """Make one round, or the rest of the one that has begun, and rest; gives itself when that is done.

        wait     False gives itself at once, as a button needs it
        changes  what is to hold from that round on, as for `change`

        Raises what made the round fail, and FlKitError if all rounds are made.

        >>> run = job.run(federation, on=InProcess(), paused=True)  # doctest: +SKIP
        >>> run.step().step(lr=0.01)  # two rounds, the second with another learning rate  # doctest: +SKIP
        """
        if changes:
            self.change(**changes)
        if self._is_over():
            raise FlKitError(f"run {self.id} has made all its rounds; run.extend(rounds=1) adds one")
        self._gate.up_to(self.rounds_done + 1 if self._is_still() else None)
        self._go_on()
        return self.wait() if wait else self

    def change(self, **changes: Any) -> Self:
        """Change what holds from the next round on: numbers of the strategy, settings of the job, who takes part.

        changes  numbers of the strategy (lr=0.01, mu=0.1), settings of the job (rounds, min_silos, stop, …), and
                 silos=[names]; `fl_kit.amending.MAY_CHANGE` lists the job's

        A round that has begun is made as it was asked for. The change stands in the run's events and folder, so
        that a run that is resumed makes the same rounds. Gives itself; a paused run stays paused.
        Raises IncompatibleError for what cannot be changed in a run that has begun, or does not fit together.
        """
        with self._gate.lock:
            after = self.rounds_done if self._is_still() else max(self._gate.round, 0)
            leg = changed(self._legs[-1], self.federation, after, changes)
            self._keep_leg(len(self._legs), leg)
            self._legs.append(leg)
        return self

    def extend(self, rounds: int, **changes: Any) -> Self:
        """Make so many rounds more than was asked for, also of a run that has made all; gives itself at once.

        changes  what else is to hold from the next round on, as for `change`. A run that its stop rule has ended
                 needs another rule, or stop=None

        Raises IncompatibleError for fewer than 1, or as `change` does.
        """
        if type(rounds) is not int or rounds < 1:
            raise IncompatibleError(f"run.extend(rounds={rounds!r}): must be a whole number of at least 1")
        job = self.job
        if "stop" not in changes and self._stopped_early():
            raise IncompatibleError(
                f"run {self.id} was stopped early by its rule {job.stop}: give another, or none, as in "
                f"run.extend(rounds={rounds}, stop=None)"
            )
        last = self.rounds_done if self._stopped_early() else job.rounds
        self.change(rounds=last + rounds, **changes)
        if self._is_still():
            self.resume()
        return self

    def _go_on(self) -> None:
        """Begin again, if the run has ended."""
        if not self._is_still():
            return
        self._ended.wait()
        self._hold()
        with self._gate.lock:
            self._ended.clear()
            self._stop.clear()
            self._error, self._status = None, "running"
            self._gate.again(self.rounds_done)
        self._tell(RUN_RESUMED, self._announcement())
        self._begin()
        if self.tracker is not None:
            self.tracker = self.tracker.again()

    def _rests(self) -> None:
        self._tell(RUN_PAUSED, None)

    def _goes_on(self) -> None:
        self._tell(RUN_RESUMED, None)

    def _has_ended(self) -> None:
        with self._gate.lock:  # both at once: whoever begins again comes after
            self._ended.set()
            self._gate.end()

    def _is_still(self) -> bool:
        """Whether the run has ended, or found no step left and is about to."""
        return self._ended.is_set() or self._gate.finished

    def _is_over(self) -> bool:
        """Whether all rounds are made."""
        if not self._is_still():
            return False
        self._ended.wait()
        return self._status == "completed" and (self.rounds_done >= self.job.rounds or self._stopped_early())

    def _stopped_early(self) -> bool:
        """Whether the job's stop rule has ended the run after the last round that is done."""
        early = [event.round for event in self.events() if event.name == STOPPED_EARLY]
        return bool(early) and early[-1] == self.rounds_done and self.job.is_enough(self.state())

    def _announcement(self) -> dict[str, Any]:
        """What the event of a start says."""
        return {**self.job.announcement(self.federation), "silos": list(self._legs[-1].silos)}

    def history(self) -> "pd.DataFrame":
        """One row per round, party and metric: columns round, party, metric, value."""
        return frames.history(self.events())

    def digest(self, round: int = -1) -> str:
        """The sha256 of a round's parameters: equal exactly when the bits are."""
        return digest(self.state(round).params)

    def table(self) -> Table:
        """The federation's latest figures."""
        latest = {metric_name(e): e for e in self.events() if e.party == GLOBAL and is_metric(e)}
        return Table(
            columns=["metric", "round", "value"],
            rows=[(metric, event.round, number(event.value)) for metric, event in latest.items()],
            title=f"Run {self.id}: {self.status}, {self.rounds_done} of {self.plan.rounds} rounds",
            note=f"{self.kept_in}; {POLICIES[self.job.policy]}",
        )


def number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def unexpected(what: str, error: BaseException) -> FlKitError:
    """An error that is nobody's contract, with its cause; `what` happened to which run."""
    wrapped = FlKitError(f"{what}: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    wrapped.detail = "".join(traceback.format_exception(error))
    return wrapped
