"""A strategy that stands in the task's own module, as a notebook writes and imports it."""

import importlib
import sys
from pathlib import Path

import pytest

from fl_kit import Job
from fl_kit.errors import IncompatibleError
from tests.tasks import LINEAR, job, write_task

OWN = """
from dataclasses import dataclass
from fl_kit import FedAvg

@dataclass(frozen=True, kw_only=True)
class Own(FedAvg):
    more: float = 1.0
"""


def test_a_strategy_of_the_imported_task_is_that_of_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook: %%silo_module binds the imported module, whose classes are not those of Task.module."""
    write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + OWN, "imported")
    monkeypatch.syspath_prepend(str(tmp_path))
    imported = importlib.import_module("imported")
    asked = job(imported, imported.Own(more=2.0, lr=0.3), 1)
    assert asked.strategy == asked.task.module.Own(more=2.0, lr=0.3)
    assert asked.to_dict()["strategy"]["class"] == "task.Own"
    assert Job.from_json(asked.to_json(), asked.task.source).to_json() == asked.to_json()
    monkeypatch.delitem(sys.modules, "imported")


def test_a_strategy_of_another_file_does_not_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_task(tmp_path, OWN, "elsewhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    elsewhere = importlib.import_module("elsewhere")
    with pytest.raises(IncompatibleError, match="Own is defined in 'elsewhere', which does not travel"):
        job(LINEAR, elsewhere.Own(), 1)
    monkeypatch.delitem(sys.modules, "elsewhere")
