"""Small tasks for tests, and what runs them: files of rows → a federation → a finished run.

    federation = silos(tmp_path, a=rows_a, b=rows_b)
    finished = run(LINEAR, FedAvg(lr=0.1), federation, rounds=3)

Rows are one float64 array per silo, the target in the last column; both splits get the same rows unless
a silo is given as {"train": …, "test": …}.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fl_kit.job import Job
from fl_kit.protocols import Strategy
from fl_kit.silo import Federation, Silo
from sim.in_process import InProcess
from sim.run import SimulatedRun

HERE = Path(__file__).parent
LINEAR = HERE / "linear.py"
QUADRATIC = HERE / "quadratic.py"
BATCHNORM = HERE / "batchnorm.py"
DROPOUT = HERE / "dropout.py"
NORMED = HERE / "normed.py"
SMOOTH = HERE / "smooth.py"
HEART = HERE / "heart.py"
"""For the real sample data; the others read arrays."""


def silos(folder: Path, **rows: Any) -> Federation:
    """A federation with a folder for each silo, `train.npy` and `test.npy` in it."""
    for name, found in rows.items():
        (folder / name).mkdir(parents=True)
        splits = found if isinstance(found, Mapping) else {"train": found, "test": found}
        for split, values in splits.items():
            np.save(folder / name / f"{split}.npy", np.asarray(values, dtype=np.float64))
    return Federation(silos=tuple(Silo(name=name, data=str(folder / name)) for name in rows))


def random_rows(count: int, columns: int, seed: int) -> np.ndarray:
    """Standard normal rows that follow from the seed."""
    return np.random.default_rng(seed).standard_normal((count, columns))


def job(task: Any, strategy: Strategy, rounds: int, **settings: Any) -> Job:
    return Job(task=task, strategy=strategy, rounds=rounds, device="cpu", **settings)


def run(task: Any, strategy: Strategy, federation: Federation, rounds: int, **settings: Any) -> SimulatedRun:
    """A finished run, every round's state in memory."""
    return InProcess(folder=None, keep="all").start(job(task, strategy, rounds, **settings), federation).wait()


def digests(finished: SimulatedRun) -> list[str]:
    """The sha256 of every round's parameters."""
    return [finished.digest(round) for round in range(finished.plan.rounds + 1)]


def scalar(tensors: Mapping[str, Tensor]) -> float:
    """The value of the only parameter."""
    (value,) = tensors.values()
    return float(value)


def write_task(folder: Path, source: str, name: str = "made_up") -> Path:
    """A task file with that source."""
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    return path


FAILS_AT = """
from tests.tasks.quadratic import Weight, data, model  # noqa: F401
import torch

CALLS = {"count": 0}

def loss(outputs, targets):
    if torch.is_grad_enabled() and float(targets[0]) == TARGET:
        CALLS["count"] += 1
        if CALLS["count"] in FAILING:
            raise RuntimeError("this silo is away")
    return ((outputs - targets) ** 2).mean() / 2
"""


def flaky(folder: Path, *, target: float, failing: set[int]) -> Path:
    """The quadratic task, in which the silo with those targets fails at those of its training steps, counted from 1."""
    return write_task(folder, FAILS_AT.replace("TARGET", repr(target)).replace("FAILING", repr(failing)))


def every_parameter(finished: SimulatedRun, round: int = -1) -> Tensor:
    """The parameters of a round in one vector."""
    return torch.cat([value.reshape(-1) for value in finished.state(round).params.values()])
