"""The pytest plugin: `pytest --fl-notebooks notebooks/` makes a test of every notebook there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_kit.errors import RegressionError
from fl_kit.regression.bands import Way, load_bands
from fl_kit.regression.outcome import Outcome, try_notebook


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("fl-kit", "notebooks as regression tests")
    group.addoption("--fl-notebooks", action="store_true", help="run the notebooks among the paths against bands.toml")
    group.addoption("--fl-quick", action="store_true", help="with the parameters and bands of the quick run")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "NotebookFile | None":
    """A notebook is a file with one test, where the option is given."""
    if file_path.suffix == ".ipynb" and parent.config.getoption("--fl-notebooks"):
        found: NotebookFile = NotebookFile.from_parent(parent, path=file_path)
        return found
    return None


class NotebookFile(pytest.File):
    """A notebook."""

    def collect(self) -> Iterator["NotebookItem"]:
        """Its one test; raises RegressionError for a bands file that is wrong."""
        mode = "quick" if self.config.getoption("--fl-quick") else "full"
        way = load_bands(self.path.parent, mode).get(self.path.stem, Way())
        yield NotebookItem.from_parent(self, name=mode, way=way)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *arguments: Any) -> Any:
        """One line for what fl-kit says itself."""
        return one_line(excinfo) or super().repr_failure(excinfo)


class NotebookItem(pytest.Item):
    """The test that a notebook runs and its figures are within their bands."""

    def __init__(self, *, way: Way, **settings: Any) -> None:
        super().__init__(**settings)
        self.way = way

    def runtest(self) -> None:
        """Execute and compare; the executed notebook stays in pytest's folder for this run."""
        factory: pytest.TempPathFactory = self.config._tmp_path_factory  # type: ignore[attr-defined]  # as its fixture
        outcome = try_notebook(self.path, self.way, factory.mktemp(self.path.stem))
        for name, value in outcome.figures.items():
            self.user_properties.append((name, value))
        if not outcome.passed:
            raise RegressionError(told(outcome))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *arguments: Any) -> Any:
        """The faults alone."""
        return one_line(excinfo) or super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands."""
        return self.path, None, f"{self.path.name} ({self.name})"


def told(outcome: Outcome) -> str:
    """The faults, and where to look."""
    where = outcome.executions[-1].notebook if outcome.executions else None
    return "\n".join([*outcome.faults, *([f"executed notebook: {where}"] if where else [])])


def one_line(excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    return str(excinfo.value) if isinstance(excinfo.value, RegressionError) else ""
