"""A small federation, and variants of a small task: what the tests of runs share."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fl_kit import FedAvg, Federation, Job, Silo
from fl_kit.tensors import digest
from sim.in_process import InProcess
from sim.run import SimulatedRun

LOGISTIC = Path(__file__).parent / "tasks" / "logistic.py"
SIZES = {"alpha": 20, "bravo": 33, "charlie": 12, "delta": 27}
"""Rows of each silo, all different, so that a plain mean differs from the weighted one."""


def federation(folder: Path, sizes: Mapping[str, int] = SIZES) -> Federation:
    """Silos whose columns are shifted against one another; the same rows at every call, in the order of `sizes`."""
    return Federation(silos=tuple(silo(folder / name, name, rows) for name, rows in sizes.items()))


def silo(folder: Path, name: str, rows: int) -> Silo:
    draws = np.random.default_rng(list(name.encode()))
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", rows), ("test", rows // 2 + 1)):
        table = draws.normal(loc=draws.normal(), size=(count, 3))
        ill = (table @ [1.0, -2.0, 0.5] + draws.normal(size=count) > 0).astype(int)
        frame = pd.DataFrame(table, columns=["age", "pressure", "sugar"]).assign(ill=ill)
        frame.to_csv(folder / f"{split}.csv", index=False)
    return Silo(name=name, data=str(folder))


def variant(folder: Path, source: str, name: str = "variant") -> Path:
    """The logistic task with more source at its end, which may define a part anew."""
    path = folder / f"{name}.py"
    path.write_text(f"{LOGISTIC.read_text(encoding='utf-8')}\n\n{source}\n", encoding="utf-8")
    return path


def job(task: Path = LOGISTIC, **settings: Any) -> Job:
    """Three rounds of FedAvg with two shuffled epochs each, unless the settings say otherwise."""
    return Job(**{"task": task, "strategy": FedAvg(epochs=2, batch_size=8, lr=0.2), "rounds": 3, **settings})


def digests(run: Any, rounds: Iterable[int]) -> list[str]:
    """The sha256 of each round's parameters."""
    return [digest(run.state(r).params) for r in rounds]


def undisturbed(job: Job, federation: Federation) -> SimulatedRun:
    """The finished run in memory, with every state: what the others are held against."""
    return job.run(federation, on=InProcess(folder=None, keep="all")).wait()


def global_figures(run: Any, metric: str) -> dict[int, float]:
    """Round → the federation's figure."""
    frame = run.history()
    rows = frame[(frame.party == "global") & (frame.metric == metric)]
    return dict(zip(rows["round"], rows["value"], strict=True))
