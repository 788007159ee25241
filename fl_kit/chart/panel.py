"""One metric over all rounds: the federation in bold, and its silos as lines or as bands."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from fl_kit.chart.axes import KEY, MOST_LINES, Axes, Column, Frame, axes, constants, grid, level, round_axis
from fl_kit.chart.curves import Curves, Series, best, latest
from fl_kit.chart.labels import BOLD, shorten, spread, width
from fl_kit.chart.look import Look
from fl_kit.chart.scale import Scale, finite, quantile, thin
from fl_kit.chart.scene import GREY, INK, SILO_COLOURS, SKY, VERMILION, Area, Item, Line, Mark, Point, Text
from fl_kit.chart.words import count, figure, standing

STUB = 60.0
LABEL_GAP = 13.0
SIZE = 11.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """What stands at a line's end, `end`: `lead`, then the party's `name` (which may be shortened) and `value`."""

    end: Point
    name: str
    value: str
    line: Line | None
    lead: str = ""
    bold: bool = False


def panel(curves: Curves, metric: str, frame: Frame, look: Look) -> list[Item]:
    """The primitives of one panel."""
    title = Text(
        x=frame.left, y=frame.top - 14, text=shorten(metric, frame.width * 0.48, 12 * BOLD), size=12, bold=True
    )
    scales = axes(curves, metric, frame, look)
    if scales is None:
        return [title, *empty(curves, metric, frame)]
    few = len(curves.silos) <= MOST_LINES
    silos = silo_lines(curves, metric, scales) if few else bands(curves, metric, scales)
    federation = Line(points=(), colour=VERMILION, width=3)
    drawn, label = curve(curves.of(metric), scales, federation, "federation", bold=True)
    fixed = fixed_labels(curves, metric, scales, look)
    labelled = end_labels([*silos[1], *label, *at_the_end(fixed, [*silos[1], *label], frame)], frame)
    texts = [item for item in labelled if isinstance(item, Text)]
    lines = [*grid(scales, frame, texts), *(part for each in fixed for part in across(each, frame, texts))]
    items = [title, *lines, *silos[0], *drawn, *failure_marks(curves, scales, frame)]
    note = log_note(curves, metric, scales, frame) if look.log else []
    return [*items, *best_mark(curves, metric, scales, frame), *note, *labelled]


def empty(curves: Curves, metric: str, frame: Frame) -> list[Item]:
    """The frame before there is anything to draw."""
    words = f"no value of {metric}" if curves.ended else f"waiting for round {curves.done + 1}"
    last = max(curves.total, 1)
    lines = [
        Line(points=((frame.left, y), (frame.right, y)), colour=GREY, width=1, opacity=0.25)
        for y in (frame.top, (frame.top + frame.bottom) / 2, frame.bottom)
    ]
    middle = Text(x=(frame.left + frame.right) / 2, y=frame.top + frame.height / 2 - 8, text=words, anchor="middle")
    return [*lines, *round_axis(Scale(low=0, high=last, start=frame.left, end=frame.right), 0, last, frame), middle]


def pieces(values: Iterable[tuple[int, float]], scales: Axes) -> list[list[Point]]:
    """(round, value) of a thinned series as unbroken stretches of points."""
    found: list[list[Point]] = [[]]
    for r, value in values:
        if r < scales.first or not drawable(value, scales):
            found.append([])
        else:
            found[-1].append((scales.x(r), scales.y(value)))
    return [piece for piece in found if piece]


def drawable(value: float, scales: Axes) -> bool:
    return math.isfinite(value) and (value > 0 or not scales.y.log)


def stretch(piece: list[Point], style: Line) -> Item:
    """One stretch of a line; a single value between gaps is a dot."""
    if len(piece) == 1:
        x, y = piece[0]
        return Mark(x=x, y=y, shape="dot", colour=style.colour, size=max(style.width * 0.9, 2))
    return Line(points=tuple(piece), colour=style.colour, width=style.width, dash=style.dash, opacity=style.opacity)


def curve(
    series: Series, scales: Axes, style: Line, name: str, *, note: str = "", bold: bool = False
) -> tuple[list[Item], list[Label]]:
    """A party's line and its label; nothing of either without a value."""
    drawn = pieces(thin(series, scales.last + 1), scales)
    if not drawn:
        return [], []
    value = latest(series)[1]
    beyond = "↑" if value > scales.steps[-1] else "↓" if value < scales.steps[0] else ""
    label = Label(end=drawn[-1][-1], name=name, value=note or figure(value) + beyond, line=style, bold=bold)
    return [stretch(piece, style) for piece in drawn], [label]


def silo_lines(curves: Curves, metric: str, scales: Axes) -> tuple[list[Item], list[Label]]:
    """A thin line for every silo; the second five colours are dashed."""
    items: list[Item] = []
    labels: list[Label] = []
    for i, silo in enumerate(curves.silos):
        dash = (5.0, 3.0) if i >= len(SILO_COLOURS) else ()
        style = Line(points=(), colour=SILO_COLOURS[i % len(SILO_COLOURS)], dash=dash)
        note = "left out" if curves.has_left(metric, silo) else ""
        drawn, label = curve(curves.of(metric, silo), scales, style, silo, note=note)
        items += drawn
        labels += label
    return items, labels


def bands(curves: Curves, metric: str, scales: Axes) -> tuple[list[Item], list[Label]]:
    """All silos between lowest and highest, and the middle half darker."""
    columns = scales.columns
    ranked = [(silo, value) for silo, value in standing(curves, metric) if drawable(value, scales)]
    if not ranked or not columns:
        return [], []
    items: list[Item] = [band(columns, scales, 0.0, 0.22), band(columns, scales, 0.25, 0.4)]
    last = scales.x(columns[-1][0])
    ends = (("highest", *ranked[0]), ("lowest", *ranked[-1]))
    labels = [
        Label(end=(last, scales.y(value)), name=silo, value=figure(value), line=None, lead=f"{which} ")
        for which, silo, value in ends
    ]
    return items, labels


def band(columns: Sequence[Column], scales: Axes, share: float, opacity: float) -> Area:
    upper = [(scales.x(r), scales.y(quantile(column, 1 - share))) for r, column in columns]
    lower = [(scales.x(r), scales.y(quantile(column, share))) for r, column in columns]
    return Area(points=(*upper, *lower[::-1]), colour=SKY, opacity=opacity)


def fixed_labels(curves: Curves, metric: str, scales: Axes, look: Look) -> list[Label]:
    """The target and the baselines, as labels whose `end` is on their own line."""
    styles = {"target": Line(points=(), colour=VERMILION, width=1.2, dash=(7.0, 4.0))}
    baseline = Line(points=(), colour=INK, width=1.2, dash=(2.0, 3.0))
    return [
        Label(end=(0.0, scales.y(value)), name=name, value=figure(value), line=styles.get(name, baseline))
        for name, value in constants(curves, metric, look).items()
        if drawable(value, scales)
    ]


def at_the_end(fixed: Sequence[Label], labels: Sequence[Label], frame: Frame) -> list[Label]:
    """The labels of level lines, in the column where the others stand."""
    x = max((label.end[0] for label in labels), default=frame.left)
    return [replace(label, end=(x, label.end[1])) for label in fixed]


def across(label: Label, frame: Frame, texts: Sequence[Text]) -> list[Item]:
    """The line itself; a stub that would stay right of a label says nothing."""
    assert label.line is not None
    drawn = level(label.end[1], frame, texts, label.line)
    return [line for line in drawn if line.points[0][0] == frame.left or line.points[1][0] - line.points[0][0] > STUB]


def log_note(curves: Curves, metric: str, scales: Axes, frame: Frame) -> list[Item]:
    """What a logarithmic axis cannot show, in words above the plot; nothing where it shows all."""
    if not scales.y.log:
        words = "no value above 0: linear"
    else:
        parties = curves.series.get(metric, {})
        lacking = sum(value <= 0 for series in parties.values() for value in finite(series))
        if not lacking:
            return []
        words = f"{count(lacking, 'value')} ≤ 0 not shown"
    return [Text(x=frame.right + 12, y=frame.top - 14, text=words, size=10)]


def best_mark(curves: Curves, metric: str, scales: Axes, frame: Frame) -> list[Item]:
    """A diamond on the federation's best round, and its value in the panel's title row."""
    at, value = best(metric, curves.of(metric))
    if at < scales.first or not drawable(value, scales):
        return []
    text = f"best {figure(value)} in round {at}"
    x, y = frame.right, frame.top - 14
    return [
        Mark(x=scales.x(at), y=scales.y(value), shape="diamond", colour=VERMILION, size=6),
        Text(x=x, y=y, text=text, anchor="end"),
    ]


def failure_marks(curves: Curves, scales: Axes, frame: Frame) -> list[Item]:
    """A small cross on the axis in every round with a failure."""
    rounds = sorted({failure.round for failure in curves.failures})[-60:]
    return [Mark(x=scales.x(r), y=frame.bottom, shape="cross", colour=VERMILION, size=3.5) for r in rounds]


def end_labels(labels: Sequence[Label], frame: Frame) -> list[Item]:
    """The labels in one column right of the last point, pushed apart; a hairline leads to a displaced one."""
    if not labels:
        return []
    x = max(label.end[0] for label in labels) + 12
    heights = spread([label.end[1] for label in labels], LABEL_GAP, frame.top, frame.bottom)
    brief = any(label.lead and not fits(label, frame) for label in labels)
    items: list[Item] = []
    for label, y in zip(labels, heights, strict=True):
        end_x, end_y = label.end
        if abs(end_y - y) > 3 or x - end_x > 13:
            items.append(Line(points=((end_x + 3, end_y), (x - 2, y)), colour=GREY, width=0.7, opacity=0.5))
        items += key(label, x, y, frame, brief)
    return items


def fits(label: Label, frame: Frame) -> bool:
    """Whether a label of the plain size fits beside the plot in full."""
    return width(f"{label.lead}{label.name} {label.value}", SIZE) <= room(label, frame)


def room(label: Label, frame: Frame) -> float:
    return frame.labels - indent(label) - 16


def indent(label: Label) -> float:
    return KEY if label.line else 2.0


def key(label: Label, x: float, y: float, frame: Frame, brief: bool) -> list[Item]:
    """A stub of the line itself, then its name and value.

    brief  a band's edges are named without their values, which can be read off the axis
    """
    size = SIZE + 1 if label.bold else SIZE
    wide = size * BOLD if label.bold else size
    value = "" if brief and label.lead else f" {label.value}"
    name = shorten(label.name, room(label, frame) - width(label.lead + value, wide), wide)
    colour = label.line.colour if label.line and label.bold else INK
    words = f"{label.lead}{name}{value}"
    text = Text(x=x + indent(label), y=y + 4, text=words, size=size, colour=colour, bold=label.bold)
    if label.line is None:
        return [text]
    points = ((x, y), (x + KEY - 4, y))
    return [Line(points=points, colour=label.line.colour, width=label.line.width, dash=label.line.dash), text]
