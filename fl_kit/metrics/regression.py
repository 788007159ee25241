"""Squared and absolute errors, R², and the mean of any per-row function."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fl_kit.errors import TaskError
from fl_kit.metrics.base import Better, check_tensors, column, local, mismatch, ratio


def pairs(name: str, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and targets in one shape, float64; `(N, 1)` and `(N,)` are the same.

    Raises TaskError for two shapes, or for values that are not finite.
    """
    check_tensors(name, outputs, targets)
    predicted, actual = local(column(outputs)), local(column(targets))
    if not predicted.ndim or predicted.shape != actual.shape:
        raise mismatch(name, "outputs and targets must have one shape, (N,) or (N, …)", outputs, targets)
    for word, values in (("outputs", predicted), ("targets", actual)):
        if not bool(values.isfinite().all()):
            raise mismatch(name, f"{word} hold nan or inf", outputs, targets)
    return predicted, actual


def row_by_row(errors: Tensor) -> Tensor:
    """Of each row Σ error and how many values it has, (rows, 2)."""
    values = errors.flatten(1) if errors.ndim > 1 else errors[:, None]
    return torch.stack([values.sum(1), torch.full_like(values[:, 0], values.shape[1])], dim=1)


@dataclass(frozen=True, kw_only=True)
class MeanSquaredError:
    """The mean of (output − target)² over all values; outputs and targets `(N,)`, `(N, 1)` or `(N, …)`.

    >>> error = MeanSquaredError()
    >>> error.value(error.sums(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 2.0])))
    2.0
    """

    better: ClassVar[Better] = "lower"

    @property
    def name(self) -> str:
        return "mean_squared_error"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        predicted, actual = pairs(self.name, outputs, targets)
        return torch.stack([(predicted - actual).square().sum(), local(torch.tensor(actual.numel()))])

    def row_sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums of each row, (rows, 2): those of any rows are what these add up to."""
        predicted, actual = pairs(self.name, outputs, targets)
        return row_by_row((predicted - actual).square())

    def value(self, sums: Tensor) -> float:
        return ratio(sums)


@dataclass(frozen=True, kw_only=True)
class MeanAbsoluteError:
    """The mean of |output − target| over all values; outputs and targets `(N,)`, `(N, 1)` or `(N, …)`.

    >>> error = MeanAbsoluteError()
    >>> error.value(error.sums(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 2.0])))
    1.0
    """

    better: ClassVar[Better] = "lower"

    @property
    def name(self) -> str:
        return "mean_absolute_error"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        predicted, actual = pairs(self.name, outputs, targets)
        return torch.stack([(predicted - actual).abs().sum(), local(torch.tensor(actual.numel()))])

    def row_sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums of each row, (rows, 2): those of any rows are what these add up to."""
        predicted, actual = pairs(self.name, outputs, targets)
        return row_by_row((predicted - actual).abs())

    def value(self, sums: Tensor) -> float:
        return ratio(sums)


LOST = 1e-10
"""The share of Σ(y − center)² below which the variance is mostly rounding: fewer than about five digits left."""


@dataclass(frozen=True, kw_only=True)
class R2:
    """The coefficient of determination, 1 − Σ(y − ŷ)² / Σ(y − ȳ)²; outputs ŷ and targets y `(N,)` or `(N, 1)`.

    center  a public value near the mean of the targets, the same for every silo. Sums need Σ(y − ȳ)² as
            Σ(y − center)² − (Σ(y − center))² / n, which cancels where the mean is far from `center`
            compared with the spread: the relative error is some 1e-16 · (1 + ((ȳ − center) / spread)²). Shifting
            by a constant is the remedy that still adds up (Chan, Golub and LeVeque 1983, shifted data).
            With the default 0, 1e-12 holds to a mean of about 30 spreads, 1e-9 to 1000.

    Sums: n, Σ(y − center), Σ(y − center)², Σ(y − ŷ)². nan where the targets do not vary, and where a mean
    beyond 100,000 spreads from `center` left too few digits: then set `center`.

    >>> r2 = R2()
    >>> r2.value(r2.sums(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])))
    1.0
    """

    center: float = 0.0
    better: ClassVar[Better] = "higher"

    def __post_init__(self) -> None:
        if not math.isfinite(self.center):
            raise TaskError(f"metric 'r2': center must be finite, found {self.center}")

    @property
    def name(self) -> str:
        return "r2"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        predicted, actual = pairs(self.name, outputs, targets)
        if actual.ndim != 1:
            raise mismatch(self.name, "outputs and targets must have one column", outputs, targets)
        shifted = actual - self.center
        error = actual - predicted
        return torch.stack(
            [local(torch.tensor(len(actual))), shifted.sum(), shifted.square().sum(), error.square().sum()]
        )

    def value(self, sums: Tensor) -> float:
        if not sums.numel():
            return math.nan
        rows, total, squares, error = sums.tolist()
        spread = squares - total * total / rows if rows else 0.0
        return float(1 - error / spread) if spread > LOST * squares else math.nan


@dataclass(frozen=True, kw_only=True)
class Mean:
    """The mean over rows of `function(outputs, targets)`, which gives one value per row, `(N,)`.

    >>> within_ten = Mean(name="within_10", function=lambda o, t: (o - t).abs() <= 10, better="higher")
    >>> within_ten.value(within_ten.sums(torch.tensor([1.0, 50.0]), torch.tensor([3.0, 3.0])))
    0.5
    """

    name: str
    function: Callable[[Tensor, Tensor], Tensor]
    better: Better = "lower"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        check_tensors(self.name, outputs, targets)
        values: object = self.function(outputs, targets)
        if not isinstance(values, Tensor) or not outputs.ndim or values.shape != outputs.shape[:1]:
            found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise mismatch(
                self.name, f"its function must give one value per row, (N,), found {found}", outputs, targets
            )
        per_row = local(values)
        if not bool(per_row.isfinite().all()):
            raise mismatch(self.name, "its function gave nan or inf", outputs, targets)
        return torch.stack([per_row.sum(), local(torch.tensor(len(per_row)))])

    def value(self, sums: Tensor) -> float:
        return ratio(sums)
