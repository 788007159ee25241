"""IID: rows dealt at random in equal shares."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.partition.columns import Rows, check_count, numbered
from sim.partition.partitioner import Partitioner
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class IID(Partitioner):
    """Every silo is a random sample of the same rows; sizes differ by one row at most.

    Silos are called `silo-01`, `silo-02` …

    >>> IID().split(frame, 3, label="ill").names
    ('silo-01', 'silo-02', 'silo-03')
    """

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        n = check_count(n, len(frame), "IID")
        shuffled = generator(seed, "iid").permutation(len(frame))
        return {
            name: np.sort(rows).astype(np.int64)
            for name, rows in zip(numbered(n), np.array_split(shuffled, n), strict=True)
        }
