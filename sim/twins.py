"""The same job without federation: on pooled rows, and in one silo alone. Simulation only.

Each twin takes as many gradient steps as all silos of the federated run together, with the same optimiser and
batch size, so that none wins by training longer.
"""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Dataset, TensorDataset

from fl_kit.aggregators.mean import Mean
from fl_kit.batches import DatasetRows, Rows, TensorRows
from fl_kit.errors import IncompatibleError
from fl_kit.job import Job
from fl_kit.silo import Federation, Silo
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.strategies.local_training import LocalTraining
from fl_kit.task import Task
from fl_kit.workbench import Load, Workbench

SEPARATOR = "+"
"""Between the names of silos, which have none in them."""


def twin_job(job: Job, federation: Federation) -> Job:
    """The job that a twin runs: plain local SGD with the federated job's settings and total of steps.

    Raises IncompatibleError for a task with its own `fit`, whose steps fl-kit cannot count.
    """
    if job.task.fit is not None:
        raise IncompatibleError(
            f"compare() cannot count the gradient steps of the task {job.task.name!r}, which brings its own fit(); "
            "remove fit(), or train the twins yourself"
        )
    strategy = job.strategy
    if not isinstance(strategy, FedAvg):
        raise IncompatibleError(
            f"compare() needs a strategy with FedAvg's local settings, not {type(strategy).__name__}"
        )
    local = {f.name: getattr(strategy, f.name) for f in fields(LocalTraining)}
    steps = steps_per_round(job, federation)
    everyone = replace(job, fraction=None, per_round=None, min_silos=None)
    return replace(everyone, strategy=FedAvg(**{**local, "steps": steps}), aggregator=Mean(), transforms=())


def steps_per_round(job: Job, federation: Federation) -> int:
    """The gradient steps that the silos of a round take together; the mean over rounds where only some take part."""
    strategy = job.strategy
    fits = sum(step.op == "fit" for step in job.plan(federation).steps)
    part = fits / (job.rounds * len(federation))
    assert isinstance(strategy, FedAvg)
    if strategy.steps is not None:
        return round(strategy.steps * len(federation) * part)
    bench = Workbench(job.task, seed=job.seed, device="cpu")
    sizes = [len(bench.rows(silo.name, silo.data, "train")) for silo in federation.silos]
    return max(1, round(part * sum(strategy.epochs * math.ceil(size / strategy.batch_size) for size in sizes)))


def pooled(silos: Sequence[str], name: str) -> Federation:
    """One silo that trains on the rows of some silos; read it with `load_pooled`."""
    return Federation(silos=(Silo(name=name, data=SEPARATOR.join(silos)),))


def load_pooled(job: Job, federation: Federation) -> Load:
    """How a `pooled` silo is read: some silos' rows to train on, those of all to test on, one after the other.

    Each silo's rows are those of the federated run, even where the task's `data` draws random numbers.
    """
    bench = Workbench(job.task, seed=job.seed, device="cpu")

    def load(task: Task, names: str, split: str) -> Any:
        silos = names.split(SEPARATOR) if split == "train" else federation.names
        return concatenate([bench.rows(silo, federation[silo].data, split) for silo in silos])

    return load


def concatenate(parts: Sequence[Rows]) -> Any:
    """Several silos' rows as one: tensors where all are tensors, else a Dataset; one silo's as they are."""
    if len(parts) == 1:
        return parts[0].raw  # a copy may lie otherwise in memory, and the bits with it
    if all(isinstance(part, TensorRows) for part in parts):
        tensors = [part for part in parts if isinstance(part, TensorRows)]
        return joined([part.inputs for part in tensors]), torch.cat([part.targets for part in tensors])
    return ConcatDataset([dataset(part) for part in parts])


def joined(values: Sequence[Any]) -> Any:
    if isinstance(values[0], torch.Tensor):
        return torch.cat(list(values))
    if isinstance(values[0], dict):
        return {key: joined([value[key] for value in values]) for key in values[0]}
    return tuple(joined(list(items)) for items in zip(*values, strict=True))


def dataset(rows: Rows) -> Dataset[Any]:
    if isinstance(rows, DatasetRows):
        return rows.raw  # type: ignore[no-any-return]
    assert isinstance(rows, TensorRows)
    if not isinstance(rows.inputs, torch.Tensor):
        raise IncompatibleError("compare() cannot pool silos of which some give a Dataset and some several tensors")
    return TensorDataset(rows.inputs, rows.targets)
