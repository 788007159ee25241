"""Labels beside the ends of lines: pushed apart until none covers another, and short enough to fit."""

from collections.abc import Sequence

WIDTH_OF_A_CHARACTER = 0.58
"""Of the font's size; an upper bound for the usual sans-serif texts, since fonts differ by reader."""

BOLD = 1.15
"""Bold letters are wider: a bold text of size s takes the room of a plain one of size s × BOLD."""


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart and within [low, high], as near to the wanted ones as can be.

    Least squares by pooling adjacent violators; order is kept, ties keep the order given. If the
    labels cannot all fit, the gap shrinks to what there is.

    >>> spread([10.0, 10.0], gap=4.0, low=0.0, high=100.0)
    [8.0, 12.0]
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    pools: list[tuple[float, int]] = []  # mean of what its members want, and how many
    for rank, i in enumerate(order):
        mean, size = wanted[i] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    last = high - (len(wanted) - 1) * gap
    flat = [min(max(mean, low), last) for mean, size in pools for _ in range(size)]
    placed = [0.0] * len(wanted)
    for rank, i in enumerate(order):
        placed[i] = flat[rank] + rank * gap
    return placed


def width(text: str, size: float) -> float:
    """About how many pixels a text takes, rather too many than too few."""
    return len(text) * size * WIDTH_OF_A_CHARACTER


def shorten(text: str, pixels: float, size: float) -> str:
    """The text with its middle left out, if it is wider than `pixels`.

    >>> shorten("hospital-of-the-north", 60, 10)
    'hospi…orth'
    """
    most = max(int(pixels / (size * WIDTH_OF_A_CHARACTER)), 3)
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return text[: most - 1 - tail] + "…" + text[len(text) - tail :]


def cut(text: str, pixels: float, size: float) -> str:
    """The text with its end left out, if it is wider than `pixels`."""
    most = max(int(pixels / (size * WIDTH_OF_A_CHARACTER)), 3)
    return text if len(text) <= most else text[: most - 1] + "…"
