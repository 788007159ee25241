"""Shards: rows sorted by label, cut into pieces, and some pieces dealt to each silo."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fl_kit.errors import DataError
from sim.partition.columns import Rows, check_count, dealt, is_whole_number, numbered, whole_classes
from sim.partition.partitioner import Partitioner
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Shards(Partitioner):
    """The rows sorted by label, cut into n · `per_silo` shards of equal size, dealt at random, `per_silo` to each silo.

    per_silo  at least 1 (default 2)

    McMahan et al. 2017 (arXiv 1602.05629, section 3): sizes are equal, and a silo has about `per_silo` classes: one
    more for each shard that lies across a border, fewer where two shards of one class meet. Rows of one class are
    shuffled before the cut. Sizes differ by `per_silo` rows at most.

    Silos are called `silo-01`, `silo-02` …

    Raises DataError without a label in every row, or where there are fewer rows than shards.

    >>> federation = Shards(per_silo=2).split(frame, 4, label="ill")
    """

    per_silo: int = 2

    def __post_init__(self) -> None:
        if not is_whole_number(self.per_silo) or self.per_silo < 1:
            raise DataError(f"per_silo must be a whole number of at least 1, not {self.per_silo!r}")
        object.__setattr__(self, "per_silo", int(self.per_silo))

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        found = whole_classes(frame, label, "Shards")
        n = check_count(n, len(frame), "Shards")
        shards = n * self.per_silo
        if shards > len(frame):
            raise DataError(
                f"{n} silos of {self.per_silo} shards need {shards} rows, and there are {len(frame)}; "
                f"use per_silo={len(frame) // n}, or {max(len(frame) // self.per_silo, 1)} silos"
            )
        random = generator(seed, "shards")
        shuffled = random.permutation(len(frame))
        rows = shuffled[np.argsort(found[shuffled], kind="stable")]
        holder = random.permutation(np.repeat(np.arange(n), self.per_silo))
        owner = np.empty(len(frame), dtype=np.int64)
        owner[rows] = holder[np.arange(len(frame)) * shards // len(frame)]
        return dealt(owner, numbered(n))
