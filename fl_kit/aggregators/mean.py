"""The weighted mean."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fl_kit.errors import QuorumLost
from fl_kit.messages import Update
from fl_kit.protocols import Context
from fl_kit.tensors import WeightedSum


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Σ weight·delta / Σ weight: two sums, taken one update at a time in silo order.

    weighted  by the number of training rows (the default: then one full-batch step is centralised SGD),
              or every silo alike

    Breakdown point 0: a single silo can move it anywhere. Holds one model however many silos there are.
    Raises QuorumLost if no update arrives, or if all weights are zero.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), aggregator=Mean(weighted=False), rounds=20)
    """

    weighted: bool = True
    inspects_individuals: ClassVar[bool] = False
    is_mean: ClassVar[bool] = True

    def check(self, silos: Sequence[str], *, drawn: int, least: int) -> None:
        """Any silos will do."""

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        delta = WeightedSum()
        extra: dict[str, WeightedSum] = {}
        for update in updates:
            weight = update.weight if self.weighted else 1.0
            delta.add(update.delta, weight)
            for group, tensors in update.extra.items():
                extra.setdefault(group, WeightedSum()).add(tensors, weight)
            del update  # or it would live on while the next silo trains
        if not delta.weight > 0:
            raise QuorumLost("no silo delivered an update that counts; there is nothing to average")
        return Update(
            delta=delta.mean(), weight=delta.weight, extra={group: total.mean() for group, total in extra.items()}
        )
