"""The picker's rows as HTML: columns in step, a bar for the label mix, a reason where a silo cannot take part."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fl_kit.picture import PALETTE
from fl_kit.silo import Silo
from fl_kit.silo_facts import SiloFacts
from fl_kit.table import Cell, Table
from fl_kit.widgets.selection import Selection

BAR = 84
"""Pixels of a label bar."""
PER_LETTER = 7.4
"""Pixels that a column grants to a letter of its longest text."""
WIDEST = 230
FIXED = "display:inline-block;padding-right:12px;overflow:hidden;text-overflow:ellipsis;vertical-align:bottom"
FIELDS = ("name", "region", "compute", "datastore")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the picker: its heading, its width in pixels, and whether it holds numbers."""

    name: str
    width: int
    number: bool = False


def columns(selection: Selection) -> list[Column]:
    """The columns that hold anything for some silo."""
    silos = selection.everyone.silos
    found = []
    for name in FIELDS:
        texts = [str(getattr(silo, name)) for silo in silos]
        if any(texts):
            found.append(Column(name="silo" if name == "name" else name, width=width(name, texts)))
    facts = [selection.facts(silo.name) for silo in silos]
    if any(one.rows is not None for one in facts):
        found.append(Column(name="rows", width=72, number=True))
    if any(one.labels for one in facts):
        found.append(Column(name="labels", width=BAR + 14))
    if any(one.price is not None for one in facts):
        found.append(Column(name="a round", width=72, number=True))
    if any(one.status or one.reason for one in facts):
        found.append(Column(name="status", width=width("status", [one.reason or one.status for one in facts])))
    if any(one.seen for one in facts):
        found.append(Column(name="last seen", width=width("last seen", [one.seen for one in facts])))
    return found


def width(heading: str, texts: Sequence[str]) -> int:
    return min(round(max(map(len, [heading, *texts])) * PER_LETTER) + 16, WIDEST)


def header(shown: Sequence[Column]) -> str:
    """The headings, in step with the rows below."""
    names = "".join(span(column, column.name) for column in shown)
    return f'<div style="white-space:nowrap;font-weight:600">{names}</div>'


def row(silo: Silo, facts: SiloFacts, shown: Sequence[Column], classes: Sequence[str]) -> str:
    """One silo's row, for the description of its check box."""
    return "".join(span(column, cell(column, silo, facts), bar=bar_of(column, facts, classes)) for column in shown)


def cell(column: Column, silo: Silo, facts: SiloFacts) -> str:
    match column.name:
        case "silo":
            return silo.name
        case "rows":
            return "" if facts.rows is None else f"{facts.rows:,}"
        case "a round":
            return "" if facts.price is None else f"{facts.price:,.2f}"
        case "status":
            return f"⚠ {facts.reason}" if facts.reason else facts.status
        case "last seen":
            return facts.seen
        case "labels":
            return ""
        case field:
            return str(getattr(silo, field))


def span(column: Column, text: str, *, bar: str = "") -> str:
    align = "right" if column.number else "left"
    style = f"{FIXED};width:{column.width}px;text-align:{align}"
    return f'<span style="{style}" title="{escape(text)}">{bar or escape(text)}</span>'


def bar_of(column: Column, facts: SiloFacts, classes: Sequence[str]) -> str:
    """The label mix as a bar of coloured pieces; in words for whoever cannot see it."""
    total = sum(facts.labels.values())
    if column.name != "labels" or not total:
        return ""
    words = ", ".join(f"{label} {count / total:.0%}" for label, count in facts.labels.items() if count)
    pieces = "".join(
        f'<span style="display:inline-block;height:10px;width:{BAR * facts.labels[label] / total:.1f}px;'
        f'background:{PALETTE[place % len(PALETTE)]}"></span>'
        for place, label in enumerate(classes)
        if facts.labels.get(label)
    )
    return f'<span role="img" aria-label="labels: {escape(words)}" title="{escape(words)}">{pieces}</span>'


def legend(classes: Sequence[str]) -> str:
    """Which colour is which class."""
    named = "".join(
        f'<span style="display:inline-block;width:10px;height:10px;background:{PALETTE[place % len(PALETTE)]}"></span>'
        f'<span style="padding:0 12px 0 5px">{escape(label)}</span>'
        for place, label in enumerate(classes)
    )
    return f'<div style="font-size:90%" aria-hidden="true">{named}</div>' if named else ""


def as_table(selection: Selection) -> Table:
    """The choice as a static table: what a terminal shows, and a notebook without widgets."""
    shown = [column for column in columns(selection) if column.name != "labels"]
    chosen = set(selection.chosen)
    rows: list[list[Cell]] = []
    for silo in selection.everyone.silos:
        facts = selection.facts(silo.name)
        mark = "✓" if silo.name in chosen else "·" if not facts.reason else "✗"
        rows.append(
            [mark, *(number(column, facts) if column.number else cell(column, silo, facts) for column in shown)]
        )
    return Table(columns=["", *(column.name for column in shown)], rows=rows, note=selection.summary())


def number(column: Column, facts: SiloFacts) -> Cell:
    return facts.rows if column.name == "rows" else facts.price
