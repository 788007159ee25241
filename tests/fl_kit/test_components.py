"""Components as plain data: there and back, and nothing that was not reviewed is ever imported or run."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.aggregators import Mean
from fl_kit.components import build, describe
from fl_kit.errors import IncompatibleError, TaskError
from fl_kit.strategies import FedAvg, FedProx, Scaffold
from fl_kit.task import Task
from tests.tasks import LINEAR

NONE = ModuleType("none")

OWN = """
from dataclasses import dataclass
from fl_kit.strategies import FedAvg
from fl_kit.task import Task

@dataclass(frozen=True, kw_only=True)
class Mine(FedAvg):
    layers: tuple[int, ...] = (1, 2)
    note: str = ""

class Plain:
    pass
"""


@pytest.fixture
def own() -> ModuleType:
    """A task's module with a strategy of its own."""
    return Task(name="own", source=LINEAR.read_text(encoding="utf-8") + OWN).module


@given(
    st.sampled_from([FedAvg, FedProx]),
    st.integers(1, 50),
    st.none() | st.integers(1, 9),
    st.floats(0, 10),
    st.floats(0, 0.99),
    st.booleans(),
)
def test_there_and_back(
    kind: type[FedAvg], epochs: int, steps: int | None, lr: float, momentum: float, shuffle: bool
) -> None:
    component = kind(epochs=epochs, steps=steps, lr=lr, momentum=momentum, shuffle=shuffle)
    described = json.loads(json.dumps(describe(component, "none")))
    assert build(described, NONE) == component
    assert type(build(described, NONE)) is kind


def test_what_it_looks_like() -> None:
    assert describe(Mean(weighted=False), "none") == {
        "class": "fl_kit.aggregators.mean.Mean",
        "settings": {"weighted": False},
    }


def test_a_component_of_the_tasks_own(own: ModuleType) -> None:
    component = own.Mine(lr=0.5, layers=(3, {"wide": (4, 5)}), note="α")
    described = json.loads(json.dumps(describe(component, own.__name__)))
    assert described["class"] == "task.Mine"
    assert build(described, own) == component


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Defined in a test, which does not travel."""

    value: Any = 1


def test_a_class_from_elsewhere_is_refused() -> None:
    with pytest.raises(IncompatibleError, match=r"Elsewhere is defined in .*test_components.*%%silo_module"):
        describe(Elsewhere(), "none")


class Odd:
    """Whatever is neither plain nor a dataclass; its repr is the same in each process that collects the tests."""

    def __repr__(self) -> str:
        return "Odd()"


@pytest.mark.parametrize("thing", [Odd(), None, 3, "FedAvg", {"class": "x"}, len], ids=repr)
def test_what_is_no_dataclass_is_refused(thing: Any) -> None:
    with pytest.raises(IncompatibleError, match="not a frozen dataclass"):
        describe(thing, "none")


def test_a_class_in_place_of_its_instance_gets_the_cure() -> None:
    with pytest.raises(IncompatibleError, match=r"FedAvg is a class; write FedAvg\(…\)"):
        describe(FedAvg, "none")


@pytest.mark.parametrize(
    "value", [torch.ones(1), {1: "a"}, {1}, Odd(), len, [Odd()], (1, {"a": len}), Path("x"), b"x", 1j], ids=repr
)
def test_settings_that_are_not_plain_are_refused(own: ModuleType, value: Any) -> None:
    with pytest.raises(IncompatibleError, match=r"Mine\(layers=.*numbers, text, or lists"):
        describe(own.Mine(layers=value), own.__name__)


def test_fields_that_are_not_set_at_construction_do_not_travel() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Counting:
        start: int = 2
        seen: list[int] = field(default_factory=list, init=False)

    Counting.__module__ = "here"
    assert describe(Counting(), "here") == {"class": "task.Counting", "settings": {"start": 2}}


@pytest.mark.parametrize(
    "path",
    [
        "os.system", "posix.system", "subprocess.Popen", "builtins.exec", "fl_kit_other.X", "", "FedAvg", "task",
        "task.",
        "fl_kit.components.importlib.import_module", "fl_kit.task.Task", "fl_kit.job.Job", "fl_kit.silo.Silo",
        "fl_kit.messages.Update", "fl_kit.strategies.nothing.X", "fl_kit.strategies.fedavg.Nothing",
        "fl_kit.strategies.fedavg.Update", "fl_kit.strategies.fedavg.State", "fl_kit.strategies.FedAvg",
        "fl_kit.strategies.fedavg.train", "fl_kit.strategies..os.system", "fl_kit.strategies.fedavg.math.sqrt",
        "task.Task", "task.FedAvg", "task.model", "task.data", "task.nn.Linear", "task.Plain", "task.Nothing",
        "task.__builtins__.exec",
    ],
)  # fmt: skip
def test_nothing_else_can_be_named(own: ModuleType, path: str) -> None:
    with pytest.raises(TaskError):
        build({"class": path, "settings": {}}, own)


def test_a_job_file_cannot_bring_source_of_its_own(tmp_path: Path, own: ModuleType) -> None:
    """Task runs the source that it is given: naming it as a component must not get that far."""
    mark = tmp_path / "ran"
    source = f"open({str(mark)!r}, 'w').close()"
    for path in ("fl_kit.task.Task", "task.Task", "fl_kit.job.Task", "fl_kit.strategies.fedavg.Task"):
        with pytest.raises(TaskError):
            build({"class": path, "settings": {"name": "x", "source": source}}, own)
    assert not mark.exists()


def test_nothing_outside_of_fl_kit_is_imported(own: ModuleType) -> None:
    assert "antigravity" not in sys.modules
    with pytest.raises(TaskError, match="neither"):
        build({"class": "antigravity.Fly", "settings": {}}, own)
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "described",
    [
        None, 3, "FedAvg", [], {}, {"class": "fl_kit.strategies.fedavg.FedAvg"}, {"settings": {}},
        {"class": None, "settings": {}}, {"class": 3, "settings": {}}, {"class": ["x"], "settings": {}},
        {"class": "fl_kit.strategies.fedavg.FedAvg", "settings": None},
        {"class": "fl_kit.strategies.fedavg.FedAvg", "settings": 3},
        {"class": "fl_kit.strategies.fedavg.FedAvg", "settings": ["lr"]},
        {"class": "fl_kit.strategies.fedavg.FedAvg", "settings": {"mu": 1}},
    ],
    ids=repr,
)  # fmt: skip
def test_what_describes_no_component_is_a_task_error(described: Any) -> None:
    with pytest.raises(TaskError):
        build(described, NONE)


def test_settings_out_of_range_say_so() -> None:
    described = describe(Scaffold(), "none")
    with pytest.raises(IncompatibleError, match="lr"):
        build({**described, "settings": {**described["settings"], "lr": 0.0}}, NONE)
