"""Tables as plain text and as static HTML, for the reprs of public results."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Cell = str | int | float | None


def show(cell: Cell) -> str:
    """A cell as text: floats with four significant digits, None as a dash."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell


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
        cells = [[show(cell) for cell in row] for row in self.rows]
        grid = [list(self.columns), *cells]
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
                f'<td style="{style};padding:2px 10px;white-space:nowrap">{escape(show(cell))}</td>'
                for style, cell in zip(align, row, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        title = f"<div><b>{escape(self.title)}</b></div>" if self.title else ""
        note = f"<div>{escape(self.note)}</div>" if self.note else ""
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"

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
