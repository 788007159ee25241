"""What a partitioner may be given – a table, arrays or a torch Dataset – as columns and as files.

    DataFrame                      → train.csv, test.csv
    (inputs, targets)              → train.npz, test.npz with the arrays `x` and `y`
    {"x": …, "y": …, "site": …}    → the same with these names; an array of one dimension can be partitioned by
    Dataset of (input, target)     → as (inputs, targets), every item read once

A task reads the arrays with `numpy.load(Path(folder) / f"{split}.npz")`; nothing in them is pickled.
"""

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from sim.partition import folders
from sim.partition.columns import Rows, check_table

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, NDArray[Any]]
"""Columns of a table, or arrays with a row for each example, by name."""

INPUTS, TARGETS = "x", "y"


class Source(ABC):
    """Rows that can be dealt.

    keys    what they can be dealt by: a table with one row for each example
    suffix  of the files that hold them
    """

    keys: "pd.DataFrame"
    suffix: str

    @abstractmethod
    def columns(self, rows: Rows | None = None) -> Columns:
        """The columns, of all rows or of these."""

    @abstractmethod
    def digest(self) -> str:
        """A sha256 of everything in it."""

    @abstractmethod
    def content(self, rows: Rows, changed: Columns, left_out: Collection[str]) -> bytes:
        """The file of these rows, with the changed columns in place of their own."""


@dataclass(frozen=True, kw_only=True)
class TableSource(Source):
    """A DataFrame; its index is not kept, its order is."""

    keys: "pd.DataFrame"
    suffix: str = "csv"

    def columns(self, rows: Rows | None = None) -> Columns:
        frame = self.keys if rows is None else self.keys.iloc[rows]
        return {name: frame[name].to_numpy() for name in frame.columns}

    def digest(self) -> str:
        return folders.sha256(folders.csv_bytes(self.keys))

    def content(self, rows: Rows, changed: Columns, left_out: Collection[str]) -> bytes:
        frame = self.keys.iloc[rows]
        frame = frame.assign(**changed) if changed else frame
        return folders.csv_bytes(frame.drop(columns=list(left_out)))


@dataclass(frozen=True, kw_only=True)
class ArraySource(Source):
    """Arrays with as many rows each."""

    keys: "pd.DataFrame"
    arrays: Columns
    suffix: str = "npz"

    def columns(self, rows: Rows | None = None) -> Columns:
        return self.arrays if rows is None else {name: array[rows] for name, array in self.arrays.items()}

    def digest(self) -> str:
        found = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def content(self, rows: Rows, changed: Columns, left_out: Collection[str]) -> bytes:
        kept = {name: changed.get(name, array[rows]) for name, array in self.arrays.items() if name not in left_out}
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **kept)
        return file.getvalue()


def source_of(data: Any, label: str | None) -> tuple[Source, str | None]:
    """The rows in what the user gave, and their label: `y` where arrays or a Dataset bring targets.

    Raises DataError for anything that has no rows or cannot be written as they are.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        check_table(data)
        return TableSource(keys=data), label
    arrays = check_arrays(arrays_in(data))
    flat = {name: array for name, array in arrays.items() if array.ndim == 1}
    rows = len(next(iter(arrays.values())))
    keys = pd.DataFrame(flat, index=range(rows))
    return ArraySource(keys=keys, arrays=arrays), label or (TARGETS if TARGETS in flat else None)


def arrays_in(data: Any) -> dict[str, Any]:
    """The arrays by name in whatever form they came."""
    from torch.utils.data import Dataset

    if isinstance(data, Mapping):
        return dict(data)
    if isinstance(data, Dataset):
        return arrays_of(data)
    if isinstance(data, tuple) and len(data) == 2:
        return dict(zip((INPUTS, TARGETS), data, strict=True))
    if isinstance(data, np.ndarray):
        return {INPUTS: data}
    raise DataError(
        f"split takes a pandas DataFrame, arrays (inputs, targets), a mapping of arrays or a torch Dataset, "
        f"not {type(data).__name__}"
    )


def arrays_of(dataset: Any) -> dict[str, Any]:
    """The items of a Dataset as arrays: `x` and, where each item is a pair, `y`."""
    from torch.utils.data import IterableDataset, TensorDataset

    if isinstance(dataset, TensorDataset) and len(dataset.tensors) <= 2:
        return dict(zip((INPUTS, TARGETS), dataset.tensors, strict=False))
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(f"the Dataset {type(dataset).__name__} has no length; give one of the map style")
    items = [dataset[i] for i in range(len(dataset))]
    if all(isinstance(item, tuple | list) and len(item) == 2 for item in items):
        return {INPUTS: stacked([x for x, _ in items]), TARGETS: stacked([y for _, y in items])}
    if any(isinstance(item, tuple | list | dict) for item in items):
        raise DataError(f"an item of the Dataset {type(dataset).__name__} is neither an input nor (input, target)")
    return {INPUTS: stacked(items)}


def stacked(items: list[Any]) -> NDArray[Any]:
    """One array of all items; raises DataError where their shapes differ."""
    found = [array_of(item) for item in items]
    for i, item in enumerate(found):
        if item.shape != found[0].shape:
            raise DataError(
                f"item {i} of the Dataset has the shape {item.shape} and item 0 {found[0].shape}; "
                "bring them to one shape first"
            )
    return np.stack(found) if found else np.zeros(0)


def array_of(value: Any) -> NDArray[Any]:
    """The value as an array; text that pandas holds as objects becomes text that a file keeps."""
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    return array.astype(np.str_) if array.dtype.hasobject and all(isinstance(v, str) for v in array.flat) else array


def check_arrays(found: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The same as NumPy arrays; raises DataError that names the one that will not do."""
    arrays = {str(name): array_of(value) for name, value in found.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise DataError(f"the array {name!r} holds Python objects, which no file keeps; use numbers or text")
        if array.ndim == 0:
            raise DataError(f"the array {name!r} is a single value; it needs a row for each example")
    lengths = {name: len(array) for name, array in arrays.items()}
    if not lengths or not max(lengths.values()):
        raise DataError("there are no rows to split")
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"the arrays have different numbers of rows: {told}")
    return arrays
