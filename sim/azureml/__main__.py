"""A local AzureML workspace from a shell: after `eval "$(python -m sim.azureml up)"`, its MLClients use it.

up      start it in the background, or find the one that runs; print the variables that point clients at it
status  say whether it runs, and where
down    stop it; everything stays in its folder, and `up` goes on with it
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from fl_kit.errors import FlKitError
from fl_kit.silo import Federation
from sim.azureml.errors import WorkspaceError
from sim.azureml.lock import Lock
from sim.azureml.pointing import CONFIG, HIDDEN, config, remove_config, variables, write_config
from sim.azureml.state import WorkspaceState
from sim.azureml.workspace import ROOT, LocalWorkspace

SERVING = "serving"
"""Names the background process that serves; a workspace inside a notebook has no such file, and is not ended here."""

LOG = "server.log"
WAIT_SECONDS = 60.0


def main(words: list[str] | None = None) -> int:
    """Do what the words say; gives the exit status: 0, or 1 for an error and for `status` of what does not run."""
    parser = argparse.ArgumentParser(
        prog="python -m sim.azureml", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["up", "status", "down", "serve"], help="`serve` stays in the foreground")
    parser.add_argument("--root", type=Path, default=Path(ROOT), help=f"the workspace's folder (default: {ROOT})")
    parser.add_argument("--federation", type=Path, help="a federation.yaml whose parties get computes and datastores")
    asked = parser.parse_args(words)
    actions = {"up": up, "status": status, "down": down, "serve": serve}
    try:
        return actions[asked.action](asked.root.resolve(), asked.federation)
    except FlKitError as error:
        say(f"error: {error}", to=sys.stderr)
        return 1


def up(root: Path, federation: Path | None) -> int:
    """Start the workspace in a process of its own, unless it runs, and print the shell's commands."""
    if Lock(root).holder() is None:
        start(root, federation)
    state = WorkspaceState.open(root)
    write_config(Path.cwd() / CONFIG, config(state.settings))
    for name in HIDDEN:
        if name in os.environ:
            say(f"unset {name}")
    for name, value in variables(state, root / "tls" / "bundle.pem").items():
        say(f"export {name}={shlex.quote(value)}")
    say(f"the workspace in {root} runs at {state.settings.url}", to=sys.stderr)
    return 0


def start(root: Path, federation: Path | None) -> None:
    """Start a process that serves, and wait until it does; raises WorkspaceError with its last words if it ends."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "sim.azureml", "serve", "--root", str(root)]
    command += ["--federation", str(federation)] if federation else []
    with (root / LOG).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    end = time.monotonic() + WAIT_SECONDS
    while server_of(root) != process.pid:
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            last = (root / LOG).read_text(encoding="utf-8").strip().splitlines()[-1:]
            raise WorkspaceError(f"the workspace did not start: {''.join(last)} (see {root / LOG})", status=503)
        time.sleep(0.02)


def serve(root: Path, federation: Path | None) -> int:
    """Serve in this process until it is told to end."""
    workspace = LocalWorkspace.for_federation(Federation.load(federation), root) if federation else LocalWorkspace(root)
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    workspace.start(point=False)
    try:
        (root / SERVING).write_text(str(os.getpid()))
        told.wait()
    finally:
        (root / SERVING).unlink(missing_ok=True)
        workspace.stop()
    return 0


def status(root: Path, federation: Path | None) -> int:
    """Say whether the workspace runs, where, and what it holds."""
    holder = Lock(root).holder()
    if holder is None:
        say(f"no workspace runs in {root}")
        return 1
    state = WorkspaceState.open(root)
    counts = [f"{sum(1 for _ in state.documents.list(kind))} {kind}" for kind in ("computes", "datastores", "jobs")]
    say(f"the workspace in {root} runs at {state.settings.url}, process {holder}: {', '.join(counts)}")
    return 0


def down(root: Path, federation: Path | None) -> int:
    """Stop the background process; raises WorkspaceError for a workspace that another program holds."""
    holder = Lock(root).holder()
    if holder is None:
        say(f"no workspace runs in {root}")
        return 0
    if holder != server_of(root):
        message = f"the workspace in {root} runs inside process {holder}, which `up` did not start: stop it there"
        raise WorkspaceError(message, status=409)
    remove_config(Path.cwd() / CONFIG, config(WorkspaceState.open(root).settings), None)
    os.kill(holder, signal.SIGTERM)
    end = time.monotonic() + WAIT_SECONDS
    while Lock(root).holder() is not None:
        if time.monotonic() > end:
            raise WorkspaceError(f"process {holder} did not end within {WAIT_SECONDS:.0f} s", status=503)
        time.sleep(0.02)
    say(f"the workspace in {root} has stopped")
    return 0


def server_of(root: Path) -> int | None:
    """The background process that serves, as it wrote it down; None if there is none."""
    file = root / SERVING
    return int(file.read_text()) if file.exists() and file.stat().st_size else None


def say(line: str, to: TextIO | None = None) -> None:
    (to or sys.stdout).write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
