"""Continuous: rows with like values of a numeric column share a silo."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fl_kit.errors import DataError
from sim.partition.columns import (
    Rows,
    check_count,
    check_share,
    cut,
    dealt,
    in_proportion,
    is_number,
    number_column,
    numbered,
)
from sim.partition.partitioner import Partitioner
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Continuous(Partitioner):
    """The rows sorted by a numeric column and cut at its quantiles, so sizes are equal to a row; or at given edges.

    column      the column, such as an age or an income; it stays in the silos' files
    strictness  in [0, 1], default 1: rows are sorted by strictness · z + (1 - strictness) · noise, with z the
                standardised column and standard normal noise. 1 sorts strictly, equal values at random; 0 is IID
    edges       ascending values at which to cut instead: silo 1 is below the first, silo 2 from there to below the
                second … Then n may be left out, and strictness must be 1

    The blend of column and noise is that of Flower's ContinuousPartitioner. Silos are called `silo-01`, `silo-02` …,
    from small values to large.

    Raises DataError for a column that is unknown, has missing values or is no number, or where a silo between
    two edges would be empty.

    >>> federation = Continuous("age").split(frame, 4, label="ill")
    """

    column: str
    strictness: float = 1.0
    edges: Sequence[float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "strictness", check_share(self.strictness, "strictness"))
        if self.edges is None:
            return
        if not all(is_number(edge) for edge in self.edges) or not (np.diff(self.edges) > 0).all():
            raise DataError(f"edges must be ascending numbers, not {self.edges!r}")
        if self.strictness != 1:
            raise DataError("edges cut strictly by value: leave strictness out")
        object.__setattr__(self, "edges", tuple(float(edge) for edge in self.edges))

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        values = number_column(frame, self.column)
        if self.edges is not None:
            return self.between_edges(values, n)
        n = check_count(n, len(frame), "Continuous")
        random = generator(seed, "continuous")
        shuffled = random.permutation(len(frame))
        spread = values.std()
        key = self.strictness * (values - values.mean()) / (spread if spread > 0 else 1.0)
        key = key + (1 - self.strictness) * random.standard_normal(len(frame)) if self.strictness < 1 else values
        order = shuffled[np.argsort(key[shuffled], kind="stable")]
        return cut(order, in_proportion(np.ones(n), len(frame), 1))

    def between_edges(self, values: "np.ndarray[tuple[int], np.dtype[np.float64]]", n: int | None) -> dict[str, Rows]:
        edges = np.array(self.edges)
        count = len(edges) + 1
        if n is not None and n != count:
            raise DataError(f"{len(edges)} edges make {count} silos, not {n}; leave n out")
        owner = np.searchsorted(edges, values, side="right")
        empty = np.flatnonzero(np.bincount(owner, minlength=count) == 0)
        if len(empty):
            low, high = [-np.inf, *edges][empty[0]], [*edges, np.inf][empty[0]]
            raise DataError(
                f"no row has a {self.column!r} from {low:g} to below {high:g}; "
                f"the values go from {values.min():g} to {values.max():g}"
            )
        return dealt(owner, numbered(count))
