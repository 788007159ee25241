"""Code snapshots, ready to run: fetched from the datastore once, compiled once, copied for each step.

Python keeps no byte code of modules that it imports from a zip archive, so each step would compile them again. An
archive of a snapshot is therefore unpacked once, whatever snapshots have it, and compiled beside them.
"""

import compileall
import hashlib
import py_compile
import re
import shutil
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path

from sim.azureml.errors import WorkspaceError
from sim.azureml.places import path_of, place_of
from sim.azureml.state import WorkspaceState, file_name

CODE = re.compile(r"(?:azureml:)?/?.*/codes/([^/]+)/versions/([^/]+)")

lock = threading.Lock()
"""Two steps that start at once do not both prepare the snapshot."""


def check_code(state: WorkspaceState, code: str) -> None:
    """Raise WorkspaceError (400) if there is no such code."""
    if code:
        code_document(state, code)


def copy_code(state: WorkspaceState, code: str, target: Path) -> None:
    """Fill a folder with the code, compiled; it stays empty if there is none."""
    if code:
        shutil.copytree(prepared(state, code), target, dirs_exist_ok=True)


def prepared(state: WorkspaceState, code: str) -> Path:
    """The snapshot with its byte code, kept in the workspace's own folder."""
    name, version, uri = code_document(state, code)
    folder = state.root / "jobs" / ".code" / file_name((name, version))
    with lock:
        if not folder.exists():
            source = path_of(state, place_of(state, uri))
            if not source.is_dir():
                raise WorkspaceError(f"code {name}:{version} was never uploaded", status=400, code="UserError")
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial)
            add_byte_code(partial)
            partial.rename(folder)
    return folder


def add_byte_code(folder: Path) -> None:
    """Compile every module; by hash, not by time: a copy has another time, and a step that changes a file is heard."""
    by_hash = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder, quiet=2, stripdir=str(folder), invalidation_mode=by_hash)


def unpacked(state: WorkspaceState, code: str) -> Mapping[str, Path]:
    """Archive of Python modules in a snapshot, by its path in it → a folder with the same modules and their byte code.

    Only archives without compression, which cannot grow when they are unpacked.
    """
    snapshot, home = prepared(state, code), state.root / "jobs" / ".archives"
    return {
        path.relative_to(snapshot).as_posix(): unpack(path, home)
        for path in sorted(snapshot.rglob("*.zip"))
        if is_plain(path)
    }


def is_plain(path: Path) -> bool:
    """Whether a file is a sound archive of files as they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
            return stored and archive.testzip() is None
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):  # the last two: of encrypted ones and such
        return False


def unpack(path: Path, home: Path) -> Path:
    folder = home / hashlib.sha256(path.read_bytes()).hexdigest()
    with lock:
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            with zipfile.ZipFile(path) as archive:
                archive.extractall(partial)
            add_byte_code(partial)
            partial.rename(folder)
    return folder


def code_document(state: WorkspaceState, code: str) -> tuple[str, str, str]:
    match = CODE.fullmatch(code)
    document = state.documents.get("codes", match[1], match[2]) if match else None
    if match is None or document is None:
        raise WorkspaceError(f"there is no code {code!r} in this workspace", status=400, code="UserError")
    return match[1], match[2], document["properties"]["codeUri"]
