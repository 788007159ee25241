"""The frame of a panel: its scales, its grid and its axis of rounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fl_kit.chart.curves import Curves
from fl_kit.chart.labels import width
from fl_kit.chart.look import Look
from fl_kit.chart.scale import Scale, finite, log_ticks, round_ticks, tick_texts, ticks, value_range
from fl_kit.chart.scene import GREY, Item, Line, Text

MOST_LINES = 8
"""More silos than this are drawn as bands: more lines cannot be told apart."""

COLUMNS = 119
"""At most so many rounds of a band, beside the last one: one each two pixels of half a picture."""

Column = tuple[int, list[float]]

KEY = 18.0
"""Left of a label's text: a stub of the line that it names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Where a panel's plot lies, without its title and axes; `labels` is the room right of it."""

    left: float
    top: float
    width: float
    height: float
    labels: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """The scales of one panel and the rounds they span.

    columns  with many silos: round → their values in order, of the rounds that are drawn
    """

    x: Scale
    y: Scale
    first: int
    last: int
    steps: tuple[float, ...]
    columns: tuple[Column, ...] = ()


def axes(curves: Curves, metric: str, frame: Frame, look: Look) -> Axes | None:
    """The panel's scales; None while no value of the metric is known.

    A logarithmic axis leaves out what is not above 0; where nothing is, the axis is linear after all.
    """
    parties = curves.series.get(metric, {})
    first = curves.first_round(metric)
    span = curves.done if curves.ended else curves.total  # what did not come needs no room
    last = max(span, *(len(series) - 1 for series in parties.values()), first + 1) if parties else first + 1
    federation = finite(curves.of(metric))
    many = len(curves.silos) > MOST_LINES
    found = columns(curves, metric, first, last) if many else []
    each = (column for _, column in found) if many else (finite(parties.get(silo, ())) for silo in curves.silos)
    silos = [value for values in each for value in values]
    if not federation and not silos:
        return None
    lines = list(constants(curves, metric, look).values())
    log = look.log and (any(value > 0 for value in federation) or any(value > 0 for value in silos))
    if log:
        federation, silos, lines = ([v for v in values if v > 0] for values in (federation, silos, lines))
        positive = ((r, [v for v in column if v > 0]) for r, column in found)
        found = [(r, column) for r, column in positive if column]
    low, high = value_range(silos, federation)
    low, high = min([low, *lines]), max([high, *lines])
    steps = tuple(log_ticks(low, high) if log else ticks(low, high))
    return Axes(
        x=Scale(low=first, high=last, start=frame.left, end=frame.right),
        y=Scale(low=steps[0], high=steps[-1], start=frame.bottom, end=frame.top, log=log),
        first=first,
        last=last,
        steps=steps,
        columns=tuple(found),
    )


def columns(curves: Curves, metric: str, first: int, last: int) -> list[Column]:
    """The silos' values in order, of so many rounds as can be told apart and of the last that every silo told of.

    Which rounds depends on the run's length alone, so that a band does not wobble as it grows.
    """
    series = [curves.of(metric, silo) for silo in curves.silos]
    told = len(curves.of(metric)) or max(map(len, series), default=0)
    chosen = dict.fromkeys([*range(first, told, math.ceil((last + 1) / COLUMNS)), told - 1])
    by_round = [(r, sorted(finite([values[r] for values in series if r < len(values)]))) for r in chosen if r >= first]
    return [(r, column) for r, column in by_round if column]


def constants(curves: Curves, metric: str, look: Look) -> dict[str, float]:
    """What is drawn level beside the curves: the target, and the baselines by their labels."""
    targets = curves.target if look.target is None else look.target
    target = {"target": targets[metric]} if metric in targets else {}
    return {**target, **look.reference.get(metric, {})}


def grid(scales: Axes, frame: Frame, labels: Sequence[Text] = ()) -> list[Item]:
    """Horizontal lines with their values, and the axis of rounds; lines make room for the labels they meet."""
    items: list[Item] = []
    style = Line(points=(), colour=GREY, width=1, opacity=0.25)
    for value, text in zip(scales.steps, tick_texts(scales.steps, log=scales.y.log), strict=True):
        y = scales.y(value)
        items += level(y, frame, labels, style)
        items.append(Text(x=frame.left - 8, y=y + 4, text=text, anchor="end"))
    return [*items, *round_axis(scales.x, scales.first, scales.last, frame)]


def level(y: float, frame: Frame, labels: Sequence[Text], style: Line) -> list[Line]:
    """A line across the plot that makes room for the labels it meets."""
    met = [label for label in labels if abs(label.y - 4 - y) < label.size * 0.7]
    return [replace(style, points=((start, y), (end, y))) for start, end in free(frame.left, frame.right, met)]


def free(start: float, end: float, labels: Sequence[Text]) -> list[tuple[float, float]]:
    """What remains of the stretch from `start` to `end` beside the labels, which start alike."""
    if not labels:
        return [(start, end)]
    first = min(label.x for label in labels) - KEY - 4
    last = max(label.x + width(label.text, label.size) for label in labels)
    return [(a, b) for a, b in ((start, min(first, end)), (last, end)) if b > a]


def round_axis(x: Scale, first: int, last: int, frame: Frame) -> list[Item]:
    most = max(int(frame.width / 40), 2)
    texts = [Text(x=x(r), y=frame.bottom + 18, text=f"{r:,}", anchor="middle") for r in round_ticks(first, last, most)]
    return [*texts, Text(x=(frame.left + frame.right) / 2, y=frame.bottom + 33, text="round", anchor="middle")]
