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

USUAL: tuple[str, ...] = ()
"""Stands for what is drawn without a choice."""

STEP = 10
"""Per cent of the rounds after which a screen reader hears how far the run is."""


class PanelView:
    """Shows a run live under its controls, and in their place at the end the one picture that stays.

    stop  what the Stop button does
    """

    def __init__(self, run_id: str, look: Look, stop: Callable[[], None]) -> None:
        import ipywidgets as w
        from IPython.display import DisplayHandle

        self._run_id = run_id
        self._look, self._asked_for = look, look.metrics
        self._stop = stop
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
            [self._button, self._log, self._metric, self._status], layout=w.Layout(align_items="center")
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
        words = progress_line(curves, self._look.metrics or curves.metrics, now)
        self._chart.value = framed(live_html(curves, picture(curves, self._look, now), words))
        if curves.total:
            self.say(f"{curves.done * 100 // curves.total // STEP * STEP} % done")
        self._output = ({**self._box._repr_mimebundle_(), "text/plain": words}, {})

    def finish(self, curves: Curves, now: float) -> None:
        """Replace the widgets where they are shown; a page that was loaded again keeps them, with the last picture."""
        scene = picture(curves, self._look, now)
        summary = summary_line(self._run_id, curves, self._look.metrics or curves.metrics, now)
        self._chart.value = framed(
            to_svg(scene)
        )  # at once: the first picture by matplotlib takes a second to import it
        self._button.disabled = self._log.disabled = self._metric.disabled = True
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

    def _stop_pressed(self) -> None:
        self._button.disabled, self._button.description = True, "Stopping …"
        try:
            self._stop()
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
