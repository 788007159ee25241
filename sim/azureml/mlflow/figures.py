"""Metrics of runs: series that only grow, one file of JSON lines for each run."""

import json
import math
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sim.azureml.errors import WorkspaceError
from sim.azureml.state import file_name

NAMES_LIMIT = 50
"""Names of metrics of one run, as Azure documents for its service; what that does with more is not documented."""

KEY_LIMIT = 250
"""Characters of a metric's name, as MLflow's own server has it."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One figure: `timestamp` in milliseconds since 1970; `model_id` where it is of a logged model."""

    key: str
    value: float
    timestamp: int
    step: int
    model_id: str = ""

    @classmethod
    def read(cls, said: dict[str, Any]) -> "Point":
        """A figure as a client sends it; raises WorkspaceError (400)."""
        try:
            point = cls(
                key=said["key"],
                value=float(said["value"]),
                timestamp=int(said["timestamp"]),
                step=int(said.get("step") or 0),
                model_id=said.get("model_id") or "",
            )
        except (KeyError, TypeError, ValueError) as error:
            raise invalid(f"{said!r} is no metric with key, value, timestamp and step") from error
        if not isinstance(said["key"], str) or not 0 < len(point.key) <= KEY_LIMIT:
            raise invalid(f"the metric's name {point.key!r} is no text of 1 to {KEY_LIMIT} characters")
        return point

    def view(self) -> dict[str, Any]:
        """As MLflow's clients read it; JSON has no number for NaN and the infinities."""
        value = (
            self.value
            if math.isfinite(self.value)
            else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(self.value, "NaN")
        )
        return {**asdict(self), "value": value}


class Figures:
    """The metrics of every run; safe for threads of one process, and on disk before `append` returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, Held] = {}
        self._lock = threading.RLock()

    def append(self, run: str, points: Iterable[Point]) -> None:
        """Add figures to a run's series, all or none; one that is there already, as after a retry, is passed over."""
        with self._lock:
            held = self._load(run)
            fresh = {line: point for point in points if (line := json.dumps(asdict(point))) not in held.lines}
            names = {point.key for point in fresh.values()} | set(held.series)
            if len(names) > NAMES_LIMIT:
                raise invalid(
                    f"run {run!r} would have {len(names)} names of metrics; AzureML takes {NAMES_LIMIT} for a run: "
                    "keep names fixed and count with `step`, or put series into child runs"
                )
            if not fresh:
                return
            file = self._file(run)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as lines:
                lines.write("".join(f"{line}\n" for line in fresh))
            held.add(fresh)

    def history(self, run: str, key: str) -> list[Point]:
        """A series in the order in which its figures arrived, so that a place in it stays what it is."""
        with self._lock:
            return list(self._load(run).series.get(key, ()))

    def latest(self, run: str, model: str = "") -> list[Point]:
        """The last figure of each series, or of those of a logged model: of the highest step, of those the newest."""
        with self._lock:
            held = self._load(run)
            return list((held.models.get(model, {}) if model else held.latest).values())

    def _load(self, run: str) -> "Held":
        if run not in self._held:
            held = Held()
            held.add({line: Point(**json.loads(line)) for line in self._lines(run)})
            self._held[run] = held
        return self._held[run]

    def _lines(self, run: str) -> list[str]:
        """The whole lines of a run's file; half a line, left by a process that was killed, is cut off."""
        file = self._file(run)
        if not file.exists():
            return []
        raw = file.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            with file.open("r+b") as lines:
                lines.truncate(len(whole))
        return whole.decode().splitlines()

    def _file(self, run: str) -> Path:
        return self._folder / f"{file_name((run,))}.jsonl"


Latest: TypeAlias = dict[str, Point]


class Held:
    """One run's figures in memory: a figure said of the run and again of a model counts once in the run's series.

    series  name → figures in order of arrival
    latest  name → the last figure
    models  logged model → name → its last figure
    """

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self.series: dict[str, list[Point]] = {}
        self.latest: Latest = {}
        self.models: dict[str, Latest] = {}
        self._said: set[tuple[str, int, int, str]] = set()

    def add(self, fresh: dict[str, Point]) -> None:
        for line, point in fresh.items():
            self.lines.add(line)
            if point.model_id:
                take_latest(self.models.setdefault(point.model_id, {}), point)
            said = (point.key, point.step, point.timestamp, repr(point.value))
            if said not in self._said:
                self._said.add(said)
                self.series.setdefault(point.key, []).append(point)
                take_latest(self.latest, point)


def take_latest(latest: Latest, point: Point) -> None:
    latest[point.key] = max(latest.get(point.key, point), point, key=order)


def order(point: Point) -> tuple[int, int, bool, float]:
    """What MLflow calls latest: the highest step, then time, then value, NaN below all."""
    is_number = not math.isnan(point.value)
    return point.step, point.timestamp, is_number, point.value if is_number else 0.0


def invalid(message: str) -> WorkspaceError:
    return WorkspaceError(message, status=400, code="INVALID_PARAMETER_VALUE")


def missing(message: str) -> WorkspaceError:
    return WorkspaceError(message, status=404, code="RESOURCE_DOES_NOT_EXIST")
