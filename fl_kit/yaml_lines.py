"""A YAML file as plain data, and the line on which each part of it stands."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from fl_kit.errors import FederationError

Place: TypeAlias = tuple[str | int, ...]
"""Where something stands in a document: ("silos", 1, "region")."""
Lines: TypeAlias = Mapping[Place, int]

DEPTH = 4
"""As deep as lines are noted: a field of a mapping in an entry of a list. Aliases could make a document endless."""


def read_yaml(path: str | Path) -> tuple[Any, Lines]:
    """What a YAML file holds, and the line of every part of it, counted from 1.

    Only plain data are made: a tag that names a Python object is refused. Raises FederationError for a file that
    cannot be read, is not YAML, or says one thing twice.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = noted(node, path)  # before data are made, which writes merged keys into the nodes
        return loader.construct_document(node), lines
    except OSError as error:
        raise FederationError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:  # a date that is none, say
        raise FederationError(f"{path} is not YAML: {error}") from error


def noted(node: Any, path: str | Path) -> Lines:
    found: dict[Place, int] = {}
    for place, line in places(node, ()):
        if place in found:
            raise FederationError(f"{path}, line {line}: {place[-1]!r} was said before, on line {found[place]}")
        found[place] = line
    return found


def places(node: Any, place: Place) -> Iterator[tuple[Place, int]]:
    """Every part below a node, with its line."""
    if len(place) >= DEPTH:
        return
    for key, mark, value in parts(node):
        yield (*place, key), mark.line + 1
        yield from places(value, (*place, key))


def parts(node: Any) -> Iterator[tuple[str | int, Any, Any]]:
    """Key, mark and node of everything directly in a node; `<<` merges are passed over."""
    if node.id == "mapping":
        yield from ((key.value, key.start_mark, value) for key, value in node.value if named(key))
    elif node.id == "sequence":
        yield from ((i, value.start_mark, value) for i, value in enumerate(node.value))


def named(key: Any) -> bool:
    return bool(key.id == "scalar" and key.tag != "tag:yaml.org,2002:merge")
