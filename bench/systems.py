"""The three things that are compared, each behind one call."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.result import Result
from bench.workloads import Workload

LOOP, MEMORY, FOLDER = "loop", "memory", "folder"
SYSTEMS = (LOOP, MEMORY, FOLDER)
"""The plain loop; fl-kit that keeps its run in memory; fl-kit with a run folder, which is its default."""


def prepared(system: str, workload: Workload, scratch: Path, *, rows_first: bool = False) -> Callable[[], Result]:
    """One run of a system, ready to go; what it needs is imported here, and only that.

    rows_first  make the data now instead of in the run's first round
    """
    if system == LOOP:
        from bench import loop

        rows = loop.rows_of(workload) if rows_first else None
        return lambda: loop.run(workload, rows)
    from bench.federated import prepare
    from sim.in_process import InProcess

    ready = prepare(workload, scratch / "silos")
    place = InProcess(folder=scratch / "runs" if system == FOLDER else None, engine="exact")
    if rows_first:
        data = ready.job.task.module.data
        made = {(s.data, split): data(s.data, split) for s in ready.federation.silos for split in ("train", "test")}
        place = replace(place, load=lambda task, folder, split: made[folder, split])
    return lambda: ready.run(place)
