"""A grid of texts for a terminal: columns side by side, within a width."""

import textwrap
from collections.abc import Sequence
from unicodedata import category

WIDTH = 120
"""Characters of the longest line."""
NARROWEST = 12
"""Characters to which a column of words is wrapped at most."""
GAP = "  "
STEERING = frozenset(["Cc", "Cf", "Cs", "Zl", "Zp"])
"""Unicode's categories of control characters, of those that format or break a line, and of halves of characters."""


def printable(text: str) -> str:
    r"""The text with its line breaks; what would steer a terminal, or turn the direction of writing, is spelt out.

    >>> printable("red: \x1b[31m")
    'red: \\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(spelt(each) if category(each) in STEERING else each for each in text.expandtabs(4))


def spelt(character: str) -> str:
    return character if character == "\n" else character.encode("unicode_escape").decode()


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """The text's own lines, the longer ones broken; at least one."""
    return [line for own in printable(text).split("\n") for line in broken(own, width)]


def broken(line: str, width: int) -> list[str]:
    return [line] if len(line) <= width else textwrap.wrap(line, width, break_on_hyphens=False)


def lines_of(grid: Sequence[Sequence[str]], numbers: Sequence[bool], *, heading: bool) -> list[str]:
    """The lines of a grid, at most WIDTH characters each.

    grid     rows of texts, all of one length; the first are the columns' names if `heading`
    numbers  which columns stand on the right, and are never broken

    Words are wrapped first; if that is not enough, columns from the middle give way to a "…".
    """
    cells = [[printable(text) for text in row] for row in grid]
    if not cells or not cells[0]:
        return [""] * len(cells)
    widths = [max(longest(row[i]) for row in cells) for i in range(len(numbers))]
    least = [width if number else min(width, NARROWEST) for width, number in zip(widths, numbers, strict=True)]
    kept = those_that_fit(least)
    if len(kept) < len(numbers):
        middle = (len(kept) + 1) // 2
        cells = [[*(row[i] for i in kept[:middle]), "…", *(row[i] for i in kept[middle:])] for row in cells]
        numbers = [*(numbers[i] for i in kept[:middle]), False, *(numbers[i] for i in kept[middle:])]
        widths = [max(longest(row[i]) for row in cells) for i in range(len(numbers))]
    widths = narrowed(widths, numbers)
    lines = [line for row in cells for line in lines_of_row(row, widths, numbers)]
    if heading:
        rows_of_heading = len(lines_of_row(cells[0], widths, numbers))
        lines.insert(rows_of_heading, GAP.join("─" * width for width in widths))
    return lines


def lines_of_row(row: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> list[str]:
    """One row: as many lines as its longest cell needs."""
    parts = [wrapped(text, max(width, 1)) for text, width in zip(row, widths, strict=True)]
    height = max(map(len, parts))
    padded = [[*part, *[""] * (height - len(part))] for part in parts]
    return [
        GAP.join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numbers, strict=True)
        ).rstrip()
        for line in zip(*padded, strict=True)
    ]


def narrowed(widths: Sequence[int], numbers: Sequence[bool]) -> list[int]:
    """The widths, those of the widest words taken back until all fit."""
    found = list(widths)
    excess = total(found) - WIDTH
    while excess > 0:
        words = [i for i, width in enumerate(found) if not numbers[i] and width > NARROWEST]
        if not words:
            break
        widest = max(words, key=lambda i: found[i])
        next_one = max([NARROWEST, *(found[i] for i in words if found[i] < found[widest])])
        taken = min(excess, max(found[widest] - next_one, 1))
        found[widest] -= taken
        excess -= taken
    return found


def those_that_fit(widths: Sequence[int]) -> list[int]:
    """Which columns fit into the width beside a "…": all, or the first ones and the last ones."""
    if total(widths) <= WIDTH:
        return list(range(len(widths)))
    kept = list(range(len(widths)))
    while len(kept) > 1 and total([*(widths[i] for i in kept), 1]) > WIDTH:
        del kept[len(kept) // 2]
    return kept


def total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def longest(text: str) -> int:
    return max(map(len, text.split("\n")))
