"""Times one workload: the loop and fl-kit by turns, in one process. `python -m bench.timing W2 5`."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.command import tell_of
from bench.result import Result, loss_difference, same_result
from bench.systems import FOLDER, LOOP, MEMORY, SYSTEMS, prepared
from bench.workloads import Workload, named


def time_workload(workload: Workload, repeats: int, scratch: Path) -> dict[str, Any]:
    """Seconds of a round of each system and repeat, and whether all end alike.

    Whether they do is looked at in float64 and after two rounds: in float32 the order of sums tells them apart,
    which a network with max-pooling amplifies. How far the timed runs end apart is told too.
    """
    early = replace(in_float64(workload), rounds=2, evaluate_every=min(workload.evaluate_every, 2))
    first = {system: prepared(system, early, scratch)() for system in SYSTEMS}
    runs = {system: prepared(system, workload, scratch) for system in SYSTEMS}
    results: dict[str, list[Result]] = {system: [] for system in SYSTEMS}
    for _ in range(repeats):
        for system in SYSTEMS:
            results[system].append(runs[system]())
            shutil.rmtree(scratch / "runs", ignore_errors=True)
    return {
        "wall": {system: [result.wall for result in results[system]] for system in SYSTEMS},
        "cpu": {system: [result.cpu for result in results[system]] for system in SYSTEMS},
        "same": all(same_result(first[system], first[LOOP], 1e-9) for system in (MEMORY, FOLDER)),
        "difference": max(
            loss_difference(ours, loop)
            for system in (MEMORY, FOLDER)
            for ours, loop in zip(results[system], results[LOOP], strict=True)
        ),
    }


def in_float64(workload: Workload) -> Workload:
    base, times, silos = workload.name.partition(":")[0].partition("x")
    return named(f"{base}d{times}{silos}:2")


if __name__ == "__main__":
    tell_of(time_workload, __doc__)
