"""The peak memory of one system on one workload. `python -m bench.memory W3:3 folder`."""

import argparse
import resource
import tempfile
from pathlib import Path
from typing import Any

import torch

from bench.child import tell
from bench.systems import SYSTEMS, prepared
from bench.workloads import named

STATUS = Path("/proc/self/status")
"""Where Linux tells."""
WARM_UP = "V:2"
"""Run first, so that whatever a system imports and initialises is there before its memory is measured."""


def peak_of_run(system: str, workload: str, scratch: Path) -> dict[str, Any]:
    """The highest resident memory of a run above what its process held before, with the data made; in bytes."""
    prepared(system, named(WARM_UP), scratch)()
    run = prepared(system, named(workload), scratch, rows_first=True)
    forget_peak()
    before = peak()
    parameters = run().parameters
    return {
        "total": peak(),
        "above": peak() - before,
        "model": sum(p.numel() * p.element_size() for p in parameters),
    }


def forget_peak() -> None:
    """Let the peak start from what is resident now, where the system can (Linux); elsewhere it stands."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The highest resident memory of this process, in bytes."""
    if STATUS.exists():
        lines = STATUS.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    # macOS counts bytes here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("system", choices=SYSTEMS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tell(peak_of_run(asked.system, asked.workload, Path(scratch)))


if __name__ == "__main__":
    main()
