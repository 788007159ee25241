"""What happened in a run, in order: `Event`, and the append-only `EventLog` that keeps them.

An event is a lifecycle step ("round/started") or a figure ("metric/loss"). `watch`, the history and
the MLflow mirror all read the same log, and none of them sits in the round loop.
"""

import json
import math
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fl_kit.bounded import parse_json, read_bytes
from fl_kit.errors import StoreError
from fl_kit.files import flush, sync
from fl_kit.packed_figures import PackedFigures, Row
from fl_kit.secret_scan import masked

RUN_STARTED = "run/started"
"""value: {"rounds": R, "silos": [names], "strategy": "FedAvg", "policy": "strict", "metrics": […]}"""
RUN_RESUMED = "run/resumed"
"""value: as for `RUN_STARTED`, or None"""
RUN_PAUSED = "run/paused"
"""round: the last one that is done; what follows comes when somebody lets the run go on"""
RUN_CHANGED = "run/changed"
"""value: as for `RUN_STARTED`, with "after": the last round that the change leaves alone, and "words": what changed"""
ENGINE = "run/engine"
"""value: what computes the silos' steps of a simulation, and why, in words"""
ROUND_STARTED = "round/started"
ROUND_COMPLETED = "round/completed"
"""value: {"seconds": s}, and where it is known what they went into "compute", "wait" and "transfer", in seconds too"""
STEP_TIMED = "step/timed"
"""What a step that runs as a process of its own says of its seconds: {"compute": s, "transfer": s}. No log keeps it."""
STEP_FAILED = "step/failed"
"""party: the silo; value: {"step": "fit", "kind": "TaskError", "message": …, "detail": traceback}"""
SILO_LEFT_OUT = "silo/left-out"
"""party: the silo; value: the reason"""
SILO_LATE = "silo/late"
"""party: the silo, whose result came after the deadline and is discarded; value: {"step": "fit", "seconds": how long it
took, "deadline": …}"""
STOPPED_EARLY = "run/stopped-early"
"""round: the last one; value: why, in words"""
RUN_COMPLETED = "run/completed"
RUN_STOPPED = "run/stopped"
RUN_FAILED = "run/failed"
"""value: the message"""
NOTE = "note"
"""value: a text said once"""
METRIC = "metric/"
"""A figure's name is this and the metric: "metric/loss"."""

ENDED = frozenset({RUN_COMPLETED, RUN_STOPPED, RUN_FAILED})

GLOBAL = "global"
ORCHESTRATOR = "orchestrator"

Value = float | int | str | None | dict[str, Any]

LIMIT = 1 << 30
"""Bytes of a file of events that are read: some ten million figures."""

ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing that happened.

    time   seconds since the epoch
    round  0 = before the first round; of a metric: the round of the model that was measured
    party  a silo's name, "orchestrator" or "global"
    name   one of this module's lifecycle names, or "metric/<metric>" for a figure
    value  a JSON value; a figure is a number, and may be NaN or infinite
    """

    time: float
    round: int
    party: str
    name: str
    value: Value = None

    def to_json(self) -> str:
        """One line of JSON without its line end; raises StoreError for what JSON cannot hold.

        A figure that is not finite becomes "nan", "inf" or "-inf", since JSON has no such numbers.
        """
        value = self.value
        if type(value) is float and not math.isfinite(value) and is_metric(self):
            value = str(value)
        record = {"time": self.time, "round": self.round, "party": self.party, "name": self.name, "value": value}
        try:
            return ENCODER.encode(record)
        except (TypeError, ValueError) as error:
            raise StoreError(f"event {self.name!r} of {self.party!r} cannot be written as JSON: {error}") from error

    @classmethod
    def from_json(cls, text: str | bytes) -> "Event":
        """The event that `to_json` wrote; raises StoreError for anything else, saying what is wrong."""
        try:
            record = parse_json(text)
        except ValueError as error:
            raise StoreError(f"not an event: {error}") from error
        if not isinstance(record, dict) or set(record) != FIELDS:
            raise StoreError(f"not an event: expected the fields {', '.join(sorted(FIELDS))}")
        value = record["value"]
        if str(record["name"]).startswith(METRIC) and isinstance(value, str):
            record["value"] = NOT_FINITE.get(value, value)
        for key in ("name", "party"):
            if type(record[key]) is str:
                record[key] = sys.intern(record[key])  # one text for all of a long run's events
        event = cls(**record)
        if fault := fault_of(event):
            raise StoreError(f"not an event: {fault}")
        return event


def as_row(event: Event) -> Row:
    return event.time, event.round, event.party, event.name, event.value


def of_row(row: Row) -> Event:
    time, round, party, name, value = row
    return Event(time=time, round=round, party=party, name=name, value=value)


FIELDS = frozenset(field.name for field in fields(Event))


def metric_event(*, round: int, party: str, metric: str, value: float, time: float | None = None) -> Event:
    """A figure: `value` of `metric` for `party`'s rows, of the model of `round`; `time` defaults to now.

    >>> metric_event(round=1, party="global", metric="loss", value=0.5, time=0.0).name
    'metric/loss'
    """
    name = sys.intern(METRIC + metric)
    return Event(time=now() if time is None else time, round=round, party=party, name=name, value=value)


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def is_metric(event: Event) -> bool:
    """Whether the event is a figure."""
    return event.name.startswith(METRIC)


def metric_name(event: Event) -> str:
    """The metric of a figure: "loss" of "metric/loss"."""
    return event.name.removeprefix(METRIC)


def fault_of(event: Event) -> str:
    """What is wrong with an event's types or ranges, or an empty string."""
    if type(event.time) is not float or not math.isfinite(event.time):
        return f"time must be a finite float, not {event.time!r}"
    if type(event.round) is not int or event.round < 0:
        return f"round must be a whole number from 0, not {event.round!r}"
    if type(event.party) is not str or not event.party:
        return f"party must be a name, not {event.party!r}"
    if type(event.name) is not str or not event.name:
        return f"name must be a text, not {event.name!r}"
    if is_metric(event):
        return "" if type(event.value) in (float, int) else f"{event.name} must be a number, not {event.value!r}"
    if type(event.value) not in (float, int, str, dict, type(None)):
        return f"{event.name}: value must be a number, text, None or dict, not {type(event.value).__name__}"
    return json_fault(event.value)


def json_fault(value: Any) -> str:
    """What JSON cannot hold in `value`, or an empty string; a tuple counts as a list."""
    kind = type(value)
    if kind in (str, int, bool, type(None)):
        return ""
    if kind is float:
        return "" if math.isfinite(value) else f"{value} outside a metric"
    if kind in (list, tuple):
        return next((fault for item in value if (fault := json_fault(item))), "")
    if kind is not dict:
        return f"a {kind.__name__} is not a JSON value"
    if odd := [key for key in value if type(key) is not str]:
        return f"a key must be a text, not {odd[0]!r}"
    return json_fault(list(value.values()))


def clean(value: Any) -> Any:
    """A value whose texts have `***` in place of secrets, and `?` for what UTF-8 cannot hold: both come with errors."""
    if isinstance(value, str):
        return masked(value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8"))
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value


class EventLog:
    """Append-only events in memory and, with `path`, in a JSONL file.

    One thread appends and flushes; any thread may read. `append` costs a few microseconds: nothing is
    written before `flush`. One process at a time writes a file.

    Raises StoreError if `path` already holds events: `EventLog.load` continues a log.
    """

    def __init__(self, path: str | Path | None = None, events: Iterable[Event] = ()) -> None:
        self.path = None if path is None else Path(path)
        self._events = PackedFigures()
        self._lock = threading.Lock()
        self._flushed = 0
        self._size = 0
        if self.path is not None and self.path.exists() and self.path.stat().st_size:
            raise StoreError(f"{self.path} already holds events; continue it with EventLog.load")
        for event in events:
            self.append(event)

    def __len__(self) -> int:
        return len(self._events)

    def append(self, event: Event) -> None:
        """Add an event; raises StoreError, and adds nothing, for one that the file could not hold."""
        if type(event.value) in (str, dict):
            event = replace(event, value=clean(event.value))
        if fault := fault_of(event):
            raise StoreError(f"event refused: {fault}")
        self._events.append(as_row(event))

    def read(self, after: int = 0) -> list[Event]:
        """The events from index `after` on; ask again with `after + len(…)` for what is new."""
        return [of_row(row) for row in self._events.since(after)]

    def flush(self) -> None:
        """Write what is not yet on disk, in one write, and wait until the disk has it.

        A write that fails raises StoreError and loses nothing: the next flush starts again from the
        last intact line.
        """
        if self.path is None:
            return
        with self._lock:
            pending = self.read(self._flushed)
            if not pending:
                return
            data = "".join(event.to_json() + "\n" for event in pending).encode("ascii")
            try:
                write_at(self.path, self._size, data)
            except OSError as error:
                raise StoreError(f"{self.path} cannot be written: {error.strerror}") from error
            self._flushed += len(pending)
            self._size += len(data)

    @classmethod
    def load(cls, path: str | Path, *, vouched: int | None = None) -> "EventLog":
        """The log that a file holds, ready to be continued.

        vouched  how many of its events are known to have been on the disk; None means every whole line

        A last line without its line end is what a killed writer leaves, and a damaged line behind those that are
        vouched for is what a power cut leaves: from there on all is dropped, and the next flush writes over it.
        Raises StoreError, naming the line, for damage anywhere else.
        """
        log = cls()
        log.path = Path(path)
        log.reload(vouched=vouched)
        return log

    def reload(self, *, vouched: int | None = None) -> None:
        """Take what the file holds now, as `load` does, if that is not what this log has read and written itself."""
        assert self.path is not None
        try:
            if self._flushed and self.path.stat().st_size == self._size:
                return
            data = read_bytes(self.path, limit=LIMIT)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be read: {error.strerror}") from error
        events, size = PackedFigures(), 0
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            try:
                events.append(as_row(Event.from_json(line)))
            except StoreError as error:
                if vouched is not None and number > vouched:
                    break
                raise StoreError(f"{self.path}, line {number}: {error}") from error
            size += len(line) + 1
        with self._lock:
            self._events = events
            self._flushed, self._size = len(events), size


def write_at(path: Path, size: int, data: bytes) -> None:
    """Cut the file to `size` bytes, append `data` and wait for the disk."""
    with path.open("ab") as file:
        if file.tell() < size:
            raise StoreError(f"{path} is shorter than what was written to it: something else changed it")
        if file.tell() > size:  # gone before anything is written in its place, lest a power cut mix the two
            file.truncate(size)
            flush(file.fileno())
        file.write(data)
        file.flush()
        flush(file.fileno())
    if size == 0:
        sync(path.parent)
