"""Average precision from score histograms that add up: the measure for a rare class."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fl_kit.metrics.score_histogram import ScoreHistogram


@dataclass(frozen=True, kw_only=True)
class AveragePrecision(ScoreHistogram):
    """The mean, over the positives, of the precision at each one's score: the area under the precision–recall curve.

    bins  how many bins of scores; 1024 bins are 16 kB per silo and round

    Outputs, targets, sums and bins as in `ScoreHistogram`. A random order scores the share of positives, a perfect one
    1; nan where there are no positives. Where few rows are positive it tells models apart that ROC AUC does not
    (Davis and Goadrich 2006), since a false alarm counts among the alarms, not among the many negatives.

        Σ_b (p_b / P) · TP_b / (TP_b + FP_b)        TP_b, FP_b the positives and negatives in bin b and above

    That is the step rule Σ (R_k − R_{k−1}) P_k, without interpolation (as scikit-learn's average_precision_score), with
    the bins as thresholds; rows in one bin count as tied. `bounds` tells where the exact value of the same rows lies.
    With all scores in different bins the estimate is exact.

    >>> precision = AveragePrecision()
    >>> precision.value(precision.sums(torch.tensor([2.0, -1.0, 3.0, 0.0]), torch.tensor([1, 0, 1, 0])))
    1.0
    """

    word = "average_precision"

    def value(self, sums: Tensor) -> float:
        above_n, n, above_p, p = self._from_the_top(sums)
        found, alarms = above_p + p, above_p + p + above_n + n
        return self._mean(p, p * found / alarms.clamp(min=1))

    def bounds(self, sums: Tensor) -> tuple[float, float]:
        """The least and the greatest average precision that rows with these sums can have; nan where undefined.

        Least: in each bin the negatives come first, then the positives one by one. The i-th of them has the precision
        (a + i) / (a + i + f), a the positives above and f the negatives above and in the bin; over i = 1 … p that
        sums to p − f (ψ(a + p + f + 1) − ψ(a + f + 1)), ψ the digamma function. Greatest: in each bin the positives
        come first, tied.
        """
        above_n, n, above_p, p = self._from_the_top(sums)
        false = above_n + n
        steps = torch.digamma(above_p + p + false + 1) - torch.digamma(above_p + false + 1)
        most = p * (above_p + p) / (above_p + p + above_n).clamp(min=1)
        return self._mean(p, p - false * steps), self._mean(p, most)

    def _from_the_top(self, sums: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Negatives above each bin and in it, positives above it and in it, by descending score."""
        negative, positive = (counts.flip(0) for counts in self.by_class(sums))
        return negative.cumsum(0) - negative, negative, positive.cumsum(0) - positive, positive

    @staticmethod
    def _mean(positive: Tensor, precisions: Tensor) -> float:
        every = float(positive.sum())
        return float(precisions.sum()) / every if every else math.nan
