"""A job on the stacked engine and on the exact one, side by side."""

from pathlib import Path
from typing import Any

from fl_kit.events import ENGINE
from fl_kit.silo import Federation
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.tasks import every_parameter, job, random_rows, silos

RAGGED = (10, 4, 14, 1, 23)
"""Rows of the silos: with batches of 4 no two of them take steps of the same sizes."""


def of_sizes(folder: Path, *sizes: int) -> Federation:
    return silos(folder, **{f"silo_{i}": random_rows(size, 4, i) for i, size in enumerate(sizes)})


def both(
    task: Any, strategy: Any, federation: Federation, rounds: int = 2, **settings: Any
) -> tuple[SimulatedRun, ...]:
    """The job stacked, and exactly."""
    asked = job(task, strategy, rounds, **settings)
    return tuple(
        InProcess(folder=None, keep="all", engine=name).start(asked, federation).wait() for name in ("stacked", "exact")
    )


def off(ours: SimulatedRun, exact: SimulatedRun, round: int = -1) -> float:
    a, b = (every_parameter(run, round).double() for run in (ours, exact))
    return float((a - b).norm() / b.norm())


def said(run: SimulatedRun) -> str:
    return [str(event.value) for event in run.events() if event.name == ENGINE][-1]
