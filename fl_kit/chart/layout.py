"""`picture`: the whole scene of a run. Its size depends on the silos and metrics, never on the round."""

import math

from fl_kit.chart.axes import MOST_LINES, Frame
from fl_kit.chart.curves import Curves
from fl_kit.chart.labels import cut
from fl_kit.chart.look import Look
from fl_kit.chart.panel import panel
from fl_kit.chart.scene import BLUE, GREY, VERMILION, Box, Item, Scene, Text
from fl_kit.chart.small import height, small_panels
from fl_kit.chart.words import description, progress_line, trouble_line

WIDTH = 960
HEADER = 60
PANEL = 286
AXIS = 50
"""Left of a plot: room for its numbers."""
BAR = 8
PLAIN = Look()


def picture(curves: Curves, look: Look = PLAIN, now: float = 0.0) -> Scene:
    """The convergence picture of a run.

    now  seconds since the epoch, for the time that is left; not needed once the run has ended
    """
    chosen = look.metrics or curves.metrics
    items = header(curves, chosen, now) if look.header else []
    top = HEADER if look.header else 0
    for i, metric in enumerate(chosen):
        items += panel(curves, metric, frame(i, len(chosen), top), look)
    total = top + math.ceil(len(chosen) / 2) * PANEL
    if len(curves.silos) > MOST_LINES:
        items += small_panels(curves, chosen[0], 6, total, WIDTH - 12, look)
        total += height(len(curves.silos))
    return Scene(width=WIDTH, height=total, items=tuple(items), description=description(curves, chosen))


def frame(i: int, panels: int, top: int) -> Frame:
    """The plot of panel `i`: the whole width for a single one, else half of it."""
    wide = panels == 1
    labels = 200.0 if wide else 180.0
    space = WIDTH if wide else WIDTH / 2
    return Frame(
        left=(0 if wide else (i % 2) * space) + AXIS,
        top=top + (i // 2) * PANEL + 30,
        width=space - AXIS - labels,
        height=PANEL - 30 - 46,
        labels=labels,
    )


def header(curves: Curves, metrics: tuple[str, ...], now: float) -> list[Item]:
    """The bar, the progress line, and a line for what went wrong; the room is kept even if empty."""
    colour = {"failed": VERMILION, "stopped": GREY}.get(curves.status, BLUE)
    share = min(curves.done / curves.total, 1.0) if curves.total else float(curves.status == "completed")
    width = WIDTH - 12
    items: list[Item] = [Box(x=6, y=6, width=width, height=BAR, colour=GREY, opacity=0.25, radius=BAR / 2)]
    if share:
        items.append(Box(x=6, y=6, width=max(width * share, BAR), height=BAR, colour=colour, radius=BAR / 2))
    items.append(Text(x=6, y=32, text=cut(progress_line(curves, metrics, now), width, 13), size=13))
    if trouble := trouble_line(curves):
        bad = bool(curves.failures) or curves.status == "failed"
        text = cut(("✕ " if bad else "") + trouble, width, 11.5)
        items.append(Text(x=6, y=50, text=text, size=11.5, colour=VERMILION if bad else GREY))
    return items
