"""Code snapshots, ready to run: fetched from the datastore once, compiled once, copied for each step."""

import compileall
import py_compile
import re
import shutil
import threading
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
            # By hash, not by time: a copy's time is not the original's, and a step that changes a file is heard.
            compileall.compile_dir(
                partial, quiet=2, stripdir=str(partial), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
            )
            partial.rename(folder)
    return folder


def code_document(state: WorkspaceState, code: str) -> tuple[str, str, str]:
    match = CODE.fullmatch(code)
    document = state.documents.get("codes", match[1], match[2]) if match else None
    if match is None or document is None:
        raise WorkspaceError(f"there is no code {code!r} in this workspace", status=400, code="UserError")
    return match[1], match[2], document["properties"]["codeUri"]
