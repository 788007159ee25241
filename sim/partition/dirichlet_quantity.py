"""DirichletQuantity: sizes of adjustable inequality, the label mix everywhere the same."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.partition.columns import Rows, check_alpha, check_count, check_minimum, check_room, cut, in_proportion
from sim.partition.partitioner import Partitioner
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class DirichletQuantity(Partitioner):
    """Random rows, in sizes drawn from a Dirichlet distribution: silo i gets the share q_i, q ~ Dir(alpha · 1_n).

    alpha    concentration, above 0: 0.5 gives few large silos and many small ones, 100 nearly equal ones
    minimum  rows that every silo gets (default 10); sizes below it are raised to it, and the others share the rest

    Quantity skew of Li et al. 2021 (NIID-Bench, arXiv 2102.02079, section 4.3). Needs no label.
    Silos are called `silo-01`, `silo-02` …

    Raises DataError for a bad alpha or minimum, or where there are too few rows for the minimum.

    >>> federation = DirichletQuantity(alpha=0.5).split(frame, 4)
    """

    alpha: float = 0.5
    minimum: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_alpha(self.alpha))
        object.__setattr__(self, "minimum", check_minimum(self.minimum))

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        n = check_count(n, len(frame), "DirichletQuantity")
        check_room(n, self.minimum, len(frame))
        random = generator(seed, "dirichlet quantity")
        shares = random.dirichlet(np.full(n, self.alpha))
        return cut(random.permutation(len(frame)), in_proportion(shares, len(frame), self.minimum))
