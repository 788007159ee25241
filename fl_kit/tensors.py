"""Named tensors and the little algebra that federated learning needs of them."""

import hashlib
import math
from collections.abc import Iterable
from typing import TypeAlias

import torch
from torch import Tensor

Tensors: TypeAlias = dict[str, Tensor]
"""Name → tensor: parameters, updates, a strategy's memory."""


def subtract(left: Tensors, right: Tensors) -> Tensors:
    """`left − right` for every name of `left`."""
    return {name: value - right[name] for name, value in left.items()}


def norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm over all floating tensors together; nan or inf if any value is."""
    floating = [t for t in tensors if t.is_floating_point()]
    if not floating:
        return 0.0
    wide = [t if t.element_size() >= 4 else t.float() for t in floating]  # float16 holds no norm above 65,504
    return math.hypot(*torch.stack(torch._foreach_norm(wide)).tolist())


def accumulator(value: Tensor) -> torch.dtype:
    """The dtype in which values like this one are summed: at least float32; float64 for integers."""
    if not value.is_floating_point():
        return torch.float64
    return torch.promote_types(value.dtype, torch.float32)


class WeightedSum:
    """A running Σ weight·value over named tensors, in the order in which they are added.

    Sums are kept in float32 for float32 and narrower tensors, in float64 for float64 and integers.
    Only one copy of the tensors is held, however many are added.
    """

    def __init__(self) -> None:
        self.sums: Tensors = {}
        self.weight = 0.0

    def add(self, values: Tensors, weight: float) -> None:
        """Add `weight·values`; names must be the same each time."""
        self.weight += weight
        if not self.sums:
            self.sums = {name: value.to(accumulator(value)) * weight for name, value in values.items()}
            return
        sums = [self.sums[name] for name in values]
        added = [
            value if value.dtype == s.dtype else value.to(s.dtype)
            for s, value in zip(sums, values.values(), strict=True)
        ]
        if added:
            torch._foreach_add_(sums, added, alpha=weight)

    def mean(self) -> Tensors:
        """Σ weight·value / Σ weight; uses up the sums."""
        sums, self.sums = self.sums, {}
        if sums:
            torch._foreach_mul_(list(sums.values()), 1.0 / self.weight)
        return sums


def cast_like(value: Tensor, like: Tensor) -> Tensor:
    """`value` in the dtype of `like`; integers are rounded to the nearest."""
    if value.dtype == like.dtype:
        return value
    return value.to(like.dtype) if like.is_floating_point() else value.round().to(like.dtype)


def add_scaled(start: Tensors, step: Tensors, scale: float = 1.0) -> Tensors:
    """`start + scale·step` in the dtypes of `start`; names absent from `step` are carried over unchanged."""
    moved = dict(start)
    for name, value in step.items():
        origin = start[name]
        if value.dtype == origin.dtype:
            moved[name] = torch.add(origin, value, alpha=scale)
        else:
            moved[name] = cast_like(torch.add(origin.to(value.dtype), value, alpha=scale), origin)
    return moved


def digest(tensors: Tensors) -> str:
    """The sha256 of names, dtypes, shapes and bytes, in name order: equal exactly when the bits are."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
