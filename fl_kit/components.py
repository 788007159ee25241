"""Strategies, aggregators and transforms as plain data, and back.

A component is a frozen dataclass of fl-kit or of the task's own module, so its class and its fields
say everything. Nothing else can be named: job.json cannot make a silo import what was not reviewed.
"""

import importlib
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fl_kit.errors import IncompatibleError, TaskError

HOMES = tuple(
    f"fl_kit.{package}." for package in ("strategies", "aggregators", "transforms", "privacy", "vertical", "stopping")
)
DOTTED = re.compile(r"[A-Za-z_][\w.]{0,200}")
PLAIN = (str, int, float, bool, type(None))


def describe(component: Any, task_module: str) -> dict[str, Any]:
    """`{"class": "fl_kit.strategies.fedprox.FedProx", "settings": {"mu": 0.01, …}}`.

    task_module  the name of the task's module, whose classes are written as `task.<Class>`

    Raises IncompatibleError for a class that does not travel, or a setting that is not plain data.
    """
    kind = type(component)
    if isinstance(component, type):
        raise IncompatibleError(f"{component.__name__} is a class; write {component.__name__}(…) with its settings")
    if not is_dataclass(component):
        raise IncompatibleError(f"{kind.__name__} is not a frozen dataclass, so it cannot be written to job.json")
    if not (kind.__module__.startswith(HOMES) or kind.__module__ == task_module):
        raise IncompatibleError(
            f"{kind.__name__} is defined in {kind.__module__!r}, which does not travel to a silo; "
            "define it in the task's module (%%silo_module)"
        )
    settings = {f.name: getattr(component, f.name) for f in fields(component) if f.init}
    for name, value in settings.items():
        if not plain(value):
            raise IncompatibleError(
                f"{kind.__name__}({name}={value!r}): settings must be numbers, text, or lists and dicts of them"
            )
    module = "task" if kind.__module__ == task_module else kind.__module__
    return {"class": f"{module}.{kind.__name__}", "settings": settings}


def at_home(component: Any, task: ModuleType) -> Any:
    """The same component as one of the task's module, if its class comes from an import of that very file.

    A notebook imports the file that `%%silo_module` wrote, and the task makes a module of its own from its source.
    """
    kind = type(component)
    home, own = sys.modules.get(kind.__module__), getattr(task, kind.__name__, None)
    file = getattr(home, "__file__", None)
    if not (file and home is not task and task.__file__ and Path(file).resolve() == Path(task.__file__).resolve()):
        return component
    if not (is_dataclass(component) and isinstance(own, type) and own.__module__ == task.__name__):
        return component
    return own(**{f.name: getattr(component, f.name) for f in fields(component) if f.init})


def build(described: Any, task: ModuleType) -> Any:
    """The component that `describe` described; raises TaskError for anything else."""
    try:
        path, settings = described["class"], dict(described["settings"])
        module_name, _, class_name = path.rpartition(".")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TaskError(f"this is not a component: {described!r}") from error
    if not DOTTED.fullmatch(path) or (module_name != "task" and not module_name.startswith(HOMES)):
        raise TaskError(f"{path!r:.200} is neither a component of fl-kit nor of the task's module")
    try:
        module = task if module_name == "task" else importlib.import_module(module_name)
    except ImportError as error:
        raise TaskError(f"there is no component {path!r}: {error}") from error
    kind = getattr(module, class_name, None)
    # a module's imports are not its components: some classes of fl-kit run whatever source they are given
    if not (isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__):
        raise TaskError(f"there is no component {path!r}")
    try:
        return kind(**{name: in_tuples(value) for name, value in settings.items()})
    except TypeError as error:
        raise TaskError(f"{path!r} has not these settings: {error}") from error


def plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    return isinstance(value, PLAIN)


def in_tuples(value: Any) -> Any:
    """A setting as components have it: JSON's lists are tuples."""
    if isinstance(value, dict):
        return {key: in_tuples(item) for key, item in value.items()}
    return tuple(in_tuples(item) for item in value) if isinstance(value, list | tuple) else value
