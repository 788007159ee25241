"""Grids for a terminal: nothing longer than a line, nothing lost without a sign."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.grid import WIDTH, lines_of, printable, wrapped
from fl_kit.table import Table

WORDS = "the silo's compute was not reachable from here " * 5


def test_words_are_wrapped_and_numbers_are_not() -> None:
    lines = lines_of([["silo", "message", "rows"], ["ash", WORDS, "1,234"]], [False, False, True], heading=True)
    assert max(map(len, lines)) == WIDTH
    assert lines[0] == "silo  message" + " " * (WIDTH - 13 - 4) + "rows"
    assert lines[1] == f"────  {'─' * (WIDTH - 4 - 5 - 4)}  ─────"
    assert lines[2].startswith("ash   the silo's")
    assert lines[2].endswith("1,234")
    assert lines[3].startswith("      ")
    assert " ".join(line[4:].removesuffix("1,234").strip() for line in lines[2:]) == WORDS.strip()


def test_the_widest_words_give_way_first() -> None:
    lines = lines_of([["a" * 30, "b " * 60, "c " * 100]], [False] * 3, heading=False)
    assert "a" * 30 in lines[0]
    assert max(map(len, lines)) <= WIDTH


def test_columns_in_the_middle_give_way_to_a_sign() -> None:
    columns = [f"class {i:02d}" for i in range(50)]
    lines = Table(columns=["silo", *columns], rows=[["ash", *range(50)]]).text().splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith("silo  class 00")
    assert lines[0].endswith("class 49")
    assert " … " in lines[0]
    assert " … " in lines[2]
    assert lines[2].split()[-1] == "49"


def test_a_cell_of_several_lines_keeps_its_column() -> None:
    text = Table(columns=["a", "b"], rows=[["one\ntwo", "x"], ["three", "y"]]).text()
    assert text == "a      b\n─────  ─\none    x\ntwo\nthree  y"


def test_what_steers_a_terminal_is_spelt_out() -> None:
    assert printable("a\x1b[2Jb\rc\u202ed\ud800") == r"a\x1b[2Jb\rc\u202ed\ud800"
    assert printable("ü – × 東京 \u00a0") == "ü – × 東京 \u00a0"
    table = Table(columns=["\x1b"], rows=[["\x1b"]], title="\x1b", note="\x1b")
    assert "\x1b" not in table.text() + table.html()


def test_columns_without_names_have_no_heading() -> None:
    table = Table(columns=["", ""], rows=[["rounds", "3"], ["seed", "7"]], title="Job")
    assert table.text() == "Job\nrounds  3\nseed    7"
    assert "<thead>" not in table.html()
    assert table.html().count('<th scope="row"') == 2
    assert Table(columns=[], rows=[], title="No failures").text() == "No failures"
    assert "<table" not in Table(columns=[], rows=[], title="No failures").html()


@pytest.mark.parametrize(
    ("shares", "side"), [(["12.5%", None], "right"), (["12 %"], "right"), (["12.5%", "x"], "left")]
)
def test_percentages_are_numbers(shares: list[str | None], side: str) -> None:
    page = Table(columns=["share"], rows=[[share] for share in shares]).html()
    assert page.count(f"text-align:{side}") == 1 + len(shares)


text = st.text(st.characters(codec="utf-8"), max_size=200)


@given(st.lists(st.lists(text, min_size=4, max_size=4), min_size=1, max_size=5), text, text)
def test_no_line_is_too_long(rows: list[list[str]], title: str, note: str) -> None:
    table = Table(columns=["a", "b", "c", "d"], rows=rows, title=title, note=note)
    assert max(map(len, table.text().split("\n"))) <= WIDTH


@given(text)
def test_wrapping_loses_nothing_but_blanks(line: str) -> None:
    assert "".join("".join(wrapped(line, 30)).split()) == "".join(printable(line).split())
