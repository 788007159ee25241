"""What a task's `data(folder, split)` may return, as batches on a device."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from fl_kit.errors import TaskError

EVALUATION_BATCH = 128
"""Rows per batch in evaluation: large enough for tables, small enough for a CPU's cache with images."""


class Rows(ABC):
    """One silo's rows of one split: `len(rows)` of them, and batches in any order.

    raw  what the task's `data` returned, for a task that brings its own `fit`
    """

    raw: Any

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Any, Any]]:
        """(inputs, targets) of at most `size` rows each; `order` is a permutation of the rows."""


class TensorRows(Rows):
    """Rows in tensors, moved to the device once."""

    def __init__(self, raw: Any, inputs: Any, targets: Tensor, device: torch.device) -> None:
        self.raw = raw
        self.inputs = move(inputs, device)
        self.targets = targets.to(device)

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Any, Any]]:
        if order is not None:
            order = order.to(self.targets.device)
        for first in range(0, len(self), size):
            rows = slice(first, first + size) if order is None else order[first : first + size]
            yield pick(self.inputs, rows), self.targets[rows]


class DatasetRows(Rows):
    """Rows of a map-style Dataset, loaded batch by batch."""

    def __init__(self, dataset: Dataset[Any], device: torch.device) -> None:
        self.raw = dataset
        self.device = device

    def __len__(self) -> int:
        return len(self.raw)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Any, Any]]:
        rows: Sequence[int] = range(len(self)) if order is None else order.tolist()
        # the loader draws a number at each start; from the global generator if it is given none
        loader = DataLoader(self.raw, batch_size=size, sampler=rows, generator=torch.Generator())
        for batch in loader:
            inputs, targets = split_batch(batch)
            yield move(inputs, self.device), move(targets, self.device)


def rows_from(found: Any, device: torch.device, where: str) -> Rows:
    """Rows from what `data` returned; `where` names silo and split in a TaskError.

    Accepts (inputs, targets) of tensors or NumPy arrays, where inputs may be a tuple or dict of them, or a
    map-style Dataset of such pairs.
    """
    if isinstance(found, TensorDataset) and len(found.tensors) == 2:
        return tensor_rows(found, found.tensors[0], found.tensors[1], device, where)
    if isinstance(found, IterableDataset):
        raise TaskError(
            f"{where}: data() gave an IterableDataset, whose rows cannot be counted; return a map-style one"
        )
    if isinstance(found, Dataset):
        if not hasattr(found, "__len__"):
            raise TaskError(f"{where}: data() gave the Dataset {describe(found)}, which has no __len__; define it")
        return DatasetRows(found, device)
    if isinstance(found, tuple | list) and len(found) == 2:
        return tensor_rows(found, found[0], found[1], device, where)
    raise TaskError(
        f"{where}: data() gave {describe(found)}; "
        "return (inputs, targets) as tensors or arrays, or a Dataset of such pairs"
    )


def tensor_rows(raw: Any, inputs: Any, targets: Any, device: torch.device, where: str) -> TensorRows:
    inputs, targets = to_tensors(inputs, where), to_tensors(targets, where)
    if not isinstance(targets, Tensor) or targets.ndim == 0:
        raise TaskError(f"{where}: the targets are {describe(targets)}; return one tensor with a row for each example")
    for value in leaves(inputs):
        if value.ndim == 0 or len(value) != len(targets):
            raise TaskError(
                f"{where}: inputs of shape {tuple(value.shape)} with {len(targets)} targets; both need as many rows"
            )
    return TensorRows(raw, inputs, targets, device)


def to_tensors(value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        return {key: to_tensors(item, where) for key, item in value.items()}
    if isinstance(value, tuple | list) and value and not isinstance(value[0], int | float):
        return tuple(to_tensors(item, where) for item in value)
    if hasattr(value, "__array__"):
        try:
            # a copy where torch would complain: read-only arrays (as pandas gives them), negative strides
            return torch.from_numpy(np.require(value, requirements=["C", "W"]))
        except (TypeError, ValueError) as error:
            raise TaskError(f"{where}: {describe(value)} of {np.asarray(value).dtype} is no tensor: {error}") from error
    raise TaskError(f"{where}: data() gave {describe(value)} where a tensor was expected")


def leaves(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)


def move(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: move(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(move(item, device) for item in value)
    return value


def pick(value: Any, rows: Any) -> Any:
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, dict):
        return {key: pick(item, rows) for key, item in value.items()}
    return tuple(pick(item, rows) for item in value)


def split_batch(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    raise TaskError(f"an item of the Dataset is {describe(batch)}; each must be a pair (input, target)")


def call(module: Any, inputs: Any) -> Any:
    """The model on a batch: a tuple as arguments, a dict as named arguments."""
    if isinstance(inputs, dict):
        return module(**inputs)
    if isinstance(inputs, tuple):
        return module(*inputs)
    return module(inputs)


def describe(value: Any) -> str:
    kind = type(value).__name__
    return f"{kind} of length {len(value)}" if isinstance(value, tuple | list) else kind
