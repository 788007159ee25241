"""What MLflow is told of a run, whether the run is at hand or only its folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fl_kit.bounded import inside, parse_json, read_text
from fl_kit.errors import FlKitError, RunNotFound, StoreError, TrackingError
from fl_kit.events import ENDED, RUN_COMPLETED, RUN_RESUMED, RUN_STARTED, RUN_STOPPED, Event, EventLog
from fl_kit.messages import State, complete, read
from fl_kit.plan import Plan, round_name
from fl_kit.protocols import Run
from fl_kit.secret_scan import refusal
from fl_kit.silo import Federation, nearest
from fl_kit.task import Task, task_file

FINISHED, KILLED, FAILED = "FINISHED", "KILLED", "FAILED"
"""MLflow's words for how a run ends."""


class TrackedRun(Run, Protocol):
    """A run that also knows what was asked for."""

    @property
    def job(self) -> Any: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def federation(self) -> Federation: ...


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run, as it is told to MLflow.

    job     the text of job.json
    events  gives the events from a position on
    state   gives the last state, or None before there is any
    folder  the run folder, or None for a run that is kept in memory

    Raises TrackingError for a task or a setting that holds what looks like a secret.
    """

    id: str
    job: str
    plan: Plan
    task: Task
    federation: Federation
    events: Callable[[int], list[Event]]
    state: Callable[[], State | None]
    folder: Path | None

    def __post_init__(self) -> None:
        texts = {f"task/{self.task.name}.py": self.task.source, "job.json": self.job}
        if fault := refusal(texts, "an MLflow server shows it to others"):
            raise TrackingError(fault)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The job as plain data."""
        return dict(parse_json(self.job))

    def end(self) -> str:
        """FINISHED, KILLED or FAILED; empty while the run goes on, or if it was cut off."""
        for event in reversed(self.events(0)):
            if event.name in ENDED:
                return {RUN_COMPLETED: FINISHED, RUN_STOPPED: KILLED}.get(event.name, FAILED)
            if event.name in (RUN_STARTED, RUN_RESUMED):
                break
        return ""


def of_run(run: Run) -> Record:
    """The record of a run at hand; raises TrackingError for a run that does not know its job."""
    tracked: TrackedRun = run  # type: ignore[assignment]  # a backend's runs know more than the protocol says
    try:
        job, plan, federation = tracked.job, tracked.plan, tracked.federation
    except AttributeError as error:
        raise TrackingError(f"run {run.id} cannot be mirrored: {error}") from error

    def state() -> State | None:
        try:
            return run.state(-1)
        except FlKitError:
            return None  # before the first round there is none

    return Record(
        id=run.id,
        job=job.to_json(),
        plan=plan,
        task=job.task,
        federation=federation,
        events=run.events,
        state=state,
        folder=getattr(run, "folder", None),
    )


def of_folder(folder: Path) -> Record:
    """The record of a run folder; raises RunNotFound with the nearest id, StoreError for a damaged one."""
    if not (folder / "job.json").is_file():
        known = [path.parent.name for path in folder.parent.glob("*/job.json")]
        raise RunNotFound(f"{folder} is no run folder{nearest(folder.name, known)}")
    job = text(folder, "job.json")
    try:
        source = task_file(folder, job)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / 'job.json'} is damaged: {error!r}") from error
    log = EventLog.load(folder / "events.jsonl") if (folder / "events.jsonl").exists() else EventLog()
    return Record(
        id=folder.name,
        job=job,
        plan=Plan.from_json(text(folder, "plan.json")),
        task=Task(name=source.stem, source=text(folder, f"task/{source.name}")),
        federation=Federation.load(folder / "federation.yaml"),
        events=log.read,
        state=lambda: last_state(folder),
        folder=folder,
    )


def last_state(folder: Path) -> State | None:
    """The last state that a run folder holds whole."""
    numbers = (path.name.removeprefix("round_") for path in folder.glob("round_*"))
    rounds = sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)
    last = next((n for n in rounds if complete(folder / round_name(n) / "state")), None)
    return None if last is None else read(State, folder / round_name(last) / "state")


def text(folder: Path, name: str) -> str:
    try:
        return read_text(inside(folder, name))
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / name} cannot be read: {error}") from error
