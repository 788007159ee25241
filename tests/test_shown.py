"""Every public result reads well in a terminal and in a notebook: found by walking what public calls give back."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fl_kit import Federation, Silo
from fl_kit.grid import WIDTH
from tests.public import ONE_LINE, public_results
from tests.shown_objects import HOSTILE, every

FORBIDDEN = {"script", "style", "link", "iframe", "object", "embed", "img", "svg", "form", "input", "meta", "base"}
NUMBER = re.compile(r"[+\-−]?[\d,]+(\.\d+)?( ?%)?|nan|–|…")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return every(tmp_path_factory.mktemp("shown"))


def test_one_of_every_public_result_is_looked_at(shown: dict[str, Any]) -> None:
    missing = {kind.__name__ for kind in public_results()} - {*shown, *ONE_LINE} - {"AzureMLRun"}
    assert not missing, f"add one of each to every() in tests/shown_objects.py: {sorted(missing)}"


def test_a_run_on_azureml_shows_itself_as_any_run() -> None:
    from fl_kit.azureml.run import AzureMLRun
    from sim.run import SimulatedRun

    assert AzureMLRun.table is SimulatedRun.table
    assert AzureMLRun.__repr__ is SimulatedRun.__repr__


def test_texts_fit_a_terminal(shown: dict[str, Any]) -> None:
    for name, thing in shown.items():
        lines = repr(thing).splitlines()
        assert lines
        assert max(map(len, lines)) <= WIDTH, f"{name}:\n{thing!r}"
        assert not re.search(r" object at 0x|tensor\(|\x1b", repr(thing)), f"{name}:\n{thing!r}"
        assert len(lines) < 60, f"{name} is a dump:\n{thing!r}"


class Page(HTMLParser):
    """What stands in a piece of HTML: tags, attributes, and each table's columns as (style, text) cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.rows: list[list[tuple[str, str]]] = []
        self._open: list[str] = []
        self._style = ""
        self._text: str | None = None
        self.feed(html)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._style, self._text = dict(attrs).get("style") or "", ""

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            self.rows[-1].append((self._style, self._text or ""))
            self._text = None

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._text is not None:
            self._text += data

    @property
    def columns(self) -> list[list[tuple[str, str]]]:
        """The columns of a table with a heading, without it."""
        return [list(column) for column in zip(*self.rows, strict=True)]


def test_html_is_static_and_takes_the_colours_of_the_page(shown: dict[str, Any]) -> None:
    for name, thing in shown.items():
        if name == "RunPanel":  # drawn live, by a view of its own
            continue
        page = Page(thing._repr_html_())
        assert not page.tags & FORBIDDEN, name
        for attribute, value in page.attributes:
            assert attribute in ("style", "scope"), f"{name}: {attribute}"
            assert not re.search(r"url\(|:/|colou?r|background|position|expression|@", value), f"{name}: {value}"


def test_numbers_stand_on_the_right(shown: dict[str, Any]) -> None:
    seen = 0
    for name, thing in shown.items():
        if name == "RunPanel":
            continue
        page = Page(thing._repr_html_())
        if not page.rows or len(page.rows[0]) < 2 or "scope" in dict(page.attributes):
            continue
        for (_, heading), *cells in page.columns:
            if cells and all(NUMBER.fullmatch(text) for _, text in cells):
                seen += 1
                assert all("text-align:right" in style for style, _ in cells), f"{name}: {heading}"
    assert seen > 20


def test_what_people_wrote_is_escaped(shown: dict[str, Any]) -> None:
    told = {name for name, thing in shown.items() if HOSTILE in repr(thing).replace("\n", "")}
    assert told >= {"Silo", "Task", "Comparison", "SiloGains", "Contribution", "Race", "Resilience", "Check", "Trend"}
    for name, thing in shown.items():
        if name != "RunPanel":
            assert not re.search(r"<script|<b>w|<i>A|<u>", thing._repr_html_()), name


def test_no_value_of_an_environment_variable_and_no_password_is_shown(shown: dict[str, Any]) -> None:
    for name in ("Orchestrator", "Federation", "Review", "Tracker"):
        assert "secret-value" not in repr(shown[name]) + shown[name]._repr_html_(), name
    assert "TOKEN" in repr(shown["Orchestrator"])


@pytest.mark.parametrize("count", [40, 41, 500])
def test_five_hundred_silos_are_shortened(count: int, tmp_path: Path) -> None:
    silos = tuple(Silo(name=f"silo-{i:03d}", data=f"data/{i}") for i in range(count))
    federation = Federation(silos=silos)
    lines = repr(federation).splitlines()
    assert lines[0] == f"Federation of {count} silos"
    assert lines[-1].split() == [silos[-1].name, silos[-1].data]
    rows = Page(federation._repr_html_()).rows[1:]
    if count == 40:
        assert len(rows) == count
    else:
        assert len(rows) == 31
        assert rows[25][0][1] == f"… {count - 30} more"
        assert len(lines) == 3 + 31
