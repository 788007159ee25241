"""Executes a notebook by papermill in a process of its own, within its budget, and reads what came of it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_kit.bounded import parse_json, read_text
from fl_kit.entries import nearest
from fl_kit.errors import RegressionError
from fl_kit.regression.recording import recorded

NOTEBOOK_LIMIT = 256 << 20
"""Bytes of an executed notebook, its pictures included."""
PAUSE = 0.1
"""Seconds between two looks at the process."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One execution of a notebook.

    seed      the seed it was given, or None
    notebook  the executed notebook
    seconds   how long it took
    figures   what it recorded
    fault     what went wrong, in one line, or empty
    """

    seed: int | None
    notebook: Path
    seconds: float
    figures: Mapping[str, float]
    fault: str


def check_parameters(notebook: Path, names: Mapping[str, Any]) -> None:
    """Raise RegressionError if a notebook cannot be given these parameters; papermill would only warn."""
    if not names:
        return
    cells = read_cells(notebook)
    if not any("parameters" in cell.get("metadata", {}).get("tags", []) for cell in cells):
        raise RegressionError(
            f"{notebook.name} has no cell tagged 'parameters', so {', '.join(names)} cannot be set; "
            "tag the cell that assigns them"
        )
    from papermill import inspect_notebook

    known = list(inspect_notebook(str(notebook)))
    for name in names:
        if name not in known:
            raise RegressionError(f"{notebook.name} has no parameter {name!r}{nearest(name, known)}")


def execute(
    notebook: Path,
    parameters: Mapping[str, Any],
    *,
    seed: int | None,
    budget: float,
    folder: Path,
    stop: threading.Event,
) -> Execution:
    """Execute a copy of the notebook into a folder; its own folder is where it runs.

    budget  seconds after which it is ended
    folder  where the executed notebook goes, as `<name>.ipynb` or `<name>-seed-<n>.ipynb`
    stop    ends it at once when it is set

    A cell that fails and a budget that is exceeded are told as the fault, naming the cell.
    """
    given = {**parameters, **({} if seed is None else {"seed": seed})}
    done = folder / (f"{notebook.stem}.ipynb" if seed is None else f"{notebook.stem}-seed-{seed}.ipynb")
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    start = time.monotonic()
    code, said = papermill(notebook.resolve(), done.resolve(), given, budget, stop)
    seconds = time.monotonic() - start
    figures: Mapping[str, float] = {}
    fault = ""
    if code is None and stop.is_set():
        fault = f"it was interrupted{during(done)}"
    elif code is None:
        fault = f"it took more than its budget of {budget:g} s{during(done)}"
    elif code != 0:
        fault = failure(done) or f"papermill failed: {last_line(said)}"
    else:
        try:
            figures = recorded(read_cells(done))
        except RegressionError as error:
            fault = str(error)
    return Execution(seed=seed, notebook=done, seconds=seconds, figures=figures, fault=fault)


def papermill(
    notebook: Path, done: Path, parameters: Mapping[str, Any], budget: float, stop: threading.Event
) -> tuple[int | None, str]:
    """Exit code and what was said; None if it was ended by the budget or by `stop`."""
    given = done.with_suffix(".parameters.json")  # JSON is YAML, and papermill reads YAML
    given.write_text(json.dumps(dict(parameters)), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "papermill", str(notebook), str(done), "--no-progress-bar", "--kernel=python3"),
        *(f"--cwd={notebook.parent}", f"--parameters_file={given}"),
    ]
    log = done.with_suffix(".log")
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            code = wait(process, budget, stop)
        finally:
            end(process)
    said = log.read_text(encoding="utf-8", errors="replace")
    given.unlink()
    log.unlink()
    return code, said


def wait(process: "subprocess.Popen[bytes]", budget: float, stop: threading.Event) -> int | None:
    limit = time.monotonic() + budget
    while (code := process.poll()) is None and time.monotonic() < limit and not stop.wait(PAUSE):
        pass
    return code


def end(process: "subprocess.Popen[bytes]") -> None:
    """End it and its children; its kernel, which leads a group of its own, ends when its parent is gone."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook file; raises RegressionError for what is none."""
    try:
        cells = parse_json(read_text(notebook, limit=NOTEBOOK_LIMIT, links=True), infinite=True)["cells"]
        return [dict(cell) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegressionError(f"{notebook} is not a notebook: {error!r}") from error


def failure(done: Path) -> str:
    """Which cell failed and with what, or an empty string if none is marked."""
    if not done.is_file():
        return ""
    for cell in read_cells(done):
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                return f"cell {name_of(cell)} failed: {output['ename']}: {str(output['evalue']).strip()}"
    return ""


def during(done: Path) -> str:
    """Which cell was running when it was ended."""
    if not done.is_file():
        return ""
    running = (c for c in read_cells(done) if c.get("metadata", {}).get("papermill", {}).get("status") == "running")
    return next((f", in cell {name_of(cell)}" for cell in running), "")


def name_of(cell: Mapping[str, Any]) -> str:
    """A cell as people find it: its id and its first line."""
    source = cell.get("source", "")
    lines = (source if isinstance(source, str) else "".join(source)).strip().splitlines()
    return f"{cell.get('id', '?')!r} ({lines[0][:60] if lines else 'empty'})"


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "it said nothing"
