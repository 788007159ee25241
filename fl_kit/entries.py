"""Entries of a file as frozen dataclasses: every field checked, every fault with its line."""

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from fl_kit.errors import FederationError
from fl_kit.yaml_lines import Lines, Place

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Builds dataclasses from what a file holds, and collects what is wrong in `faults`.

    source  how the file is called
    lines   the line of each part; empty for what comes from no file
    """

    source: str
    lines: Lines
    faults: list[str] = field(default_factory=list)

    def build(self, kind: type[T], entry: Any, *place: str | int) -> T | None:
        """The entry as that dataclass; None, and the faults noted, if it cannot be."""
        known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
        if not isinstance(entry, dict):
            self.fault(f"expected fields such as {sorted(known)}, found {entry!r}", *place)
            return None
        before = len(self.faults)
        self.check_names(entry, known, *place)
        missing = [name for name, f in known.items() if required(f) and name not in entry]
        if missing:
            self.fault(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing", *place)
        for name in entry.keys() & known.keys():
            if why := misfit(known[name].type, entry[name]):
                self.fault(f"{name} is {entry[name]!r}, {why}", *place, name)
        if len(self.faults) > before:
            return None
        try:
            return kind(**entry)
        except FederationError as error:
            self.fault(str(error), *place)
        return None

    def check_names(self, entry: Mapping[Any, Any], known: Iterable[str], *place: str | int) -> None:
        """Note every field that is not known, with the nearest one that is."""
        known = sorted(known)
        for name in entry:
            if name not in known:
                self.fault(f"unknown field {str(name)!r}{nearest(str(name), known)}", *place, str(name))

    def checked(self, check: Callable[[str], None], value: str, *place: str | int) -> None:
        """Note what a check says of a field that has its kind."""
        try:
            check(value)
        except FederationError as error:
            self.fault(str(error), *place)

    def fault(self, what: str, *place: str | int) -> None:
        self.faults.append(f"{self.at(*place)}: {what}")

    def at(self, *place: str | int) -> str:
        """`federation.yaml, line 7, silo 2`: the nearest line that is known."""
        line = next((self.lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in self.lines), None)
        return ", ".join([self.source, *([f"line {line}"] if line else []), *label(place)])


def label(place: Place) -> list[str]:
    """How people call a place: the second entry of `silos` is "silo 2"."""
    head, *rest = place or ("",)
    if rest and isinstance(rest[0], int):
        return [f"{str(head).removesuffix('s')} {rest[0] + 1}"]
    return [str(head)] if rest or head == "orchestrator" else []


def misfit(kind: Any, value: Any) -> str:
    """What was expected instead of a field's value, or an empty string; the kinds are those of the annotations."""
    if kind is str:
        return "" if isinstance(value, str) else "expected text: put it into quotes"
    if kind is int:
        return "" if type(value) is int else "expected a whole number"
    expected = "a list of texts" if kind == tuple[str, ...] else "fields with text: put each value into quotes"
    wanted = list if kind == tuple[str, ...] else dict
    texts = [*value, *(value.values() if isinstance(value, dict) else ())] if isinstance(value, wanted) else [None]
    return "" if all(isinstance(text, str) for text in texts) else f"expected {expected}"


def required(found: "Field[Any]") -> bool:
    return found.default is MISSING and found.default_factory is MISSING


def plain(thing: Any) -> dict[str, Any]:
    """A dataclass as plain data: required fields first, and of the others only what is not as by default."""
    found = {f.name: getattr(thing, f.name) for f in sorted(fields(thing), key=lambda f: not required(f))}
    told = {f.name for f in fields(thing) if required(f) or found[f.name] != default(f)}
    return {name: simple(value) for name, value in found.items() if name in told}


def simple(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value


def default(found: "Field[Any]") -> Any:
    factory: Any = found.default_factory
    return found.default if found.default is not MISSING else factory()


def nearest(name: str, known: Iterable[str]) -> str:
    """An ending for an error about an unknown name: the nearest one, and what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
    return f"{hint} Known: {shown}" if hint else f"; known: {shown}"
