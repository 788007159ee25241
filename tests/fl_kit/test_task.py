"""The task contract: what a module must have, and what is said of one that has it not."""

import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from fl_kit.errors import StepFailed, TaskError
from fl_kit.strategies import FedAvg
from fl_kit.task import Task, module_from
from tests.tasks import LINEAR, digests, random_rows, run, silos, write_task

WHOLE = """
from torch import nn

def model():
    return nn.Linear(3, 1)

def data(folder, split):
    return [[1.0]], [1.0]

loss = nn.MSELoss()
"""


def task(more: str = "", source: str = WHOLE) -> Task:
    return Task(name="made_up", source=source + more)


# what is taken for a task


def test_a_path_a_text_path_a_module_and_a_task_are_the_same_task() -> None:
    import importlib

    module = importlib.import_module("tests.tasks.linear")
    first = Task.of(LINEAR)
    assert Task.of(str(LINEAR)) == first == Task.of(module)
    assert Task.of(first) is first
    assert first.name == "linear"


@pytest.mark.parametrize(
    "thing", [object(), nn.Linear(1, 1), nn.Linear, {"model": len}, len, None, 3, ModuleType("made_here")], ids=type
)
def test_anything_else_gets_the_cure(thing: Any) -> None:
    with pytest.raises(TaskError, match=r"a task is a module in a file, not .*%%silo_module name.py"):
        Task.of(thing)


def test_the_notebook_itself_gets_the_cure() -> None:
    with pytest.raises(TaskError, match=r"not the notebook itself.*%%silo_module"):
        Task.of(sys.modules["__main__"])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"nowhere.py cannot be read"):
        Task.load(tmp_path / "nowhere.py")
    (tmp_path / "latin.py").write_bytes(b"# \xfc\n")
    with pytest.raises(TaskError, match=r"latin.py cannot be read"):
        Task.load(tmp_path / "latin.py")


# the contract


def test_all_missing_parts_are_named_at_once() -> None:
    with pytest.raises(TaskError) as caught:
        task(source="fit = 3\nmetrics = ['accuracy']\n")
    message = str(caught.value)
    for words in ("no model", "no data", "no loss", "its fit is not a function", "its metric 'accuracy' is none"):
        assert words in message
    assert "the task 'made_up' is not complete" in message


@pytest.mark.parametrize("part", ["model", "data", "loss"])
def test_a_part_that_cannot_be_called_is_missing(part: str) -> None:
    with pytest.raises(TaskError, match=f"it has no {part}; define") as caught:
        task(f"{part} = 3")
    assert str(caught.value).count("it has no") == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("metrics = Accuracy()", r"its metrics are Accuracy.*define a list"),
        ("metrics = None", "its metrics are None"),
        ("metrics = 'accuracy'", "its metrics are 'accuracy'"),
        ("metrics = [Accuracy]", "is none; use fl_kit.metrics"),
        ("metrics = [nn.MSELoss()]", r"MSELoss\(\) is none; use fl_kit.metrics"),
        ("metrics = [Accuracy(), Accuracy()]", "the name 'accuracy', which is there twice"),
        ("class Mine(Accuracy):\n    name = 'loss'\nmetrics = [Mine()]", "the name 'loss', which is fl-kit's own"),
        ("class Mine(Accuracy):\n    name = 'train_loss'\nmetrics = [Mine()]", "fl-kit's own"),
    ],
)
def test_metrics_that_are_none(line: str, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        task(f"from fl_kit.metrics import Accuracy\n{line}\n")


@pytest.mark.parametrize("metrics", ["[Accuracy(), F1()]", "(Accuracy(), F1())", "{'a': Accuracy(), 'b': F1()}"])
def test_metrics_go_by_their_names(metrics: str) -> None:
    found = task(f"from fl_kit.metrics import Accuracy, F1\nmetrics = {metrics}\n").metrics
    assert list(found) == ["accuracy", "f1"]
    assert task().metrics == {}


@pytest.mark.parametrize("value", ["None", "3", "{}", "nn.Linear", "nn.Parameter(torch.ones(1))"])
def test_a_model_that_is_no_module(value: str) -> None:
    made = task(f"import torch\ndef model():\n    return {value}\n")
    with pytest.raises(TaskError, match=r"made_up.model\(\) gave \w+, expected an nn.Module: return the model"):
        made.model()


def test_a_model_that_forgets_to_return(tmp_path: Path) -> None:
    path = write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + "\ndef model():\n    nn.Linear(3, 1)\n")
    with pytest.raises(TaskError, match="gave NoneType"):
        run(path, FedAvg(), silos(tmp_path, a=random_rows(3, 4, 0)), 1)


# the source is the task


def test_line_ends_do_not_change_the_digest(tmp_path: Path) -> None:
    digest = task().sha256
    for name, ends in (("lf", "\n"), ("crlf", "\r\n"), ("cr", "\r")):
        (tmp_path / f"{name}.py").write_bytes(WHOLE.replace("\n", ends).encode())
        assert Task.load(tmp_path / f"{name}.py").sha256 == digest
    assert task(source=WHOLE.replace("\n", "\r\n")).sha256 == digest
    assert task("\n").sha256 != digest


def test_what_was_loaded_is_what_runs_even_if_the_file_changes(tmp_path: Path) -> None:
    path = write_task(tmp_path, LINEAR.read_text(encoding="utf-8"))
    kept = Task.load(path)
    federation = silos(tmp_path, a=random_rows(6, 4, 0))
    before = digests(run(kept, FedAvg(), federation, 1))
    path.write_text("raise RuntimeError('edited since')", encoding="utf-8")
    assert digests(run(kept, FedAvg(), federation, 1)) == before
    path.unlink()
    assert digests(run(kept, FedAvg(), federation, 1)) == before


def test_the_module_is_made_from_the_source_and_not_imported() -> None:
    """A module that the notebook changed by hand runs as its file says."""
    import importlib

    module = importlib.import_module("tests.tasks.linear")
    assert Task.of(module).module is not module
    assert Task.of(module).module.WIDTH == 3


def test_two_versions_live_side_by_side() -> None:
    one, two = task("VALUE = 1\n"), task("VALUE = 2\n")
    assert (one.module.VALUE, two.module.VALUE) == (1, 2)
    assert one.module.__name__ != two.module.__name__
    assert one != two


def test_a_task_may_define_dataclasses_and_enums() -> None:
    source = WHOLE + (
        "from __future__ import annotations\n"
        "from dataclasses import KW_ONLY, dataclass, field\n"
        "from enum import Enum\n"
        "from typing import ClassVar\n"
        "class Kind(Enum):\n    A = 1\n"
        "@dataclass(frozen=True)\n"
        "class Settings:\n"
        "    base: ClassVar[int] = 1\n"
        "    width: int = 3\n"
        "    _: KW_ONLY\n"
        "    kind: Kind = Kind.A\n"
    )
    made = Task(
        name="made_up",
        source="from __future__ import annotations\n" + source.replace("from __future__ import annotations\n", ""),
    )
    assert made.module.Settings(4).width == 4
    assert [f.name for f in made.module.Settings.__dataclass_fields__.values() if f._field_type.name == "_FIELD"] == [
        "width",
        "kind",
    ]


# errors of the user's own code


def test_an_error_in_the_file_names_its_line(tmp_path: Path) -> None:
    path = write_task(tmp_path, WHOLE + "\n\nboom = 1 / 0\n")
    with pytest.raises(TaskError, match="'made_up' cannot be imported: ZeroDivisionError") as caught:
        Task.load(path)
    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError)
    frame = traceback.extract_tb(cause.__traceback__)[-1]
    assert frame.filename == str(path)
    assert (frame.lineno, frame.line) == (len(WHOLE.splitlines()) + 3, "boom = 1 / 0")


def test_a_module_that_failed_is_forgotten() -> None:
    before = set(sys.modules)
    with pytest.raises(ZeroDivisionError):
        module_from("1 / 0", "failing", "")
    assert set(sys.modules) == before


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    path = write_task(tmp_path, "x = 1\ndef model(:\n")
    with pytest.raises(TaskError, match=r"SyntaxError: .*made_up.py, line 2") as caught:
        Task.load(path)
    cause = caught.value.__cause__
    assert isinstance(cause, SyntaxError)
    assert (cause.filename, cause.lineno) == (str(path), 2)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("def loss(outputs, targets):\n    return outputs.mean() / missing\n", "return outputs.mean() / missing"),
        ("def data(folder, split):\n    raise KeyError('age')\n", "raise KeyError('age')"),
    ],
    ids=["loss", "data"],
)
def test_an_error_while_it_runs_names_file_and_line(tmp_path: Path, part: str, words: str) -> None:
    source = LINEAR.read_text(encoding="utf-8") + "\n\n" + part
    path = write_task(tmp_path, source)
    line = source[: source.index(words)].count("\n") + 1
    with pytest.raises(StepFailed, match=rf"a, round 1, step 'fit': .*\(made_up.py, line {line}: ") as caught:
        run(path, FedAvg(), silos(tmp_path, a=random_rows(3, 4, 0)), 1)
    assert words in caught.value.detail


def test_an_error_of_model_keeps_the_users_line(tmp_path: Path) -> None:
    """The plan asks whether the model standardises its input, so this surfaces before anything runs."""
    path = write_task(
        tmp_path, LINEAR.read_text(encoding="utf-8") + "\ndef model():\n    return nn.Linear(3, missing)\n"
    )
    with pytest.raises(Exception, match="missing") as caught:
        run(path, FedAvg(), silos(tmp_path, a=random_rows(3, 4, 0)), 1)
    error: BaseException = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    frame = traceback.extract_tb(error.__traceback__)[-1]
    assert isinstance(error, NameError)
    assert (frame.filename, frame.line) == (str(path), "return nn.Linear(3, missing)")


def test_the_model_is_built_from_the_jobs_seed(tmp_path: Path) -> None:
    """Whatever the notebook drew before: state 0 follows from the seed."""
    federation = silos(tmp_path, a=random_rows(3, 4, 0))
    first = run(LINEAR, FedAvg(), federation, 1, seed=1)
    torch.rand(3)
    assert run(LINEAR, FedAvg(), federation, 1, seed=1).digest(0) == first.digest(0)
    assert run(LINEAR, FedAvg(), federation, 1, seed=2).digest(0) != first.digest(0)


# how it shows itself


def test_a_task_shows_what_it_defines_and_what_it_is_about() -> None:
    more = "\n\ndef fit(model, data, context): ...\n"
    shown = task(more, source='"""Hearts of four hospitals.\n\nMore."""\n' + WHOLE)
    assert repr(shown) == (
        "Task made_up: Hearts of four hospitals.\n"
        "model    model()\n"
        "data     data(folder, split)\n"
        "loss     MSELoss()\n"
        "metrics  the loss alone\n"
        "fit      fit(model, data, context)\n"
        "file     <made_up.py>\n"
        f"sha256   {shown.sha256[:12]}"
    )
    assert repr(task()).startswith("Task made_up\nmodel")
