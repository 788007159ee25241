"""Tables as plain text and as static HTML, for the reprs of public results."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

from fl_kit.grid import lines_of, printable, wrapped

Cell = str | int | float | None

HEAD, TAIL = 25, 5
"""Of a long table so many rows are shown, the first ones and the last ones."""
MOST = 40
"""A table of more rows is long."""
LONG = 40
"""Characters from which on a column of words is broken into lines where the page is narrow."""
PERCENTAGE = re.compile(r"[+\-−]?[\d,.]+\s?%")
CELL = "padding:2px 10px;vertical-align:top"


def show(cell: Cell, decimals: int = 4) -> str:
    """A cell as text: whole numbers with thousands apart, floats with so many decimals, None as a dash."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:,.{decimals}f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell


def decimals_for(column: Sequence[Cell]) -> int:
    """How many decimals give the largest float of a column four significant digits; at most eight."""
    sizes = [abs(cell) for cell in column if isinstance(cell, float) and math.isfinite(cell) and cell]
    return min(max(3 - math.floor(math.log10(max(sizes))), 0), 8) if sizes else 4


@dataclass(frozen=True, kw_only=True, repr=False)
class Table:
    """Rows under named columns; a column of numbers is aligned to the right.

    `title` stands above the table, `note` below it; both may be empty. Columns without any name have no heading: of
    two such, the first names what stands in the second. Of more than 40 rows the first 25 and the last 5 are shown;
    `left_out` says how many more there are between those two, where only they are given.

    >>> Table(columns=["silo", "rows"], rows=[["ash", 1200], ["birch", 80]])
    silo    rows
    ─────  ─────
    ash    1,200
    birch     80
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    left_out: int = 0

    def text(self) -> str:
        """The table for a terminal: no line is longer than 120 characters, words are wrapped."""
        heading = [list(self.columns)] if self._has_heading() else []
        lines = lines_of([*heading, *self.shown()], self._numbers, heading=bool(heading))
        above, below = (wrapped(text) if text else [] for text in (self.title, self.note))
        return "\n".join([*above, *lines, *below])

    def html(self) -> str:
        """The table as HTML without script, style sheet or network; inherits the page's colours."""
        shown = self.shown()
        styles = [self._style(i, shown) for i in range(len(self.columns))]
        heading = "".join(
            f'<th style="{style}">{safe(name)}</th>' for style, name in zip(styles, self.columns, strict=True)
        )
        head = f"<thead><tr>{heading}</tr></thead>" if self._has_heading() else ""
        body = "".join(f"<tr>{self._row(row, styles)}</tr>" for row in shown)
        title = f"<div><b>{safe(self.title)}</b></div>" if self.title else ""
        note = f'<div style="padding-top:4px">{safe(self.note)}</div>' if self.note else ""
        table = f'<table style="margin:0">{head}<tbody>{body}</tbody></table>'
        scrolled = f'<div style="overflow-x:auto">{table}</div>' if body else ""
        return f'<div style="margin-bottom:10px">{title}{scrolled}{note}</div>'

    def shown(self, *, every: bool = False) -> list[list[str]]:
        """Every cell as text; a column's floats have as many decimals each, four digits for the largest.

        every  all rows, however many; otherwise, in place of those left out of a long table, one that says how many
        """
        places = [decimals_for([row[i] for row in self.rows]) for i in range(len(self.columns))]
        long = bool(self.left_out) or (len(self.rows) > MOST and not every)
        head, tail = (self.rows[:HEAD], self.rows[-TAIL:]) if long else (self.rows, ())
        gap = [self._gap()] if long else []
        texts = [[[show(c, p) for c, p in zip(row, places, strict=True)] for row in rows] for rows in (head, tail)]
        return [*texts[0], *gap, *texts[1]]

    def _gap(self) -> list[str]:
        """The row in place of those that are left out: how many they are stands under the first words."""
        place = self._numbers.index(False) if False in self._numbers else 0
        told = f"… {self.left_out + len(self.rows) - HEAD - TAIL:,} more"
        return [told if i == place else "…" for i in range(len(self.columns))]

    def _row(self, row: Sequence[str], styles: Sequence[str]) -> str:
        cells = [f'<td style="{style}">{safe(text)}</td>' for style, text in zip(styles, row, strict=True)]
        if not self._has_heading() and cells:
            cells[0] = f'<th scope="row" style="{styles[0]}">{safe(row[0])}</th>'
        return "".join(cells)

    def _style(self, column: int, shown: Sequence[Sequence[str]]) -> str:
        if self._numbers[column]:
            return f"text-align:right;{CELL};white-space:nowrap;font-variant-numeric:tabular-nums"
        if max((len(row[column]) for row in shown), default=0) <= LONG:
            return f"text-align:left;{CELL};white-space:nowrap"
        return f"text-align:left;{CELL};white-space:pre-line;min-width:14em;overflow-wrap:anywhere"

    def _has_heading(self) -> bool:
        return any(self.columns)

    @cached_property
    def _numbers(self) -> list[bool]:
        """Which columns hold numbers or percentages, or nothing, and a number at least once."""
        columns = [[row[i] for row in self.rows if row[i] is not None] for i in range(len(self.columns))]
        return [bool(cells) and all(map(is_number, cells)) for cells in columns]

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


def safe(text: str) -> str:
    """A text that can stand in HTML, and is nothing but text there."""
    return escape(printable(text))


def is_number(cell: Cell) -> bool:
    return bool(PERCENTAGE.fullmatch(cell)) if isinstance(cell, str) else cell is not None


class Shown:
    """Mix-in: an object that shows itself as the table that `table()` gives.

    >>> class Tide(Shown):
    ...     def table(self):
    ...         return Table(columns=["hour", "metres"], rows=[[6, 4.5], [12, 0.25]])
    >>> Tide()
    hour  metres
    ────  ──────
       6   4.500
      12   0.250
    """

    def table(self) -> Table:
        raise NotImplementedError(f"{type(self).__name__} has no table")

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()
