"""The mirror of a run: a thread of its own while the run goes on, and a push afterwards."""

import atexit
import threading
import time
from pathlib import Path

from fl_kit.errors import TrackingError
from fl_kit.protocols import Run
from fl_kit.table import Cell, Shown, Table
from fl_kit.tracking.delivery import Delivery
from fl_kit.tracking.ledger import ROOT, ledger_for, load, without_password
from fl_kit.tracking.record import Record, of_folder, of_run

EXPERIMENT = "fl-kit"
FIRST = 3.0
"""Seconds before the first delivery: loading MLflow takes a second or two of Python, which a short run would feel."""
EVERY = 1.0
"""Seconds from one delivery to the next, at least."""
SHARE = 0.1
"""The most of the time that deliveries may take while the run goes on, as they hold Python's lock."""
GLANCE = 0.1
"""Seconds from one look at the run's status to the next."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts at a server that does not answer."""
LAST_ATTEMPTS = 20.0
"""Seconds that deliveries go on after the run has ended."""
AT_EXIT = 10.0
"""Seconds that the interpreter waits for mirrors before it goes."""

_alive: "set[Tracker]" = set()


class Tracker(Shown):
    """The mirror of one run at one MLflow server; made by `mirror` or `job.run(…, track=uri)`.

    uri       where, without a password
    error     why the last delivery failed, or None if it arrived
    finished  whether all has arrived, the run's end too
    notes     what a reader of the mirror should know

    >>> run = job.run(federation, on=InProcess(), track="sqlite:///mlflow.db")  # doctest: +SKIP
    >>> run.tracker.wait().finished  # doctest: +SKIP
    True
    """

    def __init__(self, run: Run, uri: str, experiment: str) -> None:
        record = of_run(run)
        self.run_id = record.id
        self.uri = without_password(uri)
        self.experiment = experiment
        self.error: TrackingError | None = None
        self._run = run
        self._secret_uri = uri
        self._delivery = Delivery(record, uri, ledger_for(record.folder, uri, experiment))
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"fl-kit tracker of {record.id}", daemon=True)

    @property
    def mlflow_run_id(self) -> str:
        """The id of the MLflow run; empty before the server has answered."""
        return self._delivery.ledger.runs.get(ROOT, "")

    @property
    def finished(self) -> bool:
        """Whether all has arrived."""
        return self._delivery.complete

    @property
    def notes(self) -> list[str]:
        """What a reader of the mirror should know."""
        return list(self._delivery.notes)

    def wait(self, timeout: float | None = None) -> "Tracker":
        """Itself when all has arrived, or after `timeout` seconds.

        It gives up about 20 seconds after the run's end; then TrackingError says why, and how to push.
        """
        self._thread.join(timeout)
        if not self._thread.is_alive() and not self.finished:
            why = self.error or "it was stopped before the run's end"
            raise TrackingError(f"run {self.run_id} is not complete at {self.uri}: {why}. {self._cure()}")
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Stop mirroring after one more attempt; what has not arrived can be pushed."""
        self._leave.set()
        self._thread.join(timeout)

    def again(self) -> "Tracker":
        """The mirror of a run that goes on after its end, in the same MLflow run."""
        self.stop()
        return mirror(self._run, self._secret_uri, experiment=self.experiment)

    def table(self) -> Table:
        """Where the mirror is and what has arrived."""
        ledger = self._delivery.ledger
        rounds = max(ledger.sent.values(), default=0)
        rows: list[list[Cell]] = [
            ["figures up to round", rounds],
            ["final model", "yes" if ledger.model >= 0 else "no"],
        ]
        state = "complete" if self.finished else f"not delivered: {self.error}" if self.error else "going on"
        return Table(
            columns=["what", "arrived"],
            rows=rows,
            title=f"Mirror of {self.run_id} at {self.uri}: {state}",
            note="; ".join(self.notes),
        )

    def start(self) -> "Tracker":
        """Start mirroring; gives itself at once."""
        _alive.add(self)
        self._thread.start()
        return self

    def _cure(self) -> str:
        folder = self._delivery.record.folder
        return f"Nothing is lost: push({str(folder)!r}, uri)" if folder else "Keep the run and push(run, uri)"

    def _work(self) -> None:
        try:
            self._while_it_runs()
            self._afterwards()
        finally:
            _alive.discard(self)

    def _while_it_runs(self) -> None:
        """Deliver now and then: seldom to a server that does not answer, never for more than `SHARE` of the time."""
        pause = EVERY
        self._sleep(FIRST)
        while not self._over():
            began = time.monotonic()
            arrived = self._attempt("")
            took = time.monotonic() - began
            pause = EVERY if arrived else min(2 * pause, LONGEST_PAUSE)
            self._sleep(max(pause, took / SHARE))

    def _afterwards(self) -> None:
        """Deliver the rest and the end; give up after `LAST_ATTEMPTS`."""
        pause, until = EVERY, time.monotonic() + LAST_ATTEMPTS
        while not self._attempt(self._delivery.record.end()):
            if self._leave.is_set() or time.monotonic() + pause > until:
                return
            self._leave.wait(pause)
            pause *= 2

    def _attempt(self, end: str) -> bool:
        """One delivery; whether it arrived."""
        try:
            self._delivery.deliver(end)
        except Exception as error:  # noqa: BLE001 - the run must not hear of it; `wait` and `push` raise it
            self.error = explained(error, self._secret_uri)
            return False
        self.error = None
        return True

    def _over(self) -> bool:
        return self._run.status not in ("running", "paused") or self._leave.is_set()

    def _sleep(self, seconds: float) -> None:
        """Sleep, but wake when the run ends or the mirror is to stop."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._over():
            self._leave.wait(GLANCE)


def mirror(run: Run, uri: str, *, experiment: str = EXPERIMENT) -> Tracker:
    """Mirror a run to MLflow from now to its end, outside of its rounds; gives the Tracker at once.

    uri         any MLflow tracking URI, such as `sqlite:///mlflow.db` or `https://mlflow.example.org`
    experiment  its name there; it is created if there is none

    A run that was mirrored there before, and was resumed, goes on in the same MLflow run. The server may be
    dead: the run does not notice, and `push` delivers later.

    Raises TrackingError for a run that does not know its job, or a damaged tracking.json.

    >>> tracker = mirror(run, "sqlite:///mlflow.db")  # doctest: +SKIP
    """
    return Tracker(run, uri, experiment).start()


def push(run: Run | str | Path, uri: str | None = None, *, experiment: str = EXPERIMENT) -> str:
    """Deliver to MLflow what has not arrived there; gives the id of the MLflow run.

    run  a run, or its folder; it may never have been mirrored
    uri  where; None means where it was mirrored last

    Pushing twice sends nothing twice. A mirror of the run that fails is stopped first. Raises TrackingError
    with the reason if the server does not take it, RunNotFound for what is no run folder.

    >>> push("runs/20261124-071502-heart-3f9a1c", "https://mlflow.example.org")  # doctest: +SKIP
    """
    record = of_folder(Path(run)) if isinstance(run, str | Path) else of_run(run)
    for tracker in [tracker for tracker in _alive if tracker.run_id == record.id]:
        if tracker.error is None:
            raise TrackingError(f"run {record.id} is being mirrored to {tracker.uri}; wait for it: run.tracker.wait()")
        tracker.stop()
    delivery = delivery_for(run, record, uri, experiment)
    try:
        delivery.deliver(record.end())
    except Exception as error:
        raise explained(error, delivery.uri) from error
    return delivery.ledger.runs[ROOT]


def delivery_for(run: Run | str | Path, record: Record, uri: str | None, experiment: str) -> Delivery:
    """The delivery that a run's tracker left undone, or one that starts from the run folder's ledger."""
    tracker = getattr(run, "tracker", None)
    if isinstance(tracker, Tracker) and (uri is None or tracker._delivery.ledger.is_for(uri, experiment)):
        return tracker._delivery
    if uri is None:
        known = load(record.folder)
        if not known:
            raise TrackingError(f"run {record.id} was never mirrored, so say where to: push(run, uri)")
        uri, experiment = known[-1].uri, known[-1].experiment
    return Delivery(record, uri, ledger_for(record.folder, uri, experiment))


def explained(error: BaseException, uri: str) -> TrackingError:
    """The failure in one line, without a password that the URI may hold."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    told = TrackingError(f"MLflow at {without_password(uri)}: {first.replace(uri, without_password(uri))}")
    told.__cause__ = error
    return told


@atexit.register
def deliver_all() -> None:
    """Let mirrors deliver what there is before the interpreter goes."""
    for tracker in list(_alive):
        tracker._leave.set()
    until = time.monotonic() + AT_EXIT
    for tracker in list(_alive):
        tracker._thread.join(timeout=max(0.0, until - time.monotonic()))
