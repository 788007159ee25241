"""Many silos' rows in one tensor, and which of them make up each silo's batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fl_kit.batches import Rows, TensorRows, leaves, pick
from sim.engines.stacked.reasons import Unstackable

Order = tuple[Tensor | None, int]
"""The order of a silo's rows in one epoch, and how many batches of it are taken."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Silos' rows, one silo after the other.

    sizes  rows of each silo
    form   what their rows have in common: shapes and dtypes
    """

    inputs: Any
    targets: Tensor
    sizes: tuple[int, ...]
    form: Any

    @classmethod
    def of(cls, silos: Sequence[tuple[str, Rows]]) -> "Packed":
        """Raises Unstackable for rows that are not in tensors, or not of one form."""
        for name, rows in silos:
            if not isinstance(rows, TensorRows):
                raise Unstackable(f"the rows of {name} come from a Dataset, batch by batch")
        found = [rows for _, rows in silos if isinstance(rows, TensorRows)]
        first = form(found[0])
        for (name, _), rows in zip(silos, found, strict=True):
            if form(rows) != first:
                raise Unstackable(f"the rows of {name} have another form than those of {silos[0][0]}")
        return cls(
            inputs=joined([rows.inputs for rows in found]),
            targets=torch.cat([rows.targets for rows in found]),
            sizes=tuple(map(len, found)),
            form=first,
        )

    @cached_property
    def first(self) -> Tensor:
        """Where each silo's rows begin."""
        return torch.tensor([0, *self.sizes[:-1]]).cumsum(0)

    def slices(self) -> Iterator[slice]:
        """Each silo's rows."""
        begin = 0
        for size in self.sizes:
            yield slice(begin, begin + size)
            begin += size

    def at(self, rows: Tensor) -> tuple[Any, Tensor]:
        """Inputs and targets (silos, rows, …) of these row numbers (silos, rows)."""
        flat = rows.flatten().to(self.targets.device)
        return shaped(pick(self.inputs, flat), rows.shape), shaped(self.targets[flat], rows.shape)


def form(rows: TensorRows) -> Any:
    """What rows must share to lie in one tensor."""
    return tree(rows.inputs), rows.targets.shape[1:], rows.targets.dtype


def tree(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape[1:], value.dtype
    if isinstance(value, dict):
        return tuple((key, tree(item)) for key, item in value.items())
    return tuple(tree(item) for item in value)


def joined(values: Sequence[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values))
    if isinstance(first, dict):
        return {key: joined([value[key] for value in values]) for key in first}
    return tuple(joined(parts) for parts in zip(*values, strict=True))


def shaped(value: Any, shape: torch.Size) -> Any:
    if isinstance(value, Tensor):
        return value.view(*shape, *value.shape[1:])
    if isinstance(value, dict):
        return {key: shaped(item, shape) for key, item in value.items()}
    return tuple(shaped(item, shape) for item in value)


def bytes_of(rows: TensorRows) -> int:
    """The memory of all rows."""
    return sum(value.numel() * value.element_size() for value in (*leaves(rows.inputs), rows.targets))


@dataclass(frozen=True, kw_only=True)
class Batches:
    """The batches of a silo's training, as numbers of its rows.

    rows    (steps, rows); a shorter batch is filled up with its own last row
    counts  (steps,): how many of them count
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, size: int, batch_size: int, orders: Sequence[Order]) -> "Batches":
        """Those of a silo with so many rows, from the orders of its epochs."""
        rows, counts = epoch_of(size, batch_size)
        taken = [(rows if order is None else order.numpy()[rows])[:steps] for order, steps in orders]
        return cls(rows=np.concatenate(taken), counts=np.concatenate([counts[:steps] for _, steps in orders]))


@cache
def epoch_of(size: int, batch_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The batches of one epoch over so many rows in their order, (steps, rows), and how many rows of each count."""
    width, steps = min(size, batch_size), -(-size // batch_size)
    rows = np.minimum(np.arange(steps * width), size - 1).reshape(steps, width)
    counts = np.full(steps, width)
    counts[-1] -= steps * width - size
    return rows, counts


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The batches of many silos, step by step: those with the most steps first, so that who goes on comes first.

    places  where each silo of the schedule stands among those that were given
    rows    (steps, silos, rows), numbers in a `Packed`
    counts  (steps, silos); 0 where a silo has no more steps
    active  so many silos go on at each step
    """

    places: tuple[int, ...]
    rows: Tensor
    counts: Tensor
    active: tuple[int, ...]

    @classmethod
    def of(cls, batches: Sequence[Batches], first: Tensor) -> "Schedule":
        places = sorted(range(len(batches)), key=lambda k: -len(batches[k].counts))
        steps, width = len(batches[places[0]].counts), max(each.rows.shape[1] for each in batches)
        rows = np.zeros((steps, len(batches), width), dtype=np.int64)
        counts = np.zeros((steps, len(batches)), dtype=np.int64)
        for at, k in enumerate(places):
            each = batches[k]
            taken, own = each.rows.shape
            rows[:taken, at, :own] = each.rows
            rows[:taken, at, own:] = each.rows[:, -1:]
            rows[:taken, at] += int(first[k])
            counts[:taken, at] = each.counts
        return cls(
            places=tuple(places),
            rows=torch.from_numpy(rows),
            counts=torch.from_numpy(counts),
            active=tuple((counts > 0).sum(1).tolist()),
        )
