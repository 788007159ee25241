"""What happened in a pipeline, read from its root MLflow run: one request tells whether anything did."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fl_kit.azureml.phases import Phase
from fl_kit.errors import TrackingError
from fl_kit.events import (
    ORCHESTRATOR,
    ROUND_COMPLETED,
    ROUND_STARTED,
    SILO_LEFT_OUT,
    STOPPED_EARLY,
    Event,
    metric_event,
    now,
)
from fl_kit.mlflow_rest import MlflowServer, NotNow
from fl_kit.reporting import ABSENT, DONE, LEFT_OUT, NOTE, read_note, series_of, series_runs

ENDED = {"FINISHED": "completed", "KILLED": "stopped", "FAILED": "failed"}
"""MLflow's words for how a run ended, and fl-kit's."""


@dataclass(frozen=True)
class Row:
    """One figure: the time in milliseconds, `<party>/<metric>`, step and value."""

    time: int
    key: str
    step: int
    value: float


class Feed:
    """The events of one pipeline job.

    `phases` are those of the whole plan, of which the job runs those from `first` up to and without `last`.
    `early` is the last round, if an earlier job of the run has stopped early. `any_failed` says in the end whether
    any step failed, though the rounds may all be done. A figure is told once. The events are in the order in which
    they were told to MLflow: the same ones for whoever asks, and whenever.
    """

    def __init__(
        self,
        server: MlflowServer,
        root: str,
        phases: Sequence[Phase],
        first: int,
        last: int,
        *,
        series: bool = False,
        early: int | None = None,
    ) -> None:
        self.server = server
        self.root = root
        self.phases = phases
        self.first = first
        self.last = last
        self.series = series
        self.early = early
        self.ended = ""
        self.any_failed = False
        self.end_time = 0.0
        self.done = first - 1
        self._done_at = 0.0
        self._seen: set[tuple[str, int]] = set()
        self._notes: set[tuple[str, int]] = set()
        self._began = False

    def poll(self) -> list[Event]:
        """What is new since the last poll; `ended` then says how the pipeline ended, if it did."""
        run = self.server.get("runs/get", run_id=self.root)["run"]
        data, ended = run.get("data", {}), ENDED.get(run["info"]["status"], "")
        found = self._tags(data.get("tags", []))
        found += [*self._beginning(run["info"]), *self._figures(data, complete=bool(ended))]
        self.any_failed = ended == "failed"
        if ended == "failed" and self.done == self.last - 1:
            ended = "completed"  # AzureML calls a pipeline failed in which any step failed, though a quorum went on
        if ended:
            self.end_time = int(run["info"].get("end_time") or now() * 1000) / 1000
            self.ended = ended
        if ended == "completed" and self.done < self.last - 1:  # told by the pipeline, if its steps could not
            found += self._phases_done(self.last - 1, self.end_time)
        return in_order(found)

    @property
    def failed(self) -> Phase:
        """The phase that failed, of a pipeline that did."""
        return self.phases[min(self.done + 1, self.last - 1)]

    def silent_rounds(self) -> list[int]:
        """The rounds that are done, though their step of the orchestrator could not say so, nor any after it."""
        told = {step for key, step in self._seen if key == DONE}
        return sorted({self.phases[i].round for i in range(self.first, self.done + 1) if i not in told})

    def _beginning(self, info: Mapping[str, Any]) -> Iterator[Event]:
        if not self._began and info.get("start_time") and info["status"] not in ("SCHEDULED", "PENDING"):
            self._began = True
            self._done_at = int(info["start_time"]) / 1000
            yield from self._lifecycle(ROUND_STARTED, self.first, self._done_at)

    def _figures(self, data: Mapping[str, Any], *, complete: bool) -> list[Event]:
        """New figures. The latest of each are all that is new after one more step; after more, histories are read.

        What was told after the newest step that is done belongs to one that is being told just now, and waits.
        """
        latest = [row(entry) for entry in data.get("metrics", [])]
        newest = max((entry for entry in latest if entry.key == DONE), key=lambda entry: entry.step, default=None)
        done = self.done if newest is None else newest.step
        if done <= self.done and not complete:
            return []
        until = math.inf if complete or newest is None else newest.time
        whole = done != self.done + 1
        rows = self._new(self.root, latest, until, whole=whole)
        if self.series:
            rows += self._of_series(until, whole=whole)
        rows.sort(key=lambda entry: entry.time)
        return [event for entry in rows for event in self._events(entry)]

    def _of_series(self, until: float, *, whole: bool) -> list[Row]:
        experiment = self.server.get("runs/get", run_id=self.root)["run"]["info"]["experiment_id"]
        query = {"experiment_ids": [experiment], "filter": series_of(self.root), "max_results": 1000}
        runs = self.server.post("runs/search", query).get("runs", [])
        children = set(series_runs(runs).values())
        found: list[Row] = []
        for run in runs:
            if run["info"]["run_id"] in children:
                latest = [row(entry) for entry in run.get("data", {}).get("metrics", [])]
                found += self._new(run["info"]["run_id"], latest, until, whole=whole)
        return found

    def _new(self, run: str, latest: Iterable[Row], until: float, *, whole: bool) -> list[Row]:
        """The rows up to a time that were not seen before, of metrics whose latest row is new."""
        found: list[Row] = []
        for newest in latest:
            if (newest.key, newest.step) in self._seen:
                continue
            rows = self._history(run, newest.key) if whole or newest.time > until else [newest]
            fresh = [entry for entry in rows if entry.time <= until and (entry.key, entry.step) not in self._seen]
            self._seen.update((entry.key, entry.step) for entry in fresh)
            found += fresh
        return found

    def _history(self, run: str, key: str) -> list[Row]:
        """Every row of a metric: the last one of each step, if a step was told twice."""
        rows: dict[int, Row] = {}
        token = ""
        while True:
            page = {"page_token": token} if token else {}
            answer = self.server.get("metrics/get-history", run_id=run, metric_key=key, max_results="1000", **page)
            rows |= {entry.step: entry for entry in map(row, answer.get("metrics", []))}
            token = answer.get("next_page_token", "")
            if not token:
                return list(rows.values())

    def _events(self, entry: Row) -> Iterator[Event]:
        party, _, metric = entry.key.partition("/")
        time = entry.time / 1000
        if entry.key == DONE:
            yield from self._phases_done(entry.step, time)
        elif metric == LEFT_OUT:
            yield Event(time=time, round=entry.step, party=party, name=SILO_LEFT_OUT, value=ABSENT)
        else:
            yield metric_event(round=entry.step, party=party, metric=metric, value=entry.value, time=time)

    def _phases_done(self, index: int, time: float) -> Iterator[Event]:
        """A phase that made a state is done, and so is every one before it, whether it could say so or not."""
        if "state" not in self.phases[index].steps[-1].outputs and self.done < index - 1 and not self.ended:
            return
        for done in range(self.done + 1, index + 1):
            if "state" in self.phases[done].steps[-1].outputs:
                yield from self._lifecycle(ROUND_COMPLETED, done, time, {"seconds": round(time - self._done_at, 3)})
            self.done, self._done_at = done, time
            if done + 1 < len(self.phases):
                yield from self._lifecycle(ROUND_STARTED, done + 1, time)

    def _lifecycle(self, name: str, phase: int, time: float, value: dict[str, Any] | None = None) -> Iterator[Event]:
        """The event; none for a round that the run passed over, having stopped early."""
        number = self.phases[phase].round
        if self.early is None or number <= self.early:
            yield Event(time=time, round=number, party=ORCHESTRATOR, name=name, value=value)

    def _tags(self, tags: Iterable[Mapping[str, str]]) -> list[Event]:
        """The events that came as notes."""
        found = []
        for tag in tags:
            if not tag["key"].startswith(f"{NOTE}."):
                continue
            number, event = read_note(tag)
            if (tag["key"], number) not in self._notes:
                self._notes.add((tag["key"], number))
                found.append(event)
                if event.name == STOPPED_EARLY:
                    self.early = event.round
        return found


class Patience:
    """How long to wait before the next look: little while things happen, more while they do not."""

    SHORTEST, LONGEST = 0.5, 15.0
    REFUSED, GONE = 120.0, 1800.0
    """Seconds for which a refusal (a job may not be known at once), and a silence, are borne."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._news = clock()
        self._broken: float | None = None

    def answered(self, *, anything: bool) -> None:
        """The server answered, with news or without."""
        self._broken = None
        if anything:
            self._news = self._clock()

    def failed(self, error: Exception) -> str:
        """The server did not answer: a text to tell, the first time; raises the error when it lasts too long."""
        first = self._broken is None
        self._broken = self._clock() if self._broken is None else self._broken
        final = isinstance(error, TrackingError) and not isinstance(error.__cause__, NotNow)
        if self._clock() - self._broken > (self.REFUSED if final else self.GONE):
            raise error
        return f"the workspace does not answer, asking again: {error}" if first else ""

    def pause(self) -> float:
        """Seconds until the next look: a quarter of the time without news, within bounds."""
        since = self._news if self._broken is None else self._broken
        return min(self.LONGEST, max(self.SHORTEST, (self._clock() - since) / 4))


def in_order(events: Iterable[Event]) -> list[Event]:
    """By time; a silo that is left out for a reason that is known is told once, with the reason."""
    events = list(events)
    reasons = {(e.round, e.party) for e in events if e.name == SILO_LEFT_OUT and e.value != ABSENT}
    kept = [e for e in events if (e.name, e.value) != (SILO_LEFT_OUT, ABSENT) or (e.round, e.party) not in reasons]
    return sorted(kept, key=lambda event: event.time)


def row(entry: Mapping[str, Any]) -> Row:
    """A metric as MLflow's interface gives it."""
    return Row(int(entry["timestamp"]), str(entry["key"]), int(entry.get("step", 0)), float(entry["value"]))
