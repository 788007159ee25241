"""What metrics that rank rows share: a histogram of scores for each of two classes, which adds up."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fl_kit.errors import TaskError
from fl_kit.metrics.base import Better
from fl_kit.metrics.classification import binary_logits, class_indices


@dataclass(frozen=True, kw_only=True)
class ScoreHistogram:
    """The rows of each of two classes by their score, in bins that are the same for every silo.

    bins  how many bins of scores; 1024 bins are 16 kB per silo and round

    Outputs are logits `(N,)`, `(N, 1)` or `(N, 2)`; targets 0 or 1, `(N,)` or `(N, 1)`, of any dtype.
    Sums: negatives per bin, then positives per bin.

    Bins have equal width in z / (1 + |z|), z the logit: as fine as equal steps of the sigmoid around 0,
    but the tails fade with 1/z² instead of exp(−|z|). Trained logits live there (a rare class near −8, an
    overfitted model near ±15), where 1024 equal steps of the sigmoid put most rows into the last bin.
    The bins are fixed, so no silo must tell its range of scores before.
    """

    bins: int = 1024
    better: ClassVar[Better] = "higher"
    word: ClassVar[str]

    def __post_init__(self) -> None:
        if type(self.bins) is not int or self.bins < 2:
            raise TaskError(f"metric {self.word!r}: bins must be a whole number from 2, found {self.bins!r}")

    @property
    def name(self) -> str:
        return self.word

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

    @staticmethod
    def by_class(sums: Tensor) -> tuple[Tensor, Tensor]:
        """Negatives and positives per bin, by ascending score."""
        negative, positive = sums.reshape(2, len(sums) // 2)
        return negative, positive
