"""How long a system takes from nothing to the end of round 1. `python -m bench.start W2x10 memory`."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from bench import child
from bench.systems import SYSTEMS


def to_end_of_round_1(workload: str, system: str, repeats: int) -> dict[str, float]:
    """Median seconds to the first average: `process` from the start of the interpreter, `run` from the call."""
    found = []
    for _ in range(repeats):
        started = time.time()
        marks = child.figures("start", workload, system)
        found.append((marks["done"] - started, marks["done"] - marks["called"]))
    return {
        "process": statistics.median(f[0] for f in found),
        "run": statistics.median(f[1] for f in found),
    }


def import_time(repeats: int) -> dict[str, float | bool]:
    """Median seconds that `import fl_kit` adds to an interpreter's start, and whether it loads torch."""
    both = [(seconds("import fl_kit"), seconds("pass")) for _ in range(repeats)]
    loaded = child.run("-c", "import fl_kit, sys; print('torch' in sys.modules)").strip()
    return {
        "seconds": statistics.median(b[0] for b in both) - statistics.median(b[1] for b in both),
        "loads_torch": loaded == "True",
    }


def seconds(code: str) -> float:
    start = time.perf_counter()
    child.run("-c", code)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("system", choices=SYSTEMS)
    asked = parser.parse_args()
    import torch

    from bench.systems import prepared
    from bench.workloads import named

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        run = prepared(asked.system, named(asked.workload), Path(scratch))
        called = time.perf_counter()
        first = run().marks[0][0]
        now, clock = time.perf_counter(), time.time()
    child.tell({"called": clock - (now - called), "done": clock - (now - first)})


if __name__ == "__main__":
    main()
