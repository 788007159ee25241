"""`%%silo_module name.py`: a cell becomes a task's module, as a file beside the notebook."""

import importlib.machinery
import importlib.util
import linecache
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from fl_kit.errors import FlKitError, TaskError
from fl_kit.source import IPYTHON_NAMES, Borrowed, borrowed_names, digest, module_name


def register(shell: Any) -> None:
    """Give an IPython shell the cell magic `%%silo_module`; `%load_ext fl_kit` calls this."""
    written: dict[Path, bytes] = {}

    def silo_module(line: str, cell: str) -> None:
        """Write the cell to a file beside the notebook, import it fresh and bind it under its name.

        %%silo_module heart.py

        A silo has no notebook, so the cell must define or import every name that it uses; nothing is
        written while it borrows one. An existing file is replaced, and the output says so where it was
        not written here.
        """
        try:
            path = notebook_folder(shell.user_ns) / file_name(line)
            name = module_name(path)
            text = module_text(cell)
            refuse_borrowed(text, name, shell)
            change = write(path, text, written)
        except FlKitError as error:
            show_as(error, [f"{type(error).__name__}: {error}"])
            raise
        if isinstance(shell.user_ns.get(name), ModuleType):
            del shell.user_ns[name]  # if the import fails, the earlier module must not pass for this file
        try:
            shell.user_ns[name] = import_fresh(name, path)
        except Exception as error:
            show_as(error, own_traceback(shell, error, path))
            raise
        print(f"{path.name} {change}, sha256 {digest(text)[:12]}…, bound as {name}")  # noqa: T201 (a cell's output)

    shell.register_magic_function(silo_module, "cell", "silo_module")


def notebook_folder(user_ns: Mapping[str, Any]) -> Path:
    """The notebook's folder: VS Code tells it; elsewhere the kernel works in it."""
    told = user_ns.get("__vsc_ipynb_file__")
    folder = Path(told).parent if isinstance(told, str) else None
    return folder if folder and folder.is_dir() else Path.cwd()


def file_name(line: str) -> str:
    """The file name after the magic, without a comment; raises TaskError unless it is a plain name."""
    name = line.partition("#")[0].strip().strip("'\"")
    if not name:
        raise TaskError("%%silo_module needs a file name: %%silo_module heart.py")
    if "/" in name or "\\" in name or Path(name).drive:
        raise TaskError(f"%%silo_module writes beside the notebook; give a plain file name instead of {name!r}")
    return name


def module_text(cell: str) -> str:
    """The cell as the text of a file: LF line ends, one at the end."""
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise TaskError("%%silo_module: the cell is empty")
    return text.rstrip("\n") + "\n"


def refuse_borrowed(text: str, name: str, shell: Any) -> None:
    """Raises TaskError that lists every name the cell does not define, each with its line in the cell."""
    cell = f"\n{text}"  # the magic's own line counts, as the front ends number them
    borrowed = borrowed_names(cell, f"the cell of {name}.py")
    if borrowed:
        faults = "\n".join(f"  line {b.line}: {b.name} {cure(b, shell)}" for b in borrowed)
        raise TaskError(f"{name}.py was not written: a silo has no notebook, and the cell borrows\n{faults}")


def cure(borrowed: Borrowed, shell: Any) -> str:
    """Where a borrowed name comes from, and what to do."""
    name = borrowed.name
    if name in IPYTHON_NAMES or (name in shell.user_ns and name in shell.user_ns_hidden):
        return "is IPython's; leave it out"
    if name not in shell.user_ns:
        return "is defined nowhere; define or import it in the cell"
    value = shell.user_ns[name]
    if isinstance(value, ModuleType):
        renamed = "" if value.__name__ == name else f" as {name}"
        return f"is imported in your notebook, not in this cell: add `import {value.__name__}{renamed}` to the cell"
    return "is defined in your notebook, not in this cell: move it into the cell"


def write(path: Path, text: str, written: dict[Path, bytes]) -> str:
    """Write the file atomically unless it already holds the text; says in a word or two what happened.

    written  what was written here before, path → bytes; brought up to date

    Raises TaskError where the file cannot be written.
    """
    path = path.resolve()  # a symbolic link stays one
    data = text.encode("utf-8")
    try:
        before = path.read_bytes() if path.exists() else None
        if before != data:
            replace_file(path, data)
    except OSError as error:
        raise TaskError(f"{path.name} cannot be written in {path.parent}: {error.strerror}") from error
    ours = before is None or written.get(path) == before
    written[path] = data
    if before == data:
        return "unchanged"
    return "written" if ours else "replaced (was different)"


def replace_file(path: Path, data: bytes) -> None:
    """Put the bytes under that name in one step, and forget what was compiled and cached of the old file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    # Bytecode is matched by whole seconds and size: another process could take the old one for the new file's.
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


class FromSource(importlib.machinery.SourceFileLoader):
    """Loads a module from its source text, never from a bytecode cache."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def import_fresh(name: str, path: Path) -> ModuleType:
    """The module of that file, run anew and put in `sys.modules`; if it raises, no module of that name is left."""
    linecache.cache.pop(str(path), None)
    loader = FromSource(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # the loader is given
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def own_traceback(shell: Any, error: BaseException, path: Path) -> list[str]:
    """IPython's rendering of an error, from the first frame in the user's file on."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(path):
        trace = trace.tb_next
    lines: list[str] = shell.InteractiveTB.structured_traceback(
        type(error), error, trace or error.__traceback__, tb_offset=0
    )
    return lines


def show_as(error: BaseException, lines: list[str]) -> None:
    """Have IPython show an error as these lines instead of its own traceback, which starts inside IPython."""
    vars(error)["_render_traceback_"] = lambda: lines
