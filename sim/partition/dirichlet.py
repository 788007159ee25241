"""Dirichlet: label skew of adjustable strength."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fl_kit.errors import DataError
from sim.partition.columns import (
    Rows,
    check_alpha,
    check_count,
    check_minimum,
    check_room,
    classes,
    dealt,
    needs_label,
    numbered,
)
from sim.partition.partitioner import Partitioner
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 1000
"""How often shares are drawn before giving up on `minimum`."""


@dataclass(frozen=True)
class Dirichlet(Partitioner):
    """Each class is dealt to the silos in shares drawn from a symmetric Dirichlet distribution.

    alpha    concentration, above 0: 0.1 leaves most silos one or two classes, 100 is close to IID;
             the default 0.3 is a common hard case
    minimum  rows that every silo gets (default 10, so that it can train and test). Shares are drawn
             anew, up to 1000 times, until it holds: Dirichlet given that no silo is too small

    For each class k, shares p_k ~ Dir(alpha · 1_n) over the n silos, and silo i gets p_k,i of the
    class's rows: labels and sizes are both skewed. This is the class-wise variant of Yurochkin et al.
    2019 (arXiv 1905.12022). Hsu et al. 2019 (arXiv 1909.06335), from whom the use of a Dirichlet as
    a dial comes, draw a label mix per silo instead and keep the sizes equal. Rows whose label is
    missing are dealt like a class of their own.

    Silos are called `silo-01`, `silo-02` …

    Raises DataError without a label, for a bad alpha or minimum, or where `minimum` cannot be met;
    it then says what could.

    >>> federation = Dirichlet(alpha=0.3).split(frame, 4, label="ill")
    """

    alpha: float = 0.3
    minimum: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_alpha(self.alpha))
        object.__setattr__(self, "minimum", check_minimum(self.minimum))

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        found = classes(frame, needs_label(label, "Dirichlet"))
        n = check_count(n, len(frame), "Dirichlet")
        check_room(n, self.minimum, len(frame))
        random = generator(seed, "dirichlet")
        members = [random.permutation(np.flatnonzero(found == value)) for value in np.unique(found)]
        cuts = self.draw([len(rows) for rows in members], n, random)
        owner = np.empty(len(frame), dtype=np.int64)
        for rows, ends in zip(members, cuts, strict=True):
            owner[rows] = np.searchsorted(ends, np.arange(len(rows)), side="right")
        return dealt(owner, numbered(n))

    def draw(self, sizes: list[int], n: int, random: np.random.Generator) -> list[Rows]:
        """Where to cut each class into n pieces so that every silo gets `minimum` rows."""
        best = 0
        for _ in range(DRAWS):
            shares = random.dirichlet(np.full(n, self.alpha), size=len(sizes))
            ends = np.rint(np.cumsum(shares, axis=1)[:, :-1] * np.array(sizes)[:, None]).astype(np.int64)
            edges = np.hstack([np.zeros((len(sizes), 1), np.int64), ends, np.array(sizes)[:, None]])
            smallest = int(np.diff(edges, axis=1).sum(axis=0).min())
            if smallest >= self.minimum:
                return list(ends)
            best = max(best, smallest)
        raise DataError(
            f"alpha={self.alpha:g} left a silo with fewer than {self.minimum} rows in each of {DRAWS} draws for {n} "
            f"silos (at best {best}); use a larger alpha, fewer silos" + (f", or minimum={best}" if best else "")
        )
