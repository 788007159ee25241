"""What a metric is, and the checks that all of them share."""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from fl_kit.errors import TaskError

Better = Literal["higher", "lower"]


class Metric(Protocol):
    """Sums that add up over batches and silos, and the formula that turns them into the value.

    The federation's value is `value(Σ sums)`, which is the value on the pooled rows. Counts are whole
    numbers in float64, so they add without rounding up to 2**53. A metric whose sums are sums over rows may also
    have `row_sums(outputs, targets)`, (rows, sums): those of many silos' rows are then taken in one go.

    >>> auc = AUC()
    >>> halves = [auc.sums(torch.tensor(outputs), torch.tensor([0, 1])) for outputs in ([-1.0, 1.0], [-2.0, 3.0])]
    >>> auc.value(halves[0] + halves[1])
    1.0
    """

    @property
    def name(self) -> str:
        """The key under which the value is recorded; unique within a task."""
        ...

    @property
    def better(self) -> Better:
        """Whether a higher or a lower value is better."""
        ...

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums of one batch: 1-D, float64, on the CPU, of one length for one task.

        Raises TaskError for outputs and targets that do not fit together.
        """
        ...

    def value(self, sums: Tensor) -> float:
        """The formula; nan where it is undefined, such as for no rows (all zeros, or no sums at all)."""
        ...


def ratio(sums: Tensor) -> float:
    """`sums[0] / sums[1]`: the mean behind every (Σ value, count); nan for a count of 0 or no sums.

    >>> ratio(torch.tensor([1.0, 4.0]))
    0.25
    """
    if not sums.numel():
        return math.nan
    total, count = sums.tolist()
    return float(total / count) if count else math.nan


def column(values: Tensor) -> Tensor:
    """`(N, 1)` as `(N,)`, so that the two never broadcast to `(N, N)`; anything else as it is."""
    return values.squeeze(1) if values.ndim == 2 and values.shape[1] == 1 else values


def local(values: Tensor) -> Tensor:
    """The values on the CPU in float64, free of autograd (some devices have no float64)."""
    return values.detach().cpu().to(torch.float64)


def mismatch(name: str, why: str, outputs: Tensor, targets: Tensor) -> TaskError:
    """The error of a metric whose outputs and targets do not fit together."""
    shapes = f"outputs have the shape {tuple(outputs.shape)}, targets {tuple(targets.shape)}"
    return TaskError(f"metric {name!r}: {why}; {shapes}")


def check_tensors(name: str, outputs: object, targets: object) -> None:
    """Raises TaskError unless both are tensors."""
    for word, found in (("outputs", outputs), ("targets", targets)):
        if not isinstance(found, Tensor):
            raise TaskError(f"metric {name!r}: {word} must be a tensor, found {type(found).__name__}")
