"""Temporal: silos by period, or the latest rows of each silo as its test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from sim.partition.columns import Rows, check_count, cut, in_proportion, whole_column
from sim.partition.onto import check_base
from sim.partition.partitioner import Change, Partitioner
from sim.partition.sources import Columns

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Temporal(Partitioner):
    """Learn from the past, be tested on the future: the latest rows of each silo are its test split.

    column  a time: numbers, dates, or text that sorts by time, such as 2024-05-31; it stays in the silos' files
    base    who deals the rows to silos. None: silos are consecutive periods with equal numbers of rows, to a row;
            `silo-01` is the earliest

    Rows of one time are kept in the order of the table, and a border may fall between them. The test split is
    not stratified by label; its size is the same as any partitioner's.

    Raises DataError for a column that is unknown or has missing values.

    >>> federation = Temporal("year").split(frame, 4, label="ill")
    """

    column: str
    base: Partitioner | None = None

    def __post_init__(self) -> None:
        if self.base is not None and self.column in check_base(self.base).left_out:
            raise DataError(f"base must be a partitioner that keeps {self.column!r} in the files, not {self.base!r}")

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        times = in_time(whole_column(frame, self.column).to_numpy(), self.column)
        if self.base is not None:
            return self.base.assign(frame, n, label=label, seed=seed)
        n = check_count(n, len(frame), "Temporal")
        return cut(times, in_proportion(np.ones(n), len(frame), 1))

    @property
    def left_out(self) -> tuple[str, ...]:
        return () if self.base is None else self.base.left_out

    def hold(
        self, frame: "pd.DataFrame", rows: Rows, strata: Rows, share: float, random: np.random.Generator
    ) -> NDArray[np.bool_]:
        held = np.zeros(len(rows), dtype=np.bool_)
        if len(rows) > 1:
            count = min(max(math.floor(share * len(rows) + 0.5), 1), len(rows) - 1)
            held[in_time(frame[self.column].to_numpy()[rows], self.column)[-count:]] = True
        return held

    def change(self, columns: Columns, silos: Sequence[str], *, label: str | None, seed: int) -> Change | None:
        return None if self.base is None else self.base.change(columns, silos, label=label, seed=seed)


def in_time(times: NDArray[Any], column: str) -> Rows:
    """The positions from the earliest time to the latest; raises DataError where two cannot be compared."""
    try:
        return np.argsort(times, kind="stable")
    except TypeError as error:
        raise DataError(f"column {column!r} does not sort by time: {error}") from error
