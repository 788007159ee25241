"""Bulyan: Krum chooses, then only what lies close to the median in each coordinate counts.

El Mhamdi et al. 2018, "The Hidden Vulnerability of Distributed Learning in Byzantium", arXiv 1802.07927, section 4.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fl_kit.aggregators.blocks import coordinate_wise, groups_coordinate_wise, in_order, median, squared_distances
from fl_kit.aggregators.krum import scores
from fl_kit.aggregators.robust import Robust, check_whole
from fl_kit.messages import Update
from fl_kit.protocols import Context


@dataclass(frozen=True, kw_only=True)
class Bulyan(Robust):
    """θ = n − 2·bad updates are chosen by Krum; in each coordinate the θ − 2·bad closest to their median are averaged.

    Krum chooses one update after another, each among those that are left. So a lie that hides in a few coordinates,
    where the distance of a whole model does not show it, is cut off too.

    bad  how many silos may be bad, at least 0; the paper's f. 0 is the plain mean

    Of equal scores the first in silo order is taken, of two values as far from the median the smaller. Extra groups
    (buffers) are combined by their coordinate-wise median over all updates.

    Breakdown: with n ≥ 4·bad + 3 and at most `bad` bad silos every coordinate stays within the honest ones' range,
    widened by its width at either end: what is averaged lies no farther from the median than an honest value does.
    Where most silos are bad they are most of the chosen, and move it anywhere. Raises IncompatibleError for a setting
    out of its range, QuorumLost where fewer updates arrive.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), aggregator=Bulyan(bad=1), rounds=20)
    """

    bad: int = 1

    def __post_init__(self) -> None:
        check_whole(self, "bad", 0)

    @property
    def needs(self) -> int:
        """4·bad + 3."""
        return 4 * self.bad + 3

    @property
    def inequality(self) -> str:
        """The same as an inequality."""
        return f"n ≥ 4·bad + 3 = {self.needs}"

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        found = self.gather(updates, ctx)
        deltas = [update.delta for update in found]
        chosen = [deltas[place] for place in self.chosen(squared_distances(deltas))]
        return Update(
            delta=coordinate_wise(chosen, self.middle),
            weight=float(len(chosen)),
            extra=groups_coordinate_wise(found, median),
        )

    def chosen(self, distances: Tensor) -> list[int]:
        """The places of the n − 2·bad updates that Krum chooses one after another, in silo order."""
        left = list(range(len(distances)))
        for _ in range(len(distances) - 2 * self.bad):
            score = scores(distances[left][:, left], self.bad)
            del left[score.index(min(score))]
        return [place for place in range(len(distances)) if place not in left]

    def middle(self, block: Tensor) -> Tensor:
        """The mean of the values closest to the median, for each column.

        In ascending order they stand side by side; `start` is where: a step further for each value below that is
        farther away than the one above which would take its place.
        """
        rows, centre, count = in_order(block), median(block), len(block) - 2 * self.bad
        start = torch.zeros_like(centre, dtype=torch.int64)
        for lowest in range(len(rows) - count):
            start += rows[lowest + count] - centre < centre - rows[lowest]
        total = torch.zeros_like(centre)
        for place, row in enumerate(rows):
            total += torch.where((place >= start) & (place < start + count), row, 0.0)
        return total / count
