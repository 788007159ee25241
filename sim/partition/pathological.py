"""Pathological: a few classes a silo."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from sim.partition.columns import Rows, check_count, dealt, is_whole_number, numbered, whole_classes
from sim.partition.partitioner import Partitioner
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Pathological(Partitioner):
    """Each silo has rows of exactly `classes` classes.

    classes  how many, at least 1 (default 2)

    Silo after silo chooses, at random, from the classes that the fewest silos hold so far; so every class has
    as many silos as any other, or one more. Its rows, shuffled, are dealt to them in equal shares.
    "Pathological" is the word of McMahan et al. 2017 (arXiv 1602.05629) for what Shards does; with the number of
    classes exact this is "#C = k" of Li et al. 2021 (arXiv 2102.02079).

    Silos are called `silo-01`, `silo-02` …

    Raises DataError without a label in every row, where the silos cannot hold all classes, or where a class
    has fewer rows than silos that hold it.

    >>> federation = Pathological(classes=1).split(frame, 4, label="ill")
    """

    classes: int = 2

    def __post_init__(self) -> None:
        if not is_whole_number(self.classes) or self.classes < 1:
            raise DataError(f"classes must be a whole number of at least 1, not {self.classes!r}")
        object.__setattr__(self, "classes", int(self.classes))

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        found = whole_classes(frame, label, "Pathological")
        n = check_count(n, len(frame), "Pathological")
        sizes = np.bincount(found)
        self.check(n, len(sizes), str(label))
        random = generator(seed, "pathological")
        holds = self.choose(n, len(sizes), random)
        owner = np.empty(len(frame), dtype=np.int64)
        for kind, size in enumerate(sizes):
            holders = np.flatnonzero(holds[:, kind])
            if len(holders) > size:
                raise DataError(
                    f"a class of {label!r} has {size} rows for {len(holders)} silos that would hold it; with "
                    f"{self.classes} of {len(sizes)} classes a silo, ask for {size * len(sizes) // self.classes} silos "
                    "at most"
                )
            rows = random.permutation(np.flatnonzero(found == kind))
            owner[rows] = random.permutation(holders)[np.arange(size) * len(holders) // size]
        return dealt(owner, numbered(n))

    def check(self, n: int, known: int, label: str) -> None:
        if self.classes > known:
            raise DataError(f"{label!r} has {known} classes, so no silo can have {self.classes}; use {known} at most")
        if n * self.classes < known:
            least, most = -(-known // n), -(-known // self.classes)
            raise DataError(
                f"{n} silos of {self.classes} classes hold {n * self.classes} of the {known} classes of {label!r} at "
                f"most, and the other rows would be lost; use classes={least}, or {most} silos"
            )

    def choose(self, n: int, known: int, random: np.random.Generator) -> NDArray[np.bool_]:
        """(silos, classes): which silo holds which."""
        holds = np.zeros((n, known), dtype=np.bool_)
        silos = np.zeros(known, dtype=np.int64)
        for silo in range(n):
            shuffled = random.permutation(known)
            chosen = shuffled[np.argsort(silos[shuffled], kind="stable")[: self.classes]]
            holds[silo, chosen] = True
            silos[chosen] += 1
        return holds
