"""From values to pixels: nice ticks, ranges that survive an outlier, and lines of at most 240 points."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LARGEST = 1e300
"""Values beyond are not drawn, like NaN, so that a range never overflows."""

POINTS = 240
"""At most so many points a line; more cannot be told apart in a picture of this width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A map from [low, high] to pixels [start, end], linear or logarithmic; values outside stay on the edge.

    A logarithmic one needs 0 < low, and is asked for positive values only.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers that enclose [low, high], about `most` of them.

    >>> ticks(0.13, 0.88)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    size = max(abs(low), abs(high)) or 1.0
    if high - low < 1e-4 * size:
        low, high = low - 0.05 * size, high + 0.05 * size
    step = nice((high - low) / most)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round_to(i * step, step) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers that enclose [low, high], 0 < low, for a logarithmic axis.

    Where they lie within a few times of one another the ticks are even in value, beyond that in proportion.

    >>> log_ticks(0.013, 0.88)
    [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    >>> log_ticks(0.4, 0.9)
    [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    """
    if high <= 3 * low:
        return [tick for tick in ticks(low, high) if tick > 0]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for marks in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        every = [round_to(m * 10.0**power, 10.0**power) for power in range(first, last + 1) for m in marks]
        above = next(i for i, tick in enumerate(every) if tick >= high * (1 - 1e-9))
        below = next(i for i in range(len(every) - 1, -1, -1) if every[i] <= low * (1 + 1e-9))
        if above - below < most:
            return every[below : above + 1]
    step = math.ceil((last - first) / (most - 1))
    return [10.0**power for power in range(first, last + step, step)]


def nice(step: float) -> float:
    """The least of 1, 2, 2.5, 5 × 10^n that is not below `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= step * (1 - 1e-9))


def round_to(value: float, step: float) -> float:
    return round(value, max(0, 2 - math.floor(math.log10(step)))) + 0.0


def tick_texts(steps: Sequence[float], *, log: bool) -> list[str]:
    """The ticks' numbers: on a logarithmic axis each with its own decimals, else all with as many."""
    if log and steps[-1] > 3 * steps[0]:
        return [tick_text(value, 10.0 ** math.floor(math.log10(value) + 1e-9)) for value in steps]
    return [tick_text(value, steps[1] - steps[0]) for value in steps]


def tick_text(value: float, step: float) -> str:
    """A tick's number, with the decimals that its step needs.

    >>> tick_text(0.5, 0.25), tick_text(20.0, 10.0), tick_text(2e7, 1e7)
    ('0.50', '20', '2e+07')
    """
    if value and (abs(value) >= 1e6 or step < 1e-5):
        return f"{value:.4g}"
    places = 0
    while places < 6 and abs(round(step, places) - step) > step * 1e-6:
        places += 1
    return f"{value:,.{places}f}"


def round_ticks(first: int, last: int, most: int) -> list[int]:
    """Whole numbers for the axis of rounds: both ends always, the ones between never crowded.

    >>> round_ticks(0, 25, 6)
    [0, 5, 10, 15, 20, 25]
    """
    step = nice_whole(max(last - first, 1) / most)
    between = [r for r in range(0, last, step) if r - first >= 0.7 * step and last - r >= 0.7 * step]
    return [first, *between, last]


def nice_whole(step: float) -> int:
    """The least of 1, 2, 5 × 10^n that is a whole number and not below `step`."""
    power = int(10.0 ** max(math.floor(math.log10(step)), 0))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step)


def value_range(silos: Sequence[float], federation: Sequence[float]) -> tuple[float, float]:
    """The range to draw: all of the federation's values, and the silos' but for far outliers.

    One silo that diverges must not flatten every other line. A value is far if it lies more than four
    quartile ranges beyond the quartiles and more than the federation's whole range beyond its ends.
    Both sequences hold finite values; not both are empty.
    """
    ordered = sorted(silos)
    ends = [*ordered[:1], *ordered[-1:], *federation]
    if len(ordered) < 4 or not federation:
        return min(ends), max(ends)
    bottom, top = min(federation), max(federation)
    quarter, three = quantile(ordered, 0.25), quantile(ordered, 0.75)
    least = min(quarter - 4 * (three - quarter), bottom - (top - bottom))
    most = max(three + 4 * (three - quarter), top + (top - bottom))
    kept = ordered[bisect_left(ordered, least) : bisect_right(ordered, most)]
    return min([bottom, *kept[:1]]), max([top, *kept[-1:]])


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values, interpolated linearly.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.25)
    1.75
    """
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def finite(values: Iterable[float]) -> list[float]:
    """The values that can be drawn."""
    return [value for value in values if -LARGEST <= value <= LARGEST]


def thin(series: Sequence[float], rounds: int, most: int = POINTS) -> list[tuple[int, float]]:
    """(round, value) for at most `most` points, of a run of `rounds` rounds.

    Each of equal buckets of rounds keeps its lowest and highest value, so that no spike is lost; a bucket
    without a value keeps a NaN, which breaks the line. The last value is always kept. The buckets
    depend on the run's length alone: a line does not wobble as it grows.
    """
    if max(rounds, len(series)) <= most:
        return list(enumerate(series))
    width = math.ceil(max(rounds, len(series)) / ((most - 1) // 2))
    points: list[tuple[int, float]] = []
    for start in range(0, len(series), width):
        bucket = series[start : start + width]
        held = bucket if math.isfinite(sum(bucket)) else finite(bucket)
        if not held:
            points.append((start, math.nan))
            continue
        ends = {bucket.index(min(held)), bucket.index(max(held))}
        points.extend((start + i, bucket[i]) for i in sorted(ends))
    if series and points[-1][0] < len(series) - 1 and math.isfinite(series[-1]):
        points.append((len(series) - 1, series[-1]))
    return points
