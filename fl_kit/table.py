"""Tables as plain text and as static HTML, for the reprs of public results."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Cell = str | int | float | None


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


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns; a column of numbers is aligned to the right.

    `title` stands above the table, `note` below it; both may be empty.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""

    def text(self) -> str:
        """The table for a terminal."""
        grid = [list(self.columns), *self.shown()]
        widths = [max(len(row[i]) for row in grid) for i in range(len(self.columns))]
        lines = [
            "  ".join(
                text.rjust(width) if self._is_number(i) else text.ljust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in grid
        ]
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([*([self.title] if self.title else []), *lines, *([self.note] if self.note else [])])

    def html(self) -> str:
        """The table as HTML without script, style sheet or network; inherits the page's colours."""
        align = [f"text-align:{'right' if self._is_number(i) else 'left'}" for i in range(len(self.columns))]
        head = "".join(
            f'<th style="{style};padding:2px 10px">{escape(name)}</th>'
            for style, name in zip(align, self.columns, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="{style};padding:2px 10px;white-space:nowrap">{escape(cell)}</td>'
                for style, cell in zip(align, row, strict=True)
            )
            + "</tr>"
            for row in self.shown()
        )
        title = f"<div><b>{escape(self.title)}</b></div>" if self.title else ""
        note = f"<div>{escape(self.note)}</div>" if self.note else ""
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"

    def shown(self) -> list[list[str]]:
        """Every cell as text; a column's floats have as many decimals each, four digits for the largest."""
        decimals = [decimals_for([row[i] for row in self.rows]) for i in range(len(self.columns))]
        return [[show(cell, places) for cell, places in zip(row, decimals, strict=True)] for row in self.rows]

    def _is_number(self, column: int) -> bool:
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(cell, int | float) for cell in cells)


class Shown:
    """Mix-in: an object that shows itself as the table that `table()` gives."""

    def table(self) -> Table:
        raise NotImplementedError(f"{type(self).__name__} has no table")

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()
