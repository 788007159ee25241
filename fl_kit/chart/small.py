"""Many silos, one small panel each, worst first: where the federation serves a silo badly."""

import math
from collections.abc import Sequence
from dataclasses import replace

from fl_kit.chart.axes import Axes, Frame, axes
from fl_kit.chart.curves import Curves, latest, lower_is_better
from fl_kit.chart.labels import shorten, width
from fl_kit.chart.look import Look
from fl_kit.chart.panel import pieces, stretch
from fl_kit.chart.scale import Scale, thin
from fl_kit.chart.scene import BLUE, GREY, INK, VERMILION, Box, Item, Line, Text
from fl_kit.chart.words import figure

COLUMNS = 6
MOST_PANELS = 12
ROW = 82
HEAD = 26
POINTS = 60
FAR = 0.25
"""A silo this share worse than the federation is marked."""


def height(silos: int) -> int:
    """Pixels that the small panels of so many silos take."""
    return HEAD + ROW * math.ceil(min(silos, MOST_PANELS) / COLUMNS)


def small_panels(curves: Curves, metric: str, left: float, top: float, total: float, look: Look) -> list[Item]:
    """A headed grid of at most twelve panels, `total` pixels wide."""
    ranked = worst_first(curves, metric)
    more = len(ranked) - MOST_PANELS
    title = f"{metric} by silo, worst first" + (f" … and {more} more" if more > 0 else "")
    sign = "grey: the federation  ▲ more than 25 % worse"
    items: list[Item] = [
        Text(x=left, y=top + 8, text=title, size=12, bold=True),
        Text(x=left + total, y=top + 8, text=sign, size=10.5, anchor="end"),
    ]
    pitch = (total + 8) / COLUMNS
    scales = axes(curves, metric, Frame(left=0, top=0, width=1, height=1, labels=0), look)
    federation = thin(curves.of(metric), scales.last + 1, POINTS) if scales else []
    for i, (silo, value) in enumerate(ranked[:MOST_PANELS]):
        frame = Frame(
            left=left + (i % COLUMNS) * pitch,
            top=top + HEAD + 14 + (i // COLUMNS) * ROW,
            width=pitch - 8,
            height=ROW - 24,
            labels=0,
        )
        items += one(curves, metric, silo, value, federation, scales, frame)
    return items


def one(
    curves: Curves,
    metric: str,
    silo: str,
    value: float,
    federation: Sequence[tuple[int, float]],
    scales: Axes | None,
    frame: Frame,
) -> list[Item]:
    """One silo's panel: its name, its value, its line over the federation's, which comes thinned."""
    worse = is_far(metric, value, latest(curves.of(metric))[1])
    colour = VERMILION if worse else BLUE
    text = "left out" if curves.has_left(metric, silo) else "–" if math.isnan(value) else figure(value)
    room = frame.width - width(text, 10.5) - 8
    name = shorten(("▲ " if worse else "") + silo, room, 10.5)
    y = frame.top - 4
    items: list[Item] = [
        Box(x=frame.left, y=frame.top, width=frame.width, height=frame.height, colour=GREY, opacity=0.3, filled=False),
        Text(x=frame.left + 1, y=y, text=name, size=10.5, colour=colour if worse else INK),
        Text(x=frame.right - 1, y=y, text=text, size=10.5, anchor="end"),
    ]
    if scales is None:
        return items
    scales = inset(scales, frame)
    grey = Line(points=(), colour=GREY, width=1, opacity=0.7)
    own = Line(points=(), colour=colour, width=1.8)
    items += [stretch(piece, grey) for piece in pieces(federation, scales)]
    thinned = thin(curves.of(metric, silo), scales.last + 1, POINTS)
    return items + [stretch(piece, own) for piece in pieces(thinned, scales)]


def inset(scales: Axes, frame: Frame) -> Axes:
    """The same axes a little inside the box."""
    x = Scale(low=scales.x.low, high=scales.x.high, start=frame.left + 4, end=frame.right - 4)
    y = Scale(low=scales.y.low, high=scales.y.high, start=frame.bottom - 4, end=frame.top + 4, log=scales.y.log)
    return replace(scales, x=x, y=y)


def is_far(metric: str, value: float, federation: float) -> bool:
    """Whether a silo's value is more than 25 % worse than the federation's."""
    if math.isnan(value) or math.isnan(federation):
        return False
    margin = FAR * abs(federation)
    return value > federation + margin if lower_is_better(metric) else value < federation - margin


def worst_first(curves: Curves, metric: str) -> list[tuple[str, float]]:
    """The silos, worst latest value first; those without a value last, in silo order."""
    found = [(silo, latest(curves.of(metric, silo))[1]) for silo in curves.silos]
    sign = -1 if lower_is_better(metric) else 1
    return sorted(found, key=lambda pair: (math.isnan(pair[1]), 0 if math.isnan(pair[1]) else sign * pair[1]))
