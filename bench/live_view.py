"""How much of the time the live view takes, and how far it lags. `python -m bench.live_view 100 50 10`."""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.child import tell
from bench.report import machine
from fl_kit.chart.curves import Curves
from fl_kit.chart.look import Look
from fl_kit.chart.views import LiveView, View
from fl_kit.events import (
    GLOBAL,
    ORCHESTRATOR,
    ROUND_COMPLETED,
    ROUND_STARTED,
    RUN_COMPLETED,
    RUN_STARTED,
    Event,
    metric_event,
    now,
)
from fl_kit.watcher import Watcher
from fl_kit.widgets.panel_view import PanelView

METRICS = ("loss", "auc")


class SteadyRun:
    """So many rounds a second, each with two figures of every silo, told by a thread as a real run tells them."""

    def __init__(self, silos: int, pace: float, seconds: float) -> None:
        self.id = "steady"
        self.status = "running"
        self.told: dict[int, float] = {}
        self._names = [f"silo-{i:03d}" for i in range(silos)]
        self._pace, self._rounds = pace, round(pace * seconds)
        self._events: list[Event] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def events(self, after: int = 0) -> list[Event]:
        return self._events[after:]

    def wait(self, timeout: float | None = None) -> "SteadyRun":
        self._thread.join(timeout)
        return self

    def stop(self) -> None:
        raise NotImplementedError("nobody stops a benchmark")

    def _work(self) -> None:
        announced = {"rounds": self._rounds, "silos": self._names, "strategy": "FedAvg", "metrics": list(METRICS)}
        self._tell(RUN_STARTED, 0, announced)
        start = time.perf_counter()
        for number in range(1, self._rounds + 1):
            self._tell(ROUND_STARTED, number)
            time.sleep(max(start + number / self._pace - time.perf_counter(), 0))
            for metric in METRICS:
                for i, party in enumerate([*self._names, GLOBAL]):
                    value = 0.3 + (1 + i % 7) / (number + 9)
                    self._events.append(metric_event(round=number, party=party, metric=metric, value=value))
            self._tell(ROUND_COMPLETED, number, {"seconds": 1 / self._pace})
            self.told[number] = time.perf_counter()
        self._tell(RUN_COMPLETED, self._rounds)
        self.status = "completed"

    def _tell(self, name: str, number: int, value: Any = None) -> None:
        self._events.append(Event(time=now(), round=number, party=ORCHESTRATOR, name=name, value=value))


class Sent(LiveView):
    """The view of `watch`, whose messages are encoded as a kernel does and then dropped."""

    sent = 0

    def _show(self, data: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
        self.sent += len(json.dumps({"data": data, "metadata": metadata}))


class Timed:
    """A view that notes when each picture was ready, and which round it showed."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.ready: list[tuple[float, int]] = []

    def update(self, curves: Curves, at: float) -> None:
        self.view.update(curves, at)
        self.ready.append((time.perf_counter(), curves.done))

    def finish(self, curves: Curves, at: float) -> None:
        pass  # the one picture by matplotlib comes when the run has ended


class TimedWatcher(Watcher[SteadyRun]):
    """Notes how long each step took: reading events, folding them in and drawing."""

    spent: list[float]

    def step(self, *, redraw: bool = False) -> float:
        start = time.perf_counter()
        pause = super().step(redraw=redraw)
        self.spent.append(time.perf_counter() - start)
        return pause


def watch(silos: int, pace: float, seconds: float, make: Callable[[], View]) -> dict[str, Any]:
    """What one view costs: shares of the time, and seconds from a round's end to its picture."""
    run = SteadyRun(silos, pace, seconds)
    timed = Timed(make())
    watcher = TimedWatcher(run, timed)
    watcher.spent = []
    start, cpu = time.perf_counter(), time.thread_time()
    watcher.until_the_end()
    elapsed, cpu = time.perf_counter() - start, time.thread_time() - cpu
    return {
        "share": sum(watcher.spent) / elapsed,
        "cpu": cpu / elapsed,
        "frames": len(timed.ready) / elapsed,
        "frame": statistics.median(watcher.spent),
        "lag": lags(run.told, timed.ready),
        "kilobytes": getattr(timed.view, "sent", 0) / max(len(timed.ready), 1) / 1000,
    }


def lags(told: dict[int, float], ready: list[tuple[float, int]]) -> tuple[float, float]:
    """Seconds from the end of a round to the first picture that shows it: median and longest."""
    found, shown = [], 0
    for when, done in ready:
        found += [when - told[number] for number in range(shown + 1, done + 1) if number in told]
        shown = max(shown, done)
    return statistics.median(found), max(found)


def text(found: dict[str, Any], *, command: str) -> str:
    """The figures in words, one line a view."""
    title = f"{found['silos']} silos × {found['pace']:g} rounds a second for {found['seconds']:g} s"
    lines = [f"`{command}`, {machine()}. The live view, {title}; a picture's way to the browser comes on top:", ""]
    for name, view in found["views"].items():
        size = f", {view['kilobytes']:.0f} kB" if view["kilobytes"] else ""
        lines.append(
            f"- {name}: drawing takes {view['share']:.0%} of the time ({view['cpu']:.0%} CPU); {view['frames']:.1f} "
            f"pictures a second, {view['frame'] * 1000:.0f} ms{size} each; "
            f"lag {view['lag'][0]:.2f} s, longest {view['lag'][1]:.2f} s"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("silos", type=int)
    parser.add_argument("pace", type=float, help="rounds a second")
    parser.add_argument("seconds", type=float)
    asked = parser.parse_args()
    size = (asked.silos, asked.pace, asked.seconds)
    views = {
        "watch": watch(*size, lambda: Sent("steady", Look())),
        "RunPanel": watch(*size, lambda: PanelView("steady", Look(), lambda: None)),
    }
    tell({"silos": asked.silos, "pace": asked.pace, "seconds": asked.seconds, "views": views})


if __name__ == "__main__":
    main()
