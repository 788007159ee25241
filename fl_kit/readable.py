"""Settings as a person would have written them, for the reprs of what is put together by hand."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from fl_kit.grid import WIDTH

LONGEST_LIST = 6
"""A list of more values is shown by its ends."""
DIGITS = 12
"""Hexadecimal digits that tell a digest from another by sight."""


def changed(thing: Any) -> dict[str, Any]:
    """Name → value of a dataclass's settings that have no default, or another value than it.

    >>> from fl_kit.strategies import FedProx
    >>> changed(FedProx(mu=1.0, lr=0.1, epochs=2))
    {'epochs': 2, 'mu': 1.0}
    """
    own = [field for field in fields(thing) if field.init and field.repr]
    return {field.name: value for field in own if differs(field, value := getattr(thing, field.name))}


def differs(field: "Field[Any]", value: Any) -> bool:
    """Whether a field's value is not the one that it has by default."""
    if field.default is not MISSING:
        return bool(value != field.default)
    return field.default_factory is MISSING or bool(value != field.default_factory())


def as_code(thing: Any) -> str:
    """A dataclass as the call that makes it, without the settings that are as by default.

    >>> from fl_kit.strategies import FedAvg
    >>> as_code(FedAvg(lr=(0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05)))
    'FedAvg(lr=(0.1, …, 0.05: 7 values))'
    """
    return call(type(thing).__name__, {name: brief(value) for name, value in changed(thing).items()})


def call(name: str, settings: Mapping[str, str]) -> str:
    """`name(a=1, b=2)`; one setting a line where one line is too short."""
    parts = [f"{key}={value}" for key, value in settings.items()]
    line = f"{name}({', '.join(parts)})"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {part}," for part in parts), ")"])


def brief(value: Any) -> str:
    """A setting's value; of a long list its ends, of a set of settings those that were changed."""
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return as_code(value)
    if isinstance(value, list | tuple) and len(value) > LONGEST_LIST:
        return f"({brief(value[0])}, …, {brief(value[-1])}: {len(value)} values)"
    return repr(value)


def listed(names: Iterable[str]) -> str:
    """Names in a row; of many the first ones, and how many more there are."""
    names = list(names)
    more = len(names) - LONGEST_LIST
    return ", ".join(names[:LONGEST_LIST]) + (f" and {more} more" if more > 0 else "")


def readable_path(data: str) -> str:
    """A local folder as seen from the working directory; anything else as it is."""
    path = Path(data)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else data
