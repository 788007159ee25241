"""RunPanel: a run live in a cell, with buttons to stop, pause and step it, while other cells run."""

import asyncio
from collections.abc import Generator, Mapping
from typing import Any, Generic

from fl_kit.chart.curves import Fold
from fl_kit.chart.frontend import front_end, notebook_shell
from fl_kit.chart.look import look_of
from fl_kit.chart.views import view_for
from fl_kit.chart.words import progress_line
from fl_kit.events import now
from fl_kit.grid import wrapped
from fl_kit.watcher import SLICE, R, Watcher
from fl_kit.widgets.panel_view import PanelView


class RunPanel(Generic[R]):
    """A run's convergence live in a cell, with buttons; the cell ends at once, and other cells run meanwhile.

    Stop ends the run after its batch, Pause lets it rest before its next step, and One round makes one round of a
    run that rests: between rounds, `run.change(lr=…)` in another cell changes what is to come.

    run        any run, from any moment on: `job.run(…)`, or one attached to in a new kernel
    metrics    which to draw, two a row; by default "loss" and the first other metric of the global model
    log        logarithmic axes of values, which the panel's toggle changes
    target     metric → the value to reach; by default that of the job's own stop rule, if it has one
    reference  metric → label → value: level lines to compare with, such as `Comparison.reference`

    The panel is what the cell shows: let it be the last expression, or call `display` or `show()`. When the run has
    ended one picture stands in its place, which needs neither kernel nor trust. What a run raises is told in words
    there, and raised by `wait()`. Without a live front end (papermill, a terminal) showing it is like `watch`: it
    waits, and leaves one picture or one line.

    Raises FlKitError for a look that makes no sense.

    >>> panel = RunPanel(job.run(federation, on=InProcess()), target={"auc": 0.9})  # doctest: +SKIP
    >>> panel  # in a cell of its own: the live view  # doctest: +SKIP
    >>> run = panel.wait()  # in a later one: until the run has ended  # doctest: +SKIP
    """

    def __init__(
        self,
        run: R,
        *,
        metrics: tuple[str, ...] | None = None,
        log: bool = False,
        target: Mapping[str, float] | None = None,
        reference: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self.run = run
        self._look = look_of(metrics=metrics, log=log, target=target, reference=reference)
        self._view: PanelView | None = None
        self._watcher: Watcher[R] | None = None
        self._held = False
        self._done = False
        self._error: Exception | None = None

    def show(self) -> "RunPanel[R]":
        """Show it in this cell, as often as one likes; gives itself, at once where the view is live."""
        if front_end() != "live":
            self._done = True
            Watcher(self.run, view_for(front_end(), self.run.id, self._look)).until_the_end()
            return self
        if self._view is None:
            self._begin()
        assert self._view is not None
        self._view.show()
        return self

    def wait(self) -> R:
        """The run when it has ended or rests; the panel, shown here if it is not yet, goes on drawing meanwhile.

        A cell that waits holds the kernel: interrupt it to stop the run cleanly, which raises Stopped. `await panel`
        waits and lets the panel's buttons work (from ipykernel 7.4 on). Raises what the run raised.
        """
        if self._watcher is None and not self._done:
            self.show()
        if not self._done:
            assert self._watcher is not None
            self._held = True
            try:
                self._watcher.until_the_end(live=True)
            finally:
                self._held, self._done = False, not self._watcher.rests
        if self._error is not None:
            raise self._error
        self.run.wait()
        return self.run

    def stop(self) -> None:
        """Ask the run to stop, as the button does; completed rounds stay usable."""
        self.run.stop()

    def __await__(self) -> Generator[Any, None, R]:
        return self._until_ended().__await__()

    async def _until_ended(self) -> R:
        if self._view is None and front_end() == "live":
            self.show()
        while self._view is not None and not self._done:
            await asyncio.sleep(SLICE)
        return self.wait()

    def _begin(self) -> None:
        """Draw the first picture, and from then on whenever the kernel is free."""
        self._view = PanelView(self.run, self._look)
        self._watcher = Watcher(self.run, self._view)
        if self._watcher.ended:
            self._done = True
            self._watcher.finish()
        else:
            self._watcher.step(redraw=True)
            loop().add_callback(self._tick)

    def _tick(self) -> None:
        """Draw what is new, and come back; what goes wrong is raised in whoever waits."""
        assert self._watcher is not None
        assert self._view is not None
        if self._done:
            return
        pause = SLICE
        try:
            if not self._held and self._watcher.ended:
                self._done = True
                self._watcher.finish()
                return
            if not self._held:
                pause = self._watcher.step(redraw=self._view.take_change())
        except Exception as error:  # noqa: BLE001 - raised again in wait()
            self._error, self._done = error, True
            self._view.say(f"this panel can draw no more, wait() says why: {error}")
            return
        loop().call_later(pause, self._tick)

    def _ipython_display_(self) -> None:
        self.show()

    def __repr__(self) -> str:
        curves = Fold(self.run.events()).curves()
        progress = progress_line(curves, self._look.metrics or curves.metrics, now())
        return "\n".join(wrapped(f"RunPanel of run {self.run.id}: {progress}"))


def loop() -> Any:
    """The kernel's own event loop: what it calls runs between cells, in the thread that runs them."""
    return notebook_shell().kernel.io_loop
