"""A part of the benchmark in a fresh interpreter, so that no part warms another up."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> str:
    """What `python <arguments>` prints in a fresh interpreter with one thread; raises CalledProcessError."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def figures(module: str, *arguments: str) -> dict[str, Any]:
    """The figures that a module of this package prints as its last line."""
    found: dict[str, Any] = json.loads(run("-m", f"bench.{module}", *arguments).splitlines()[-1])
    return found


def tell(found: dict[str, Any]) -> None:
    """Print figures for `figures`."""
    print(json.dumps(found))
