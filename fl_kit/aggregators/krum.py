"""Krum and Multi-Krum: the update that has the closest company.

Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", arXiv 1703.02757.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from fl_kit.aggregators.blocks import groups_coordinate_wise, mean_of, median, squared_distances
from fl_kit.aggregators.robust import Robust, check_whole
from fl_kit.messages import Update
from fl_kit.protocols import Context


@dataclass(frozen=True, kw_only=True)
class Krum(Robust):
    """The update with the least score, or the plain mean of the `select` least (Multi-Krum).

        score(k) = Σ ‖delta_k − delta_j‖² over the n − bad − 2 updates j that are closest to k

    bad     how many silos may be bad, at least 0; the paper's f
    select  how many updates are averaged, at least 1; the paper's m, and 1 is Krum

    Of equal scores the first in silo order is taken. Extra groups (buffers) are combined by their coordinate-wise
    median over all updates: a silo may have an inconspicuous delta and lie in its buffers.

    Breakdown: with n ≥ 2·bad + 3 and at most `bad` bad silos, among the closest of each update are honest ones, and
    those of an honest one may all be: so what is selected lies as near to honest updates as they to one another.
    bad + 2 silos of 2·bad + 3 that send the same have only one another as their closest, score 0 and move it
    anywhere. The paper's proof ends at select = n − bad − 2. Raises IncompatibleError for a setting out of its range,
    QuorumLost where fewer updates arrive.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), aggregator=Krum(bad=1, select=3), rounds=20)
    """

    bad: int = 1
    select: int = 1

    def __post_init__(self) -> None:
        check_whole(self, "bad", 0)
        check_whole(self, "select", 1)

    @property
    def needs(self) -> int:
        """The larger of 2·bad + 3 and select + bad + 2."""
        return max(2 * self.bad + 3, self.select + self.bad + 2)

    @property
    def inequality(self) -> str:
        """That of the larger."""
        if self.select <= self.bad + 1:
            return f"n ≥ 2·bad + 3 = {self.needs}"
        return f"n ≥ select + bad + 2 = {self.needs}"

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        found = self.gather(updates, ctx)
        deltas = [update.delta for update in found]
        score = scores(squared_distances(deltas), self.bad)
        least = sorted(range(len(found)), key=score.__getitem__)[: self.select]
        return Update(
            delta=mean_of([deltas[place] for place in sorted(least)]),
            weight=float(self.select),
            extra=groups_coordinate_wise(found, median),
        )


def scores(distances: Tensor, bad: int) -> list[float]:
    """Each update's score, from the (n, n) squared distances.

    At least one other counts, where Bulyan has left fewer than bad + 3.
    """
    closest = max(len(distances) - bad - 2, 1)
    # the first of each row is the update's distance from itself
    found: list[float] = distances.sort(dim=1).values[:, 1 : closest + 1].sum(dim=1).tolist()
    return found
