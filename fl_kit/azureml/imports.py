"""What a task imports, read from its source without running it."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from fl_kit.source import parse

TRAVELS = frozenset({"fl_kit", *sys.stdlib_module_names})


@dataclass(frozen=True, kw_only=True)
class Import:
    """A top-level module that a source imports.

    line      where, the first time
    optional  whether it may be missing: it stands in the body of a `try`
    """

    name: str
    line: int
    optional: bool = False


def imports_of(source: str, name: str) -> list[Import]:
    """Every module but the standard library's and fl-kit's, in the order of their lines.

    One that is needed anywhere is not optional.

    Raises TaskError for what is no Python.

    >>> imports_of("import pandas as pd, json", "fraud")
    [Import(name='pandas', line=1, optional=False)]
    """
    found: dict[str, Import] = {}
    for each in sorted(imported(parse(source, f"{name}.py"), optional=False), key=lambda i: (i.optional, i.line)):
        if each.name not in TRAVELS:
            found.setdefault(each.name, each)
    return sorted(found.values(), key=lambda i: (i.line, i.name))


def imported(node: ast.AST, *, optional: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        yield from (Import(name=n.partition(".")[0], line=node.lineno, optional=optional) for n in names)
    elif isinstance(node, ast.ImportFrom):
        # a relative import would need a package around the task, which does not travel
        name = "." * node.level + (node.module or "").partition(".")[0]
        yield Import(name=name, line=node.lineno, optional=optional)
    for child in ast.iter_child_nodes(node):
        tried = isinstance(node, ast.Try) and child in node.body and bool(node.handlers)
        yield from imported(child, optional=optional or tried)
