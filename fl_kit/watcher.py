"""`watch(run)`: the convergence of a run, live in the cell or in the terminal."""

import time
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from fl_kit.chart.curves import Fold
from fl_kit.chart.frontend import front_end
from fl_kit.chart.look import look_of
from fl_kit.chart.views import View, view_for
from fl_kit.errors import Stopped
from fl_kit.events import Event, now

SHORTEST = 0.1
"""Seconds between two repaints at least: ten a second look continuous."""

SHARE = 4
"""Drawing takes at most one part in so many of the time; the rest belongs to the run."""

IDLE = 1.0
"""Seconds after which the time left is redrawn, though nothing happened."""

SLICE = 0.05
"""Seconds of sleep after which the run's status is looked at."""

ENDED = frozenset({"completed", "stopped", "failed"})


class Watched(Protocol):
    """What `watch` needs of a run."""

    @property
    def id(self) -> str: ...

    @property
    def status(self) -> str: ...

    def events(self, after: int = 0) -> list[Event]: ...

    def wait(self, timeout: float | None = None) -> object: ...

    def stop(self) -> None: ...


R = TypeVar("R", bound=Watched)


class Interrupted(Stopped):
    """The kernel was interrupted while a run was watched: one line in the cell, and "Run All" halts."""

    def _render_traceback_(self) -> list[str]:
        return [f"Stopped: {self}"]


def watch(
    run: R,
    *,
    metrics: tuple[str, ...] | None = None,
    log: bool = False,
    target: Mapping[str, float] | None = None,
    reference: Mapping[str, Mapping[str, float]] | None = None,
) -> R:
    """Show a run until it ends or is paused; gives the run itself.

    In a notebook the curves are drawn in place, at most ten times a second and for at most a quarter of
    the time, and one picture stays. Without a reader (papermill, nbclient) there is one picture and one
    line at the end; in a terminal, a progress line. `FL_KIT_DISPLAY=live|static|text` overrules that.
    A run can be watched from any moment on, more than once, and when it has ended.

    metrics    which to draw, two a row; by default "loss" and the first other metric of the global model
    log        logarithmic axes of values; values of 0 or less are counted, not drawn
    target     metric → the value to reach; by default that of the job's own stop rule, if it has one
    reference  metric → label → value: level lines to compare with, such as `Comparison.reference`

    An interrupt stops the run cleanly, completes the picture and raises Stopped; a second one gives up
    at once. Raises what the run raised, after its picture, and FlKitError for a look that makes no sense.

    >>> run = watch(job.run(federation, on=InProcess()), target={"auc": 0.9})  # doctest: +SKIP
    """
    look = look_of(metrics=metrics, log=log, target=target, reference=reference)
    return Watcher(run, view_for(front_end(), run.id, look)).until_the_end()


class Watcher(Generic[R]):
    """One run before one view; `clock` and `sleep` can be a test's own."""

    def __init__(
        self,
        run: R,
        view: View,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._run = run
        self._view = view
        self._clock = clock
        self._sleep = sleep
        self._fold = Fold()
        self._drawn = clock()

    def until_the_end(self, *, live: bool = False) -> R:
        """Follow the run, let its error through after the picture is complete.

        live  leave the view of a run that rests as it is: it may go on
        """
        interrupted = self._follow()
        if live and self.rests:
            return self._run
        try:
            self._run.wait()
        except Stopped:
            if not interrupted:
                raise
        finally:
            self.finish()
        if interrupted:
            raise Interrupted(f"run {self._run.id} was stopped on request; what is done stays usable")
        return self._run

    @property
    def ended(self) -> bool:
        """Whether the run has ended: there is nothing more to come."""
        return self._run.status in ENDED

    @property
    def rests(self) -> bool:
        """Whether the run waits for somebody to let it go on."""
        return self._run.status == "paused"

    def step(self, *, redraw: bool = False) -> float:
        """Draw if anything happened, or `redraw` asks for it; gives the seconds until the next step."""
        start = self._clock()
        if self._take() or redraw or start - self._drawn >= IDLE:
            self._view.update(self._fold.curves(), now())
            self._drawn = start
        return max(SHORTEST, (SHARE - 1) * (self._clock() - start))

    def finish(self) -> None:
        """Complete the picture."""
        self._take()
        self._view.finish(self._fold.curves(), now())

    def _follow(self) -> bool:
        """Draw until the run has ended; whether an interrupt ended it."""
        try:
            self._draw_until_ended()
        except KeyboardInterrupt:
            self._run.stop()
            self._draw_until_ended()
            return True
        return False

    def _draw_until_ended(self) -> None:
        while not (self.ended or self.rests):
            self._pause(self.step())

    def _take(self) -> bool:
        """Fold in what happened since; whether anything did."""
        new = self._run.events(self._fold.count)
        self._fold.add(new)
        return bool(new)

    def _pause(self, seconds: float) -> None:
        """Sleep, but not past the end of the run."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0 and not (self.ended or self.rests):
            self._sleep(min(left, SLICE))
