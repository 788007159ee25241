"""Every public result reads well in a terminal and in a notebook: found by walking what public calls give back."""

import dataclasses
import inspect
import re
import typing
from abc import ABC
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from torch import nn

from fl_kit import Federation, Silo
from fl_kit.grid import WIDTH
from tests.shown_objects import HOSTILE, every

PUBLIC = (
    "fl_kit",
    "fl_kit.azureml",
    "fl_kit.tracking",
    "sim",
    "sim.azureml",
    "sim.samples:load images synthetic_cxr",
    "sim.skew:skew",
    "fl_kit.regression.trend:trend",
)
"""Modules whose `__all__` is public, or names of a module."""

ONE_LINE = {
    "Event": "a record of the log",
    "Finding": "a row of Check",
    "Lane": "a row of Race",
    "Point": "a row of Trend",
    "Step": "a row of Plan",
    "SiloFacts": "written by hand, a row of SiloPicker",
    "Fault": "a switch of the local workspace",
    "Faults": "switches of the local workspace",
    "WorkspaceState": "the local workspace's inside",
    "LocalResult": "for who writes a strategy",
    "LocalSettings": "for who writes a strategy",
    "LossTerm": "for who writes a strategy",
}
"""Classes that public calls give back and that need no rich repr, and why."""

GIVEN = {"pd": pd, "Figure": Figure, "nn": nn}
RICH = ("_repr_html_", "_repr_mimebundle_", "_ipython_display_")
FORBIDDEN = {"script", "style", "link", "iframe", "object", "embed", "img", "svg", "form", "input", "meta", "base"}
NUMBER = re.compile(r"[+\-−]?[\d,]+(\.\d+)?( ?%)?|nan|–|…")


def public_things() -> Iterator[Any]:
    for entry in PUBLIC:
        name, _, names = entry.partition(":")
        module = import_module(name)
        yield from (getattr(module, each) for each in (names.split() or module.__all__))


def results(thing: Any, found: dict[type, str], why: str = "") -> dict[type, str]:
    """Every class of ours that a public thing gives back, and what those give back in turn → what gives it."""
    if typing.get_origin(thing):
        for argument in typing.get_args(thing):
            results(argument, found, why)
    elif inspect.isclass(thing) and thing.__module__.split(".")[0] in ("fl_kit", "sim") and thing not in found:
        found[thing] = why
        for name, kind in given_back(thing):
            results(kind, found, f"{thing.__name__}.{name}")
    return found


def given_back(kind: type) -> Iterator[tuple[str, Any]]:
    """What a class's public methods, properties and fields give."""
    for name in dir(kind):
        if not name.startswith("_") or name == "__getitem__":
            yield name, returned(inspect.getattr_static(kind, name))
    if dataclasses.is_dataclass(kind):
        hints = hints_of(kind)
        yield from ((f.name, hints.get(f.name)) for f in dataclasses.fields(kind) if not f.name.startswith("_"))


def returned(member: Any) -> Any:
    """What a function, method or property gives, by its annotation."""
    found = getattr(member, "fget", None) or getattr(member, "__func__", None) or getattr(member, "func", None)
    call = found or member
    return hints_of(call).get("return") if inspect.isfunction(call) else None


def hints_of(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing, localns=GIVEN)
    except NameError:  # a name that is only imported for the type checker, and none of ours
        return {}


def is_result(kind: type) -> bool:
    abstract = inspect.isabstract(kind) or getattr(kind, "_is_protocol", False) or ABC in kind.__bases__
    return not (abstract or issubclass(kind, BaseException))


def public_results() -> dict[type, str]:
    found: dict[type, str] = {}
    for thing in public_things():
        if inspect.isclass(thing):
            for name, kind in given_back(thing):
                results(kind, found, f"{thing.__name__}.{name}")
        else:
            results(returned(thing), found, getattr(thing, "__name__", "?"))
    return {kind: why for kind, why in found.items() if is_result(kind)}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return every(tmp_path_factory.mktemp("shown"))


def test_the_walk_finds_what_people_work_with() -> None:
    names = {kind.__name__ for kind in public_results()}
    assert names >= {
        *("Silo", "Federation", "Task", "Job", "Plan", "SimulatedRun", "AzureMLRun", "Review", "Check", "Skew"),
        *("Comparison", "Race", "Contribution", "SiloGains", "Resilience", "SiloPicker", "State", "Tracker"),
    }


def test_every_public_result_has_a_text_of_its_own_and_a_rich_one() -> None:
    plain = [
        f"{kind.__module__}.{kind.__name__}, which {why} gives: let it be a fl_kit.table.Shown with a table(), "
        "@dataclass(…, repr=False) if it is a dataclass; or, if one line says it all, name it in ONE_LINE of this file"
        for kind, why in public_results().items()
        if kind.__name__ not in ONE_LINE
        and (kind.__repr__ is object.__repr__ or not any(hasattr(kind, name) for name in RICH))
    ]
    assert not plain, "\n".join(plain)


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
