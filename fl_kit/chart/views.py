"""One way of showing a run for each kind of front end; all have `update` and `finish`."""

import base64
import sys
from html import escape
from typing import Any, Protocol, TextIO

from fl_kit.chart.curves import Curves
from fl_kit.chart.figure import to_png
from fl_kit.chart.frontend import FrontEnd
from fl_kit.chart.layout import picture
from fl_kit.chart.look import Look
from fl_kit.chart.scene import Scene
from fl_kit.chart.svg import to_svg
from fl_kit.chart.words import progress_line, summary_line


class View(Protocol):
    """Shows curves while a run goes on, and once more when it has ended."""

    def update(self, curves: Curves, now: float) -> None: ...

    def finish(self, curves: Curves, now: float) -> None: ...


def view_for(front_end: FrontEnd, run_id: str, look: Look) -> View:
    """The view for a front end."""
    match front_end:
        case "live":
            return LiveView(run_id, look)
        case "static":
            return StaticView(run_id, look)
        case "text":
            return TextView(run_id, look)


class LiveView:
    """A notebook: one output, updated in place; at the end a picture that needs neither kernel nor trust."""

    def __init__(self, run_id: str, look: Look) -> None:
        self._run_id = run_id
        self.look = look
        self._handle: Any = None

    def update(self, curves: Curves, now: float) -> None:
        scene = picture(curves, self.look, now)
        words = progress_line(curves, self.look.metrics or curves.metrics, now)
        self._show({"text/html": live_html(curves, scene, words), "text/plain": words})

    def finish(self, curves: Curves, now: float) -> None:
        summary = summary_line(self._run_id, curves, self.look.metrics or curves.metrics, now)
        self._show(*final_bundle(picture(curves, self.look, now), summary))

    def _show(self, data: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(data, metadata=metadata or {}, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(data, metadata=metadata or {}, raw=True)


class StaticView:
    """A notebook that nobody watches: one picture and one line at the end."""

    def __init__(self, run_id: str, look: Look) -> None:
        self._run_id = run_id
        self.look = look

    def update(self, curves: Curves, now: float) -> None:
        pass

    def finish(self, curves: Curves, now: float) -> None:
        from IPython.display import display

        summary = summary_line(self._run_id, curves, self.look.metrics or curves.metrics, now)
        data, metadata = final_bundle(picture(curves, self.look, now), summary)
        display(data, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
        sys.stdout.write(summary + "\n")


class TextView:
    """A terminal: one line rewritten in place, and the summary at the end.

    A stream that is no terminal (a log file) gets the summary alone.
    """

    def __init__(self, run_id: str, look: Look, stream: TextIO | None = None) -> None:
        self._run_id = run_id
        self.look = look
        self._stream = stream or sys.stderr
        self._length = 0

    def update(self, curves: Curves, now: float) -> None:
        if self._stream.isatty():
            self._rewrite(progress_line(curves, self.look.metrics or curves.metrics, now))

    def finish(self, curves: Curves, now: float) -> None:
        if self._length:
            self._rewrite("")
            self._stream.write("\r")
            self._stream.flush()
        sys.stdout.write(summary_line(self._run_id, curves, self.look.metrics or curves.metrics, now) + "\n")

    def _rewrite(self, line: str) -> None:
        self._stream.write("\r" + line.ljust(self._length))
        self._stream.flush()
        self._length = len(line)


def live_html(curves: Curves, scene: Scene, words: str) -> str:
    """The live view: the picture, and its progress for those who hear it."""
    total = f' aria-valuemax="{curves.total}"' if curves.total else ""
    return (
        f'<div role="progressbar" aria-label="federated run" aria-valuemin="0"{total} aria-valuenow="{curves.done}" '
        f'aria-valuetext="{escape(words)}"></div>{to_svg(scene)}'
    )


def final_bundle(scene: Scene, summary: str) -> tuple[dict[str, str], dict[str, Any]]:
    """One output that every front end can show, and the size of its PNG in pixels."""
    data = {
        "image/svg+xml": to_svg(scene),
        "image/png": base64.b64encode(to_png(scene)).decode("ascii"),
        "text/plain": summary,
    }
    return data, {"image/png": {"width": scene.width, "height": scene.height}}
