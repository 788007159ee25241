"""The loss of many silos' batches at once: one number a silo, each the mean over its own rows."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

RowLosses = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) → the loss of each row, whose plain mean over a batch is the batch's loss."""

BY_VALUE = (
    nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss, nn.BCELoss, nn.PoissonNLLLoss,
    nn.SoftMarginLoss,
)  # fmt: skip
"""torch's losses whose mean is one over all values."""


def row_losses(loss: Any, outputs: Any, targets: Tensor) -> RowLosses | None:
    """The loss row by row, for these targets; None where a batch's loss is no mean of its rows' losses.

    outputs  of some row or rows, (rows, …): their shape counts
    """
    kind, weight = type(loss), getattr(loss, "weight", None)
    if not isinstance(outputs, Tensor) or getattr(loss, "reduction", None) != "mean" or weight is not None:
        return None
    if kind in (nn.CrossEntropyLoss, nn.NLLLoss):
        if outputs.ndim < 2 or (not targets.is_floating_point() and bool((targets == loss.ignore_index).any())):
            return None  # rows that are ignored do not count in the mean
    elif kind not in BY_VALUE or outputs.shape[1:] != targets.shape[1:]:
        return None
    each = copy.copy(loss)
    each.reduction = "none"
    return lambda outputs, targets: flat_mean(each(outputs, targets))


def flat_mean(values: Tensor) -> Tensor:
    """The mean of each row's values."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values


class SilosLoss:
    """(outputs, targets, counts) → one loss a silo, from (silos, rows, …).

    pads  whether it can leave out the rows beyond a silo's count, as a shorter batch has them

    An unknown loss is called under vmap, batch by batch.
    """

    def __init__(self, loss: Any, rows: RowLosses | None, targets: Tensor) -> None:
        self._loss = loss
        self._rows = rows
        self._together = vmap(loss)
        ignoring = type(loss) in (nn.CrossEntropyLoss, nn.NLLLoss) and loss.reduction == "mean"
        self._ignore = loss.ignore_index if ignoring and not targets.is_floating_point() else None
        self.pads = rows is not None or self._ignore is not None

    def __call__(self, outputs: Any, targets: Tensor, present: Tensor | None) -> Tensor:
        """Each silo's loss; `present`, (silos, rows), says which of the rows count, None that all do."""
        if self._rows is not None:
            silos, size = targets.shape[:2]
            each = self._rows(outputs.flatten(0, 1), targets.flatten(0, 1)).view(silos, size)
            if present is None:
                return each.mean(1)
            share = present.to(each.dtype)
            return (each * (share / share.sum(1, keepdim=True))).sum(1)
        if present is not None:
            assert self._ignore is not None
            absent = ~present.view(*present.shape, *(1,) * (targets.ndim - 2))
            targets = targets.masked_fill(absent, self._ignore)
        value = self._together(outputs, targets)
        if not isinstance(value, Tensor) or value.ndim != 1:
            raise TypeError("the loss gives no scalar tensor")
        return value


def summed(losses: Tensor) -> Tensor:
    """The gradient of the sum to each of them: silos' losses are independent of one another."""
    return torch.ones_like(losses)
