"""The error tree: the docstring draws what the classes are, and each says what went wrong."""

import inspect
import re

import pytest

from fl_kit import errors
from fl_kit.errors import FlKitError, LocalityError, PlanError, RunNotFound, StepFailed, StoreError

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


def drawn() -> dict[str, str]:
    """Error → its parent, as the module's docstring draws them: four columns deeper is one level down."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if found is None:
            continue
        level = len(found[1]) // 4
        path = [*path[:level], found[2]]
        if level:
            parents[found[2]] = path[level - 1]
    return parents


def test_the_drawing_is_the_tree() -> None:
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES if kind is not FlKitError}
    assert drawn() == real
    assert real["LocalityError"] == "PlanError"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_one_handler_catches_them_all(kind: type[Exception]) -> None:
    assert issubclass(kind, FlKitError)
    assert inspect.getdoc(kind)


def test_the_finer_ones_are_caught_by_their_parents() -> None:
    assert issubclass(LocalityError, PlanError)
    assert issubclass(RunNotFound, StoreError)


def test_a_failed_step_says_where_and_keeps_the_parts() -> None:
    error = StepFailed("the loss is nan", op="fit", silo="cleveland", round=3, detail="Traceback …")
    assert str(error) == "cleveland, round 3, step 'fit': the loss is nan"
    assert (error.op, error.silo, error.round, error.message) == ("fit", "cleveland", 3, "the loss is nan")
    assert error.detail == "Traceback …"
    assert StepFailed("x", op="fit", silo="a", round=1).detail == ""
