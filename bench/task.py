"""A workload as fl-kit's task: what a user would write, and an aggregator that marks the time."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from bench.result import Mark, mark
from bench.workloads import Workload, named
from fl_kit.aggregators import Mean
from fl_kit.messages import Update
from fl_kit.metrics import Accuracy
from fl_kit.protocols import Context

workload: Workload = named("W2")
"""The last line of the source that runs binds another; see bench/federated.py."""

marks: list[Mark] = []

loss = nn.CrossEntropyLoss()
metrics = [Accuracy()]


def model() -> nn.Module:
    return workload.model()


def data(folder: str, split: str) -> tuple[Tensor, Tensor]:
    silo = int(Path(folder, "silo.txt").read_text())
    return workload.train_rows(silo) if split == "train" else workload.test_share(silo)


@dataclass(frozen=True, kw_only=True)
class MarkedMean(Mean):
    """The weighted mean, marked when it is ready: where the plain loop sets its marks too."""

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        mean = super().__call__(updates, ctx)
        marks.append(mark())
        return mean
