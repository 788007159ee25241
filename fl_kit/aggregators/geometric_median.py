"""The geometric median by the smoothed Weiszfeld algorithm (RFA).

Pillutla et al. 2019, "Robust Aggregation for Federated Learning", arXiv 1912.13445, Algorithm 2.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from fl_kit.aggregators.blocks import coordinate_wise, distances_to, groups_coordinate_wise, median, weighted_sum
from fl_kit.aggregators.robust import Robust, check_positive, check_whole
from fl_kit.messages import Update
from fl_kit.protocols import Context


@dataclass(frozen=True, kw_only=True)
class GeometricMedian(Robust):
    """The point z whose weighted distances Σ α_k·‖z − delta_k‖ add up to the least.

        β_k ← α_k / max(smoothing, ‖z − delta_k‖)
        z   ← Σ β_k·delta_k / Σ β_k               until z moves no more

    smoothing   a distance that counts as none, above 0; the paper's ν
    tolerance   it ends when z moves by at most this share of the median distance, above 0
    iterations  or after so many steps, at least 1; each passes twice over all updates
    weighted    α_k is the number of rows, as in the paper; by default every silo counts alike, since the number of
                rows is the silo's own word

    It starts at the coordinate-wise median, where the paper starts anywhere: so a few far updates cost no steps.
    Extra groups (buffers) are combined by their coordinate-wise median.

    Breakdown point ½: with a share a < ½ of the weight bad, z is no farther than 2r·(1 − a)/(1 − 2a) from any point
    that has all honest updates within r; half of the weight moves z anywhere. Raises IncompatibleError for a setting
    out of its range.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), aggregator=GeometricMedian(), rounds=20)
    """

    smoothing: float = 1e-6
    tolerance: float = 1e-4
    iterations: int = 50
    weighted: bool = False

    def __post_init__(self) -> None:
        check_positive(self, "smoothing")
        check_positive(self, "tolerance")
        check_whole(self, "iterations", 1)

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        found = self.gather(updates, ctx)
        deltas = [update.delta for update in found]
        alpha = torch.tensor([update.weight if self.weighted else 1.0 for update in found], dtype=torch.float64)
        centre = coordinate_wise(deltas, median)
        for _ in range(self.iterations):
            distances, before = distances_to(centre, deltas), centre
            beta = alpha / distances.clamp(min=self.smoothing)
            centre = weighted_sum(deltas, (beta / beta.sum()).tolist())
            if distances_to(before, [centre]) <= self.tolerance * distances.median():
                break
        return Update(delta=centre, weight=float(alpha.sum()), extra=groups_coordinate_wise(found, median))
