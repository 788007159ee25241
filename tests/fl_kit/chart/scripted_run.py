"""A run that follows a script instead of training: for the tests of `watch` and of the charts.

Also imported by the notebooks that those tests execute.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence

from fl_kit.errors import FlKitError
from fl_kit.events import (
    ROUND_COMPLETED,
    ROUND_STARTED,
    RUN_COMPLETED,
    RUN_STARTED,
    RUN_STOPPED,
    SILO_LEFT_OUT,
    STEP_FAILED,
    Event,
    metric_event,
)

START = 1_700_000_000.0
SECONDS = 0.2
METRICS = ("loss", "auc")


def names(silos: int) -> list[str]:
    return [f"hospital-{i + 1:03d}" for i in range(silos)]


def value(metric: str, silo: int, round: int) -> float:
    """The scripted figure: losses fall towards a floor of the silo's own, AUCs rise towards one."""
    if metric == "loss":
        return (0.35 + 0.05 * silo) * (1 + 4 * math.exp(-round / 6))
    return 0.5 + (0.4 - 0.003 * silo) * (1 - math.exp(-round / 5))


def story(
    silos: int | Sequence[str] = 3,
    rounds: int = 5,
    until: int | None = None,
    metrics: Sequence[str] = METRICS,
    missing: Callable[[int, int], bool] = lambda silo, round: False,
    fails: tuple[int, int] | None = None,
    ending: str = RUN_COMPLETED,
    reason: str | None = None,
) -> Iterator[Event]:
    """The events of a run of `rounds` rounds, up to the end of round `until`.

    missing  (silo, round) → whether the silo has no figure there
    fails    (silo, round): the silo fails in that round and is left out from it on
    """
    party = names(silos) if isinstance(silos, int) else list(silos)
    until = rounds if until is None else until
    started = {"rounds": rounds, "silos": party, "strategy": "FedAvg"}
    yield Event(time=START, round=0, party="global", name=RUN_STARTED, value=started)
    for r in range(until + 1):
        now = START + r * SECONDS
        out = {fails[0]} if fails and r >= fails[1] else set()
        present = [i for i in range(len(party)) if i not in out and not missing(i, r)]
        for metric in metrics:
            for i in present:
                yield metric_event(time=now, round=r, party=party[i], metric=metric, value=value(metric, i, r))
            if present:
                mean = sum(value(metric, i, r) for i in present) / len(present)
                yield metric_event(time=now, round=r, party="global", metric=metric, value=mean)
        if fails and fails[1] == r:
            said = {"step": "fit", "kind": "TaskError", "message": "no column <age>\n& no row", "detail": "…"}
            yield Event(time=now, round=r, party=party[fails[0]], name=STEP_FAILED, value=said)
            yield Event(time=now, round=r, party=party[fails[0]], name=SILO_LEFT_OUT, value="no column <age>")
        if r:
            yield Event(time=now, round=r, party="orchestrator", name=ROUND_COMPLETED, value={"seconds": SECONDS})
        if r < rounds:
            yield Event(time=now, round=r + 1, party="orchestrator", name=ROUND_STARTED)
    if until == rounds:
        yield Event(time=START + rounds * SECONDS, round=rounds, party="global", name=ending, value=reason)


class ScriptedRun:
    """Tells `events` one by one, `delay` seconds apart on `clock`; ends in `status`, with `error`.

    `stop` is obeyed `lag` seconds later.
    """

    def __init__(
        self,
        events: Iterator[Event] | Sequence[Event],
        delay: float = 0.0,
        status: str = "completed",
        error: FlKitError | None = None,
        lag: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.id = "scripted"
        self.asked: list[int] = []
        self.stops = 0
        self._events = list(events)
        self._delay = delay
        self._status = status
        self._error = error
        self._lag = lag
        self._clock = clock
        self._sleep = sleep
        self._start = clock()
        self._stopped_at: float | None = None

    def __repr__(self) -> str:
        return f"ScriptedRun({self.status})"

    @property
    def status(self) -> str:
        if self._stopped_at is not None:
            return "stopped" if self._clock() - self._stopped_at >= self._lag else "running"
        return self._status if self._told() >= len(self._events) else "running"

    def events(self, after: int = 0) -> list[Event]:
        self.asked.append(after)
        told = self._events[: self._told()]
        if self.status == "stopped" and self._stopped_at is not None:
            told = [*told, Event(time=told[-1].time, round=told[-1].round, party="global", name=RUN_STOPPED)]
        return told[after:]

    def wait(self, timeout: float | None = None) -> "ScriptedRun":
        end = math.inf if timeout is None else self._clock() + timeout
        while self.status == "running" and self._clock() < end:
            self._sleep(0.01)
        if self._error is not None and self.status != "running":
            raise self._error
        return self

    def stop(self) -> None:
        self.stops += 1
        self._stopped_at = self._clock() if self._stopped_at is None else self._stopped_at

    def _told(self) -> int:
        now = self._clock() if self._stopped_at is None else self._stopped_at
        return len(self._events) if not self._delay else min(int((now - self._start) / self._delay), len(self._events))
