"""QuantitySkew: sizes that are known beforehand, the label mix everywhere the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from sim.partition.columns import Rows, check_count, check_minimum, check_room, cut, in_proportion, is_number
from sim.partition.partitioner import Partitioner
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd

LAWS = ("linear", "square", "exponential")


@dataclass(frozen=True)
class QuantitySkew(Partitioner):
    """Random rows, in sizes that grow from silo to silo.

    sizes    "linear": silo i gets rows in proportion to i; "square": to i²; "exponential": to e^i (i = 1 … n);
             or one number above 0 per silo: sizes in proportion to them, so exactly these where they sum to
             the number of rows. Then n may be left out
    minimum  rows that every silo gets (default 1); sizes below it are raised to it, and the others share the rest

    The laws are those of Flower's LinearPartitioner, SquarePartitioner and ExponentialPartitioner. Needs no label.
    Silos are called `silo-01`, `silo-02` …

    Raises DataError for a bad law, size or minimum, or where there are too few rows for the minimum.

    >>> federation = QuantitySkew("square").split(frame, 4)
    """

    sizes: str | Sequence[float] = "linear"
    minimum: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "minimum", check_minimum(self.minimum))
        if isinstance(self.sizes, str):
            if self.sizes not in LAWS:
                raise DataError(f"sizes must be {', '.join(LAWS)} or one number per silo, not {self.sizes!r}")
            return
        odd = [size for size in self.sizes if not is_number(size) or not 0 < size < np.inf]
        if odd or not len(self.sizes):
            raise DataError(f"sizes must be numbers above 0, one per silo, not {odd[0] if odd else self.sizes!r}")
        object.__setattr__(self, "sizes", tuple(float(size) for size in self.sizes))

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        if n is None and not isinstance(self.sizes, str):
            n = len(self.sizes)
        n = check_count(n, len(frame), "QuantitySkew")
        check_room(n, self.minimum, len(frame))
        order = generator(seed, "quantity").permutation(len(frame))
        return cut(order, in_proportion(self.weights(n), len(frame), self.minimum))

    def weights(self, n: int) -> NDArray[np.float64]:
        """What the n sizes are in proportion to, the largest 1."""
        place = np.arange(1, n + 1, dtype=np.float64)
        if self.sizes == "linear":
            return place / n
        if self.sizes == "square":
            return (place / n) ** 2
        if self.sizes == "exponential":
            return np.exp(place - n)
        if len(self.sizes) != n:
            raise DataError(f"sizes lists {len(self.sizes)} silos, not {n}; leave n out")
        sizes = np.array(self.sizes, dtype=np.float64)
        return np.asarray(sizes / sizes.max(), dtype=np.float64)
