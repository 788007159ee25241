"""Labels beside the ends of lines: pushed apart until none covers another, and short enough to fit."""

from collections.abc import Sequence

NARROW, WIDE = frozenset(" .,:;'|!()[]-ijlftrIJ·"), frozenset("mwMW@%—…")


def letter_width(letter: str) -> float:
    """The width of a letter of size 1: an upper bound for the usual sans-serif fonts, which differ by reader."""
    if letter in WIDE or ord(letter) > 0x2E80:
        return 1.0
    if letter in NARROW:
        return 0.42
    return 0.79 if letter.isupper() else 0.65


WIDTHS = {chr(code): letter_width(chr(code)) for code in range(128)}
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
    return size * sum(WIDTHS.get(letter) or letter_width(letter) for letter in text)


def fitting(text: str, pixels: float, size: float) -> int:
    """How many of the first letters fit."""
    for i, letter in enumerate(text):
        pixels -= width(letter, size)
        if pixels < 0:
            return i
    return len(text)


def shorten(text: str, pixels: float, size: float) -> str:
    """The text with its middle left out, if it is wider than `pixels`.

    >>> shorten("hospital-of-the-north", 60, 10)
    'hos…north'
    """
    if width(text, size) <= pixels:
        return text
    room = pixels - width("…", size)
    head = text[: fitting(text, room / 2, size)]
    tail = fitting(text[::-1], room - width(head, size), size)
    return f"{head}…{text[len(text) - tail :]}"


def cut(text: str, pixels: float, size: float) -> str:
    """The text with its end left out, if it is wider than `pixels`."""
    if width(text, size) <= pixels:
        return text
    return text[: fitting(text, pixels - width("…", size), size)] + "…"
