"""Tables: what stands in a cell, on which side, and HTML that nobody can break out of."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.table import Shown, Table

cell = st.one_of(st.none(), st.integers(-(10**9), 10**9), st.floats(), st.text(max_size=8))
HOSTILE = "<script>alert('x')</script> & \"co\""


class Reader(HTMLParser):
    """The tags of a page and the texts of its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_whole_text_by_hand() -> None:
    table = Table(
        columns=["silo", "rows", "loss"],
        rows=[["cleveland", 303, 0.5], ["hungary", 12345, 0.25], ["x", None, None]],
        title="Silos",
        note="as of now",
    )
    assert table.text() == (
        "Silos\n"
        "silo         rows    loss\n"
        "─────────  ──────  ──────\n"
        "cleveland     303  0.5000\n"
        "hungary    12,345  0.2500\n"
        "x               –       –\n"
        "as of now"
    )


def test_without_title_and_note() -> None:
    assert Table(columns=["a"], rows=[["x"]]).text() == "a\n─\nx"
    assert Table(columns=["a", "b"], rows=[]).text() == "a  b\n─  ─"


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ([0.5, 0.25], ["0.5000", "0.2500"]),
        ([1234.5, 0.5], ["1,234", "0"]),
        ([12.0, 3.456], ["12.00", "3.46"]),
        ([float("nan"), 1.0], ["nan", "1.000"]),
        ([float("inf"), float("-inf")], ["inf", "-inf"]),
        ([0.0], ["0.0000"]),
        ([1e-5], ["0.00001000"]),
        ([7, 1_000_000], ["7", "1,000,000"]),
        ([True, None], ["1", "–"]),
    ],
)
def test_four_digits_for_the_largest_of_a_column(column: list[float | None], shown: list[str]) -> None:
    found = [row[0] for row in Table(columns=["x"], rows=[[value] for value in column]).shown()]
    assert found == shown


def test_numbers_stand_on_the_right_and_text_on_the_left() -> None:
    page = Table(columns=["a", "b", "c"], rows=[["x", 1, None], ["y", None, None]]).html()
    assert page.count("text-align:right") == 3  # its heading and two cells
    assert page.count("text-align:left") == 6


def test_html_is_escaped_everywhere() -> None:
    page = Table(columns=[HOSTILE], rows=[[HOSTILE]], title=HOSTILE, note=HOSTILE).html()
    assert "<script" not in page
    assert Reader(page).texts == [HOSTILE] * 4


@given(st.lists(st.lists(cell, min_size=2, max_size=2), max_size=4), st.text(max_size=8))
def test_html_holds_nothing_but_a_table(rows: list[list[object]], title: str) -> None:
    page = Table(columns=["a", "b"], rows=rows, title=title).html()  # type: ignore[arg-type]
    assert set(Reader(page).tags) <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert Reader(page).tags.count("td") == 2 * len(rows)


@given(
    st.lists(st.lists(st.one_of(st.none(), st.integers(), st.floats()), min_size=2, max_size=2), min_size=1, max_size=4)
)
def test_every_line_of_text_is_within_the_rule(rows: list[list[object]]) -> None:
    lines = Table(columns=["a", "b"], rows=rows).text().splitlines()  # type: ignore[arg-type]
    assert len(lines) == len(rows) + 2
    assert max(map(len, lines)) == len(lines[1])


def test_shown_is_its_table() -> None:
    class One(Shown):
        def table(self) -> Table:
            return Table(columns=["a"], rows=[[1]])

    assert repr(One()) == One().table().text()
    assert One()._repr_html_() == One().table().html()
    with pytest.raises(NotImplementedError, match="Shown has no table"):
        repr(Shown())
