"""The figures of a round, from the metric sums of arriving updates."""

from collections.abc import Iterable, Iterator

import torch

from fl_kit.context import StepContext
from fl_kit.events import GLOBAL
from fl_kit.messages import Update
from fl_kit.metrics import ratio
from fl_kit.tensors import Tensors

PERSONAL = "personal_"
"""Before a metric's name: of the silos' personal models, beside the global one."""


class Figures:
    """The metric sums of arriving updates: told for each silo, added up for the federation."""

    def __init__(self, ctx: StepContext, measured_round: int) -> None:
        self.ctx = ctx
        self.round = measured_round
        self.totals: Tensors = {}

    def noting(self, updates: Iterable[Update]) -> Iterator[Update]:
        """The same updates, while their figures are told."""
        for update in updates:
            for name, sums in update.metrics.items():
                self.totals[name] = self.totals[name] + sums if name in self.totals else sums
                self.tell(update.silo, name, sums)
            yield update
            del update  # or it would live on while the next silo trains

    def of_federation(self, name: str) -> float | None:
        """The federation's value of a metric, or None if nobody measured it."""
        return self._value(name, self.totals[name]) if name in self.totals else None

    def tell_global(self) -> None:
        """Tell the federation's figures, from the sums over all silos."""
        for name, sums in self.totals.items():
            self.tell(GLOBAL, name, sums)

    def tell(self, party: str, name: str, sums: torch.Tensor) -> None:
        trained = name in ("train_loss", "update_norm")
        self.ctx.tell(party, name, self._value(name, sums), self.ctx.step.round if trained else self.round)

    def _value(self, name: str, sums: torch.Tensor) -> float:
        metric = self.ctx.task.metrics.get(name.removeprefix(PERSONAL))
        return metric.value(sums) if metric else ratio(sums)
