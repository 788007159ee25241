"""The mean of updates whose norm is bounded.

Sun et al. 2019, "Can You Really Backdoor Federated Learning?", arXiv 1911.07963, section 3 (norm thresholding).
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fl_kit.aggregators.blocks import groups_coordinate_wise, median, weighted_sum
from fl_kit.aggregators.robust import Robust, check_positive
from fl_kit.messages import Update
from fl_kit.protocols import Context
from fl_kit.tensors import norm


@dataclass(frozen=True, kw_only=True)
class NormBounded(Robust):
    """Σ w_k·delta_k·min(1, bound/‖delta_k‖) / Σ w_k: a mean in which no silo shouts louder than `bound`.

    bound     the largest norm that an update keeps, above 0; None is the median of the round's norms
    weighted  w_k is the number of rows; by default every silo counts alike, since that number is the silo's own word

    Extra groups (buffers) are combined by their coordinate-wise median.

    Breakdown: with a `bound` there is none, the result's norm is at most `bound` whatever all silos send; one of n
    moves it by at most 2·bound/n. With None that holds for fewer than half bad, whose bound is then at most the
    largest honest norm; half of them set it as they like. It limits harm, it does not find liars: small lies in one
    direction add up round by round. Raises IncompatibleError for a bound out of its range.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), aggregator=NormBounded(bound=1.0), rounds=20)
    """

    bound: float | None = None
    weighted: bool = False

    def __post_init__(self) -> None:
        if self.bound is not None:
            check_positive(self, "bound")

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        found = self.gather(updates, ctx)
        weights = [update.weight if self.weighted else 1.0 for update in found]
        total, kept = sum(weights), self.kept(found)
        shares = [weight * share / total for weight, share in zip(weights, kept, strict=True)]
        return Update(
            delta=weighted_sum([update.delta for update in found], shares),
            weight=total,
            extra=groups_coordinate_wise(found, median),
        )

    def kept(self, updates: Sequence[Update]) -> list[float]:
        """The share of its length that each update keeps."""
        norms = [norm(update.delta[name] for name in sorted(update.delta)) for update in updates]
        bound = statistics.median(norms) if self.bound is None else self.bound
        return [min(1.0, bound / length) if length else 1.0 for length in norms]
