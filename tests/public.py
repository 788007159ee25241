"""What is public: the names of the packages, and every class that a public call gives back."""

import dataclasses
import inspect
import typing
from abc import ABC
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from torch import nn

PUBLIC = (
    "fl_kit",
    "fl_kit.azureml",
    "fl_kit.metrics",
    "fl_kit.tracking",
    "sim",
    "sim.azureml",
    "sim.faults",
    "sim.partition",
    "sim.samples:available card_fraud load images synthetic_cxr",
    "sim.skew:skew",
    "fl_kit.regression.trend:trend",
)
"""Modules whose `__all__` is public, or names of a module."""

ONE_LINE = {
    "Entry": "a row of Audit",
    "Approval": "a line of who, what and when",
    "Bundle": "a folder and its digest",
    "Event": "a record of the log",
    "Finding": "a row of Check",
    "Lane": "a row of Race",
    "Origin": "a record of an update's manifest",
    "Point": "a row of Trend",
    "Policy": "as its owner wrote it",
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
    yield from ((name, returned(member)) for name, member in members(kind))
    if dataclasses.is_dataclass(kind):
        hints = hints_of(kind)
        yield from ((f.name, hints.get(f.name)) for f in dataclasses.fields(kind) if not f.name.startswith("_"))


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """A class's public methods and properties, of whichever of its bases, but for those of foreign ones."""
    for name in dir(kind):
        owner = next((base for base in kind.__mro__ if name in vars(base)), object)
        ours = owner.__module__.split(".")[0] in ("fl_kit", "sim")
        if ours and (not name.startswith("_") or name == "__getitem__"):
            member = inspect.getattr_static(kind, name)
            if inspect.isfunction(member) or hasattr(member, "__get__"):
                yield name, member


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


def documented() -> dict[str, Any]:
    """`module.name` → every public class and function, and every class that these give back."""
    things = [*public_things(), *(kind for kind in public_results() if kind.__name__ not in ONE_LINE)]
    return {f"{each.__module__}.{each.__name__}": each for each in things}


def own_docstring(thing: Any) -> str:
    """Its own: a class's is not that of the class it is made from."""
    return str((vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__) or "")
