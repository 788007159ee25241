"""What can be said of a task's source text without running it."""

import ast
import builtins
import hashlib
import importlib.machinery
import keyword
import re
import sys
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_kit.errors import TaskError

IPYTHON_NAMES = frozenset({"display", "get_ipython", "__IPYTHON__"})
"""What IPython puts among the builtins; a silo has none of it."""


@dataclass(frozen=True, kw_only=True)
class Borrowed:
    """A name that a source uses but nowhere defines, and the line of its first use."""

    name: str
    line: int


def borrowed_names(source: str, filename: str) -> list[Borrowed]:
    """The names that the module would take from somewhere else, in the order of their lines.

    filename  how errors call the source

    Raises TaskError, naming the line, for what is no plain Python module: a syntax error, a line of
    IPython (`%magic`, `!shell`) or a star import, which hides where names come from.

    >>> borrowed_names("def loss(o, t): return np.abs(o - t)", "fraud.py")
    [Borrowed(name='np', line=1)]
    """
    tree = parse(source, filename)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            raise TaskError(
                f"{filename}, line {node.lineno}: `from {'.' * node.level}{node.module or ''} import *` hides "
                "which names the task uses; import them by name"
            )
    first: dict[str, int] = {}
    for name, line in undefined_names(tree, filename):
        first[name] = min(line, first.get(name, line))
    return [Borrowed(name=name, line=line) for name, line in sorted(first.items(), key=lambda item: item[::-1])]


def parse(source: str, filename: str) -> ast.Module:
    """The syntax tree; raises TaskError with the line for what Python would refuse to compile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of doubtful escapes and such: importing the module will warn
            tree = ast.parse(source, filename)
            compile(tree, filename, "exec", dont_inherit=True)  # finds more: `return` outside of a function …
    except SyntaxError as error:
        raise TaskError(syntax_fault(source, filename, error)) from None
    except ValueError as error:  # null bytes, before Python 3.12
        raise TaskError(f"{filename} is not Python: {error}") from None
    return tree


def syntax_fault(source: str, filename: str, error: SyntaxError) -> str:
    """One line about a syntax error; says so where the line is IPython's."""
    line = error.lineno or 1
    lines = source.splitlines()
    text = lines[line - 1].strip() if line <= len(lines) else ""
    if re.match(r"[%!?]|[\w.]+\?{1,2}$|[\w, ]+=\s*[%!]", text):
        return f"{filename}, line {line}: `{text}` is IPython, not Python, and a silo has no notebook; leave it out"
    return f"{filename}, line {line}: {error.msg}" + (f": `{text}`" if text else "")


def undefined_names(tree: ast.Module, filename: str) -> list[tuple[str, int]]:
    """Every use of an undefined name, with its line, as pyflakes sees them."""
    from pyflakes import checker, messages

    class WithoutIPython(checker.Checker):  # type: ignore[misc]  # pyflakes has no types
        """Pyflakes takes what it finds among the builtins at its import, which in a notebook are too many."""

        def addBinding(self, node: Any, value: Any) -> None:  # noqa: N802 (the name is pyflakes')
            if not (isinstance(value, checker.Builtin) and value.name in IPYTHON_NAMES):
                super().addBinding(node, value)

    found = WithoutIPython(tree, filename).messages
    return [(m.message_args[0], m.lineno) for m in found if isinstance(m, messages.UndefinedName)]


def digest(source: bytes | str) -> str:
    """The sha256 (hex) of a source as `canonical` writes it: the same on every system.

    Raises TaskError for bytes that are not UTF-8.
    """
    return hashlib.sha256(canonical(source)).hexdigest()


def canonical(source: bytes | str) -> bytes:
    """A source as UTF-8 with LF line ends and no byte order mark, however an editor or git wrote it.

    Raises TaskError for bytes that are not UTF-8.
    """
    try:
        text = source.decode("utf-8") if isinstance(source, bytes) else source
        return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").encode("utf-8")
    except UnicodeError as error:
        raise TaskError(f"a task's source must be UTF-8 text: {error}") from error


def module_name(path: str | Path) -> str:
    """The name under which a task's file is imported: its stem.

    Raises TaskError for a file that is not `.py`, a name that is no identifier, and a name that would
    hide something else: Python's builtins and standard library, fl-kit, an installed package.
    """
    path = Path(path)
    name = path.stem
    if path.suffix != ".py":
        raise TaskError(f"a task's file must end in .py, found {path.name!r}")
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("__"):
        better = re.sub(r"\W", "_", name).strip("_")
        better = better if better.isidentifier() and not keyword.iskeyword(better) else f"task_{better}".rstrip("_")
        raise TaskError(f"{path.name!r} cannot be imported as a module; call it {better}.py")
    hidden = hidden_by(name, path)
    if hidden:
        raise TaskError(f"choose another name than {path.name}, as it would hide {hidden}: say {name}_task.py")
    return name


def hidden_by(name: str, path: Path) -> str:
    """What a module of that name would hide, or an empty string."""
    if name in sys.stdlib_module_names:
        return f"the standard library's {name}"
    if hasattr(builtins, name):
        return f"Python's own {name}"
    if name == __name__.partition(".")[0]:
        return "fl-kit itself"
    folder = path.resolve().parent
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != folder]
    for finder in sys.meta_path:
        only = elsewhere if finder is importlib.machinery.PathFinder else None
        spec = finder.find_spec(name, only)
        if spec is not None and any(place.parent != folder for place in places(spec)):
            return f"the installed package {name}"
    return ""


def places(spec: importlib.machinery.ModuleSpec) -> list[Path]:
    """The files and folders of a module that count: not a plain folder that happens to be on the path."""
    if spec.origin:
        return [Path(spec.origin).resolve()]
    installed = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    folders = [Path(folder).resolve() for folder in spec.submodule_search_locations or ()]
    return [folder for folder in folders if folder.parent in installed]  # a namespace package, such as azure
