"""The widgets of a run's panel: a Stop button, what is drawn and how, and the picture."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from html import escape
from typing import Any

from fl_kit.chart.curves import Curves
from fl_kit.chart.layout import WIDTH, picture
from fl_kit.chart.look import Look
from fl_kit.chart.svg import to_svg
from fl_kit.chart.views import final_bundle, live_html
from fl_kit.chart.words import progress_line, summary_line
from fl_kit.watcher import Watched

USUAL: tuple[str, ...] = ()
"""Stands for what is drawn without a choice."""

STEP = 10
"""Per cent of the rounds after which a screen reader hears how far the run is."""


class PanelView:
    """Shows a run live under its controls, and in their place at the end the one picture that stays.

    run  the run whose buttons these are; one that cannot be paused has none for that
    """

    def __init__(self, run: Watched, look: Look) -> None:
        import ipywidgets as w
        from IPython.display import DisplayHandle

        self._run = run
        self._look, self._asked_for = look, look.metrics
        self._changed = False
        self._handle: Any = DisplayHandle()  # type: ignore[no-untyped-call]
        self._output: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
        self._is_shown = False
        self._button = w.Button(
            description="Stop",
            icon="stop",
            button_style="warning",
            tooltip="stop the run; completed rounds stay usable",
        )
        self._button.on_click(lambda _: self._stop_pressed())
        self._pause = w.Button(layout=w.Layout(width="104px"))
        self._pause.on_click(lambda _: self._pause_pressed())
        self._step = w.Button(
            description="One round",
            icon="step-forward",
            tooltip="make one round, then rest",
            layout=w.Layout(width="108px"),
        )
        self._step.on_click(lambda _: self._asked(lambda: self._run.step(wait=False)))  # type: ignore[attr-defined]
        self._show_paused(False)
        self._log = w.ToggleButton(
            value=look.log, description="log scale", tooltip="logarithmic axes of values", layout=w.Layout(width="92px")
        )
        self._log.observe(lambda change: self._see(log=change["new"]), names="value")
        self._metric = w.Dropdown(
            options=[("…", USUAL)],
            description="metric",
            style={"description_width": "initial"},
            layout=w.Layout(width="230px"),
        )
        self._metric.observe(lambda change: self._see(metrics=change["new"] or self._asked_for), names="value")
        self._status = w.HTML(layout=w.Layout(margin="0 0 0 12px"))
        self._controls = w.HBox(
            [self._button, *self._pausing(), self._log, self._metric, self._status],
            layout=w.Layout(align_items="center"),
        )
        self._chart = w.HTML(layout=w.Layout(margin="0", max_width=f"{WIDTH}px"))
        self._box = w.VBox([self._controls, self._chart])

    def show(self) -> None:
        """Put the newest picture into the cell that runs; what comes later replaces it there too."""
        data, metadata = self._output
        self._is_shown = True
        self._handle.display(data, metadata=metadata, raw=True)

    def take_change(self) -> bool:
        """Whether something was chosen since the last time this was asked."""
        changed, self._changed = self._changed, False
        return changed

    def update(self, curves: Curves, now: float) -> None:
        self._offer(curves)
        self._show_paused(curves.status == "paused")
        words = progress_line(curves, self._look.metrics or curves.metrics, now)
        self._chart.value = framed(live_html(curves, picture(curves, self._look, now), words))
        if curves.total:
            self.say(f"{curves.done * 100 // curves.total // STEP * STEP} % done")
        self._output = ({**self._box._repr_mimebundle_(), "text/plain": words}, {})

    def finish(self, curves: Curves, now: float) -> None:
        """Replace the widgets where they are shown; a page that was loaded again keeps them, with the last picture."""
        scene = picture(curves, self._look, now)
        summary = summary_line(self._run.id, curves, self._look.metrics or curves.metrics, now)
        self._chart.value = framed(
            to_svg(scene)
        )  # at once: the first picture by matplotlib takes a second to import it
        for control in (self._button, self._pause, self._step, self._log, self._metric):
            control.disabled = True
        self._output = final_bundle(scene, summary)
        self._controls.layout.display = "none"
        if self._is_shown:
            data, metadata = self._output
            self._handle.update(data, metadata=metadata, raw=True)

    def _offer(self, curves: Curves) -> None:
        """The metrics that there are by now, the choice kept."""
        usual = self._asked_for or curves.metrics
        others = [(name, (name,)) for name in curves.series if (name,) != usual]
        options = [(" and ".join(usual), USUAL), *others]
        if list(self._metric.options) != options:
            chosen = self._metric.value
            self._metric.options = options  # which chooses the first
            self._metric.value = chosen
            self._changed = False

    def _see(self, **changed: Any) -> None:
        self._look = replace(self._look, **changed)
        self._changed = True

    def _pausing(self) -> list[Any]:
        """The buttons that a run has that can be paused."""
        return [self._pause, self._step] if hasattr(self._run, "pause") else []

    def _show_paused(self, paused: bool) -> None:
        words, icon = ("Continue", "play") if paused else ("Pause", "pause")
        self._is_paused = paused
        self._pause.description, self._pause.icon = words, icon
        self._pause.tooltip = "let the run go on" if paused else "let the run rest before its next step"
        self._pause.disabled = False
        self._step.disabled = not paused

    def _pause_pressed(self) -> None:
        if self._is_paused:
            self._asked(self._run.resume)  # type: ignore[attr-defined]  # a run that can be paused has it
        else:
            self._asked(self._run.pause)  # type: ignore[attr-defined]

    def _asked(self, what: Callable[[], object]) -> None:
        """Do what a button asks for; what goes wrong is told beside the buttons, and raised."""
        self._pause.disabled = self._step.disabled = True
        try:
            what()
        except Exception as error:
            self._show_paused(self._is_paused)
            self.say(f"that cannot be done: {error}")
            raise

    def _stop_pressed(self) -> None:
        self._button.disabled, self._button.description = True, "Stopping …"
        try:
            self._run.stop()
        except Exception as error:
            self._button.disabled, self._button.description = False, "Stop"
            self.say(f"the run could not be stopped: {error}")
            raise

    def say(self, words: str) -> None:
        """Say something beside the controls, which screen readers announce."""
        told = f'<span role="status" style="color:#767676">{escape(words)}</span>'
        if self._status.value != told:
            self._status.value = told


def framed(html: str) -> str:
    """The picture without the line's own height below it, so that the view is as high as the picture."""
    return f'<div style="line-height:0">{html}</div>'
