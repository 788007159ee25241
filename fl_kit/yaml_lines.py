"""A YAML file as plain data, and the line on which each part of it stands."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from fl_kit.bounded import read_text
from fl_kit.errors import FederationError

Place: TypeAlias = tuple[str | int, ...]
"""Where something stands in a document: ("silos", 1, "region")."""
Lines: TypeAlias = Mapping[Place, int]

DEPTH = 4
"""As deep as lines are noted: a field of a mapping in an entry of a list. Aliases could make a document endless."""
LIMIT = 1 << 20
"""Bytes of a file: a federation of some thousand silos. YAML is read slowly."""
PARTS = 100_000
"""Parts of a document with every alias written out: a few lines of aliases of aliases mean billions."""
NESTED = 32
"""Levels of nesting: PyYAML takes a time that grows as their square."""
SHORT = 64
"""Characters of a number, a date or a truth value: reading a longer one takes time that grows as its square."""
MERGE = "tag:yaml.org,2002:merge"
TEXT = "tag:yaml.org,2002:str"


def read_yaml(path: str | Path) -> tuple[Any, Lines]:
    """What a YAML file holds, and the line of every part of it, counted from 1.

    Only plain data are made: a tag that names a Python object is refused. Raises FederationError for a file that
    cannot be read, is not YAML, or says one thing twice.
    """
    try:
        return parse_yaml(read_text(path, limit=LIMIT, links=True), path)
    except OSError as error:
        raise FederationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FederationError(f"{path} is not YAML: {error}") from error


def parse_yaml(text: str, path: str | Path) -> tuple[Any, Lines]:
    """The same of a text; `path` is how errors call it."""
    import yaml

    class Loader(yaml.SafeLoader):
        level = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.level += 1
            if self.level > NESTED:
                raise FederationError(f"{path} is not YAML that fl-kit reads: it is nested deeper than {NESTED} levels")
            node = super().compose_node(parent, index)
            self.level -= 1
            return node

    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        check_size(node, {}, path)
        check_scalars(node, loader, path)
        lines = noted(node, path)  # before data are made, which writes merged keys into the nodes
        return loader.construct_document(node), lines
    except (yaml.YAMLError, ValueError, AttributeError, OverflowError) as error:  # a date that is none, say
        raise FederationError(f"{path} is not YAML: {error}") from error


def check_size(node: Any, sizes: dict[int, int], path: str | Path) -> int:
    """How many parts a node has with every alias written out; raises FederationError for too many.

    sizes  of the nodes that were counted before, by id; 0 of one whose parts are being counted
    """
    if node.id == "scalar":
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = 0
        below = (part for pair in node.value for part in (pair if node.id == "mapping" else (pair,)))
        sizes[id(node)] = 1 + sum(check_size(part, sizes, path) for part in below)
    if not 0 < sizes[id(node)] <= PARTS:
        why = "refers to itself" if not sizes[id(node)] else f"means more than {PARTS:,} parts, by its aliases"
        raise FederationError(f"{path}, line {node.start_mark.line + 1}: what stands there {why}")
    return sizes[id(node)]


def check_scalars(root: Any, loader: Any, path: str | Path) -> None:
    """Raise FederationError for a number, date or truth value that is long, or that only a tag makes one."""
    seen, left = {id(root)}, [root]
    while left:
        node = left.pop()
        if node.id == "scalar":
            plain = node.style is None and node.tag == loader.resolve(type(node), node.value, (True, False))
            if node.tag != TEXT and not (plain and len(node.value) <= SHORT):
                raise FederationError(
                    f"{path}, line {node.start_mark.line + 1}: {node.value[:40]!r} with the tag {node.tag[:80]!r} is "
                    "nothing that fl-kit reads; put a text into quotes"
                )
            continue
        if node.tag not in ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            line = node.start_mark.line + 1
            raise FederationError(f"{path}, line {line} is not YAML that fl-kit reads: the tag {node.tag[:80]!r}")
        below = [part for pair in node.value for part in (pair if node.id == "mapping" else (pair,))]
        left += [part for part in below if id(part) not in seen]
        seen |= {id(part) for part in below}


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
    return bool(key.id == "scalar" and key.tag != MERGE)
