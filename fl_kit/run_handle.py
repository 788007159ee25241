"""What the handle of a run does alike, wherever the run is."""

import threading
import traceback
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from fl_kit import history as frames
from fl_kit.errors import FlKitError
from fl_kit.events import GLOBAL, Event, is_metric, metric_name
from fl_kit.job import Job
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

    A subclass gives `events`, `state`, `stop`, `rounds_done` and `kept_in`; its own thread sets `_status` and
    `_error`, then `_ended`.

    tracker  its mirror in MLflow, if `job.run` was given `track`

    >>> run = job.run(federation, on=InProcess(folder=None)).wait()
    >>> run.status, run.rounds_done
    ('completed', 3)
    >>> final = run.history().query("party == 'global' and round == 3")
    """

    def __init__(self, *, run_id: str, job: Job, plan: Plan, federation: Federation) -> None:
        self.id = run_id
        self.job = job
        self.plan = plan
        self.federation = federation
        self.tracker: object | None = None
        self._stop = threading.Event()
        self._ended = threading.Event()  # not the thread's own join: CPython's does not survive an interrupt
        self._error: BaseException | None = None
        self._status = "running"

    @abstractmethod
    def events(self, after: int = 0) -> list[Event]:
        """Events from position `after` on."""

    @abstractmethod
    def state(self, round: int = -1) -> State:
        """The state after a round; −1 is the last one."""

    @abstractmethod
    def stop(self) -> None:
        """Ask the run to stop; completed rounds stay usable."""

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
        """One of "running", "completed", "stopped", "failed"."""
        return self._status

    @property
    def failures(self) -> "pd.DataFrame":
        """One row for each failed attempt of a step: silo, round, step, kind, message, detail."""
        return frames.failures(self.events())

    def wait(self, timeout: float | None = None) -> Self:
        """Itself when the run has ended, or after `timeout` seconds.

        Raises what made the run fail. An interrupt stops the run cleanly first, so that what is done is kept.
        """
        try:
            self._ended.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            self._ended.wait()
            raise
        if self._error is not None:
            raise self._error
        return self

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
