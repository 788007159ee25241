"""The coordinate-wise trimmed mean.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", arXiv 1803.01498,
Algorithm 1, option II.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from fl_kit.aggregators.blocks import coordinate_wise, groups_coordinate_wise, in_order
from fl_kit.aggregators.robust import Robust
from fl_kit.errors import IncompatibleError
from fl_kit.messages import Update
from fl_kit.protocols import Context

ROUNDING = 1e-9
"""0.07 · 100 is a little more than 7 in floating point, and means 7."""


@dataclass(frozen=True, kw_only=True)
class TrimmedMean(Robust):
    """In every coordinate the mean without the k largest and the k smallest, of `delta` and every extra group alike.

    trim  the share of silos cut off at each end, 0 ≤ trim < ½; the paper's β. k = ⌈trim·n⌉, yet at most (n − 1)//2,
          so that something is left. 0 is the plain mean

    Breakdown point `trim`: with at most k bad silos every coordinate stays within the honest ones' range; k + 1
    move it anywhere. Raises IncompatibleError for a share out of its range.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), aggregator=TrimmedMean(trim=0.25), rounds=20)
    """

    trim: float = 0.2

    def __post_init__(self) -> None:
        trim: object = self.trim  # from a file it may be anything
        if not (isinstance(trim, int | float) and 0 <= trim < 0.5):
            raise IncompatibleError(f"TrimmedMean(trim={trim!r}): must be a share of at least 0 and below 0.5")

    def cut(self, count: int) -> int:
        """How many of `count` values are cut off at each end."""
        return min(math.ceil(self.trim * count - ROUNDING), (count - 1) // 2)

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        found = self.gather(updates, ctx)
        return Update(
            delta=coordinate_wise([update.delta for update in found], self.trimmed),
            weight=float(len(found)),
            extra=groups_coordinate_wise(found, self.trimmed),
        )

    def trimmed(self, block: Tensor) -> Tensor:
        """The trimmed mean of each column; summed in ascending order, whichever silo sent what."""
        cut = self.cut(len(block))
        first, *others = in_order(block)[cut : len(block) - cut]
        for row in others:
            first += row
        return first / (1 + len(others))
