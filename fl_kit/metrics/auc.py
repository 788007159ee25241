"""The area under the ROC curve from score histograms that add up."""

import math
from dataclasses import dataclass

from torch import Tensor

from fl_kit.metrics.score_histogram import ScoreHistogram


@dataclass(frozen=True, kw_only=True)
class AUC(ScoreHistogram):
    """The ROC AUC of two classes, P(positive scores higher) + ½ P(tie), from one histogram per class.

    bins  how many bins of scores; 1024 bins are 16 kB per silo and round

    Outputs, targets, sums and bins as in `ScoreHistogram`. nan where one class has no rows.

    Two rows in different bins are ordered as their scores are; two in one bin count as a tie, ½
    (Hanley and McNeil 1982, the Wilcoxon statistic; Fawcett 2006, section 4, ties on the ROC curve).
    Their true contribution is 0, ½ or 1, so each such pair is off by at most ½:

        |estimate − exact| ≤ ½ Σ_b p_b n_b / (P N)        p_b of P positives and n_b of N negatives in bin b

    `error_bound` gives that for the sums at hand; it is reached when each bin ranks all of its positives
    on one side. With all scores in different bins the estimate is exact.

    >>> auc = AUC()
    >>> auc.value(auc.sums(torch.tensor([2.0, -1.0, 3.0, 0.0]), torch.tensor([1, 0, 1, 0])))
    1.0
    """

    word = "auc"

    def value(self, sums: Tensor) -> float:
        negative, positive = self.by_class(sums)
        below = negative.cumsum(0) - negative
        return self._share(sums, positive * (below + negative / 2))

    def error_bound(self, sums: Tensor) -> float:
        """How far `value(sums)` may be from the exact AUC of the same rows; nan where that is undefined."""
        negative, positive = self.by_class(sums)
        return self._share(sums, positive * negative / 2)

    def _share(self, sums: Tensor, pairs: Tensor) -> float:
        negative, positive = self.by_class(sums)
        every = float(negative.sum() * positive.sum())
        return float(pairs.sum()) / every if every else math.nan
