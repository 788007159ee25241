"""The area under the ROC curve from score histograms that add up."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fl_kit.errors import TaskError
from fl_kit.metrics.base import Better
from fl_kit.metrics.classification import binary_logits, class_indices


@dataclass(frozen=True, kw_only=True)
class AUC:
    """The ROC AUC of two classes, P(positive scores higher) + ½ P(tie), from one histogram per class.

    bins  how many bins of scores; 1024 bins are 16 kB per silo and round

    Outputs are logits `(N,)`, `(N, 1)` or `(N, 2)`; targets 0 or 1, `(N,)` or `(N, 1)`, of any dtype.
    Sums: negatives per bin, then positives per bin. nan where one class has no rows.

    Two rows in different bins are ordered as their scores are; two in one bin count as a tie, ½
    (Hanley and McNeil 1982, the Wilcoxon statistic; Fawcett 2006, section 4, ties on the ROC curve).
    Their true contribution is 0, ½ or 1, so each such pair is off by at most ½:

        |estimate − exact| ≤ ½ Σ_b p_b n_b / (P N)        p_b of P positives and n_b of N negatives in bin b

    `error_bound` gives that for the sums at hand; it is reached when each bin ranks all of its positives
    on one side. With all scores in different bins the estimate is exact.

    Bins have equal width in z / (1 + |z|), z the logit: as fine as equal steps of the sigmoid around 0,
    but the tails fade with 1/z² instead of exp(−|z|). Trained logits live there (a rare class near −8, an
    overfitted model near ±15), where 1024 equal steps of the sigmoid put most rows into the last bin.
    The bins are fixed, so no silo must tell its range of scores before.
    """

    bins: int = 1024
    better: ClassVar[Better] = "higher"

    def __post_init__(self) -> None:
        if type(self.bins) is not int or self.bins < 2:
            raise TaskError(f"metric 'auc': bins must be a whole number from 2, found {self.bins!r}")

    @property
    def name(self) -> str:
        return "auc"

    def edges(self) -> Tensor:
        """The `bins − 1` logits between the bins, ascending, float64."""
        steps = 2 * torch.arange(1, self.bins, dtype=torch.float64) / self.bins - 1
        return steps / (1 - steps.abs())

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits = binary_logits(self.name, outputs, targets)
        actual = class_indices(self.name, outputs, targets, 2)
        # Compared with the edges, not computed from the logit: rounding cannot put a higher logit in a lower bin.
        place = torch.bucketize(logits, self.edges())
        return torch.bincount(place + self.bins * actual, minlength=2 * self.bins).to(torch.float64)

    def value(self, sums: Tensor) -> float:
        negative, positive = sums.reshape(2, len(sums) // 2)
        below = negative.cumsum(0) - negative
        return self._share(sums, positive * (below + negative / 2))

    def error_bound(self, sums: Tensor) -> float:
        """How far `value(sums)` may be from the exact AUC of the same rows; nan where that is undefined."""
        negative, positive = sums.reshape(2, len(sums) // 2)
        return self._share(sums, positive * negative / 2)

    @staticmethod
    def _share(sums: Tensor, pairs: Tensor) -> float:
        negative, positive = sums.reshape(2, len(sums) // 2)
        every = float(negative.sum() * positive.sum())
        return float(pairs.sum()) / every if every else math.nan
