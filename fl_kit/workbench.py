"""What a process keeps between the steps it runs: the task's model and rows, and the device."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fl_kit.batches import Rows, rows_from
from fl_kit.errors import IncompatibleError, TaskError
from fl_kit.local import measuring
from fl_kit.model_state import ModelState
from fl_kit.protocols import Together
from fl_kit.randomness import seeded
from fl_kit.task import Task

Load = Callable[[Task, str, str], Any]
"""(task, folder, split) → what the task's `data` returns."""


def load(task: Task, folder: str, split: str) -> Any:
    return task.module.data(folder, split)


class Workbench:
    """One task's model, rows and loss on one device, used again from step to step.

    task    what to learn
    seed    of the job
    device  "auto" takes cuda or mps where there is one
    load    how a silo's rows are read; the task's own `data` by default
    bundle  the digest of the bundle under which it works; empty where there is none
    """

    def __init__(self, task: Task, *, seed: int, device: str = "auto", load: Load = load, bundle: str = "") -> None:
        self.task = task
        self.seed = seed
        self.bundle = bundle
        self.clock: Callable[[], float] = time.monotonic
        """Seconds, by which the job's deadline is held."""
        self.device = choose_device(device)
        self.loss = task.loss.to(self.device) if isinstance(task.loss, nn.Module) else task.loss
        self.measure_loss = measuring(task.loss)
        self.draws: dict[str, bool] = {}
        """Whether training draws random numbers: of a silo with a Dataset, and under "" of all others."""
        self.row_by_row: set[str] = set()
        """Silos whose model cannot work in the fast layout of convolutions."""
        self.forms: dict[str, Any] = {}
        """What the doors know of the updates of a kind of step; see `fl_kit.door.form_of`."""
        self.together: Together | None = None
        """What trains and measures for several silos at once, where an engine does so."""
        self._load = load
        self._model: ModelState | None = None
        self._rows: dict[tuple[str, str], Rows] = {}

    @property
    def model(self) -> ModelState:
        """The working model, built at first use."""
        if self._model is None:
            with seeded(self.seed, "working model"):
                self._model = ModelState(self.task.model(), self.device)
        return self._model

    def first_model(self) -> nn.Module:
        """A new model with the job's seeded first weights, the same for every silo."""
        with seeded(self.seed, "first model"):
            return self.task.model()

    def rows(self, silo: str, folder: str, split: str) -> Rows:
        """A silo's rows of a split, read once.

        Raises TaskError for what is no data, or for a train split without rows.
        """
        key = (folder, split)
        if key not in self._rows:
            where = f"silo {silo}, split {split!r}"
            with seeded(self.seed, "data", silo, split):
                rows = rows_from(self._load(self.task, folder, split), self.device, where)
            if split == "train" and not len(rows):
                raise TaskError(f"{where}: data() gave no rows; leave this silo out or give it rows with a target")
            self._rows[key] = rows
        return self._rows[key]


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is cuda or mps where there is one, else the CPU.

    Raises IncompatibleError for a device that is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise IncompatibleError(f"device={name!r} is none that torch knows; use auto, cpu, cuda or mps") from error
    missing = (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise IncompatibleError(f"device={name!r}: there is none on this machine; use device='auto'")
    return device
