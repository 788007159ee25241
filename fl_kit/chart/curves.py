"""What a convergence picture shows: `Curves`, folded from events one at a time."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from fl_kit import events as e
from fl_kit.events import Event

HIDDEN = frozenset({"train_loss", "update_norm"})
"""Metrics that are drawn only on request: they describe training, not the global model."""

PARTS = ("compute", "wait", "transfer")
"""What a round's seconds may be split into."""

Series = tuple[float, ...]
"""A party's values by round, from round 0; NaN where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A silo's failed step, or its absence from a round, in words."""

    round: int
    silo: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A run as a picture needs it.

    series    metric → party → values by round, from round 0; metrics in the order of the run's first event
    silos     every silo that was announced or has a figure, in that order
    total     rounds asked for; 0 while unknown
    done      the last completed round
    seconds   how long each round took, the last ones last
    since     time of the last start or end of a round, in seconds since the epoch
    left      silo → the last round it was left out of
    target    metric → the value at which the run's own rule stops it
    split     what the last rounds' seconds went into, such as "compute": median over the last five; if known
    status    "waiting", "running", "paused", "completed", "stopped" or "failed"
    message   why the run failed, else the last note
    """

    series: Mapping[str, Mapping[str, Series]] = field(default_factory=dict)
    silos: tuple[str, ...] = ()
    strategy: str = ""
    total: int = 0
    done: int = 0
    seconds: tuple[float, ...] = ()
    since: float = 0.0
    failures: tuple[Failure, ...] = ()
    left: Mapping[str, int] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=dict)
    split: Mapping[str, float] = field(default_factory=dict)
    status: str = "waiting"
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether no more events are to come."""
        return self.status in ("completed", "stopped", "failed")

    @property
    def pace(self) -> float:
        """Seconds a round, the median of the last five; NaN before the first round is done."""
        return median(self.seconds[-5:]) if self.seconds else math.nan

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is drawn unless asked otherwise: the loss and the first other metric of the global model."""
        other = [name for name in self.series if name != "loss" and name not in HIDDEN]
        return ("loss", *other[:1])

    def of(self, metric: str, party: str = e.GLOBAL) -> Series:
        """A party's values of a metric by round; empty if there are none."""
        return self.series.get(metric, {}).get(party, ())

    def first_round(self, metric: str) -> int:
        """0 if the model was measured before the first round, else 1."""
        return 0 if any(math.isfinite(s[0]) for s in self.series.get(metric, {}).values()) else 1

    def has_left(self, metric: str, silo: str) -> bool:
        """Whether the silo was left out of a round later than that of its last value."""
        return self.left.get(silo, -1) > latest(self.of(metric, silo))[0]


def latest(series: Series) -> tuple[int, float]:
    """The last round with a finite value, and that value; (-1, NaN) if there is none."""
    for i in range(len(series) - 1, -1, -1):
        if math.isfinite(series[i]):
            return i, series[i]
    return -1, math.nan


def best(metric: str, series: Series) -> tuple[int, float]:
    """The first round with the best finite value, and that value; (-1, NaN) if there is none."""
    finite = [(i, value) for i, value in enumerate(series) if math.isfinite(value)]
    if not finite:
        return -1, math.nan
    return (min if lower_is_better(metric) else max)(finite, key=lambda pair: pair[1])


FALLING = ("loss", "error", "mae", "mse", "rmse", "perplexity", "brier", "ece", "nll")


def lower_is_better(metric: str) -> bool:
    """Whether a metric of that name is an error, judged by its words; else it is a score.

    >>> lower_is_better("log_loss"), lower_is_better("auc")
    (True, False)
    """
    words = metric.lower().replace("-", "_").replace("/", "_").split("_")
    return any(word.endswith("loss") or word in FALLING for word in words)


class Fold:
    """Events in, `Curves` out; each event costs the same however long the run is."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._series: dict[str, dict[str, list[float]]] = {}
        self._silos: dict[str, None] = {}
        self._failures: list[Failure] = []
        self._left: dict[str, int] = {}
        self._seconds: list[float] = []
        self._split: dict[str, list[float]] = {}
        self._facts: dict[str, Any] = {}
        self.count = 0
        self.add(events)

    def add(self, events: Iterable[Event]) -> None:
        """Take in what happened next."""
        for event in events:
            self.count += 1
            if e.is_metric(event):
                self._figure(event)
            else:
                self._step(event)

    def curves(self) -> Curves:
        """What is known by now."""
        series = {
            metric: {party: tuple(values) for party, values in parties.items()}
            for metric, parties in self._series.items()
        }
        return Curves(
            series=series,
            silos=tuple(self._silos),
            seconds=tuple(self._seconds),
            failures=tuple(self._failures),
            left=dict(self._left),
            split={name: median(spent[-5:]) for name, spent in self._split.items()},
            **self._facts,
        )

    def _figure(self, event: Event) -> None:
        parties = self._series.setdefault(e.metric_name(event), {})
        values = parties.setdefault(event.party, [])
        if len(values) <= event.round:
            values.extend([math.nan] * (event.round + 1 - len(values)))
        values[event.round] = float(event.value)  # type: ignore[arg-type]  # a figure is a number
        if event.party not in (e.GLOBAL, e.ORCHESTRATOR):
            self._silos.setdefault(event.party)

    def _step(self, event: Event) -> None:
        value = event.value if isinstance(event.value, dict) else {}
        match event.name:
            case e.RUN_STARTED | e.RUN_RESUMED:
                self._start(event, value)
            case e.ROUND_STARTED:
                self._facts |= {"status": "running", "since": event.time}
            case e.ROUND_COMPLETED:
                self._facts |= {"done": event.round, "since": event.time}
                self._time(event, value)
            case e.STEP_FAILED:
                what = f"{value.get('step', 'a step')} failed: {value.get('kind', '')}: {value.get('message', '')}"
                self._failures.append(Failure(round=event.round, silo=event.party, words=what))
            case e.SILO_LEFT_OUT:
                self._left[event.party] = event.round
                self._failures.append(Failure(round=event.round, silo=event.party, words=f"left out: {event.value}"))
            case e.RUN_CHANGED:
                self._announce(value)
                self._facts["message"] = str(value.get("words", ""))
            case e.RUN_COMPLETED | e.RUN_STOPPED | e.RUN_PAUSED:
                self._facts["status"] = event.name.removeprefix("run/")
            case e.RUN_FAILED:
                self._facts |= {"status": "failed", "message": str(event.value or "")}
            case e.NOTE | e.STOPPED_EARLY:
                self._facts["message"] = str(event.value)

    def _time(self, event: Event, value: dict[str, Any]) -> None:
        if not event.round:  # what comes before round 1 takes no time of a round's
            return
        if "seconds" in value:
            self._seconds.append(float(value["seconds"]))
        for name in (name for name in PARTS if name in value):
            self._split.setdefault(name, []).append(float(value[name]))

    def _start(self, event: Event, value: dict[str, Any]) -> None:
        self._facts |= {"status": "running", "since": event.time, "message": ""}
        self._announce(value)

    def _announce(self, value: dict[str, Any]) -> None:
        self._facts |= {"total": int(value["rounds"])} if "rounds" in value else {}
        self._facts |= {"strategy": str(value["strategy"])} if "strategy" in value else {}
        rule = value.get("stop") or {}
        if isinstance(rule.get("value"), float | int):
            self._facts["target"] = {str(rule["metric"]): float(rule["value"])}
        for name in value.get("silos", ()):
            self._silos.setdefault(str(name))
        for name in value.get("metrics", ()):  # in the task's order, whatever the order of the figures
            self._series.setdefault(str(name), {})
