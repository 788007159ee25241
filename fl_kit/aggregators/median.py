"""The coordinate-wise median.

Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", arXiv 1803.01498,
Algorithm 1, option I.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from fl_kit.aggregators.blocks import coordinate_wise, groups_coordinate_wise, median
from fl_kit.aggregators.robust import Robust
from fl_kit.messages import Update
from fl_kit.protocols import Context


@dataclass(frozen=True, kw_only=True)
class Median(Robust):
    """The median of the updates in every coordinate, of `delta` and of every extra group alike.

    Of an even number it is the mean of the two in the middle, so of one or two updates it is their plain mean.

    Breakdown point ½: with fewer than half of the silos bad, every coordinate stays within the honest ones' range;
    half of them move it anywhere. Not a mean: with honest silos of different data it favours what most of them have.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), aggregator=Median(), rounds=20)
    """

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        found = self.gather(updates, ctx)
        return Update(
            delta=coordinate_wise([update.delta for update in found], median),
            weight=float(len(found)),
            extra=groups_coordinate_wise(found, median),
        )
