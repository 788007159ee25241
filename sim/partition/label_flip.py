"""LabelFlip: some labels are wrong at some silos."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_kit.errors import DataError
from fl_kit.silo import nearest
from sim.partition.columns import check_share, needs_label
from sim.partition.labels import codes_of, known_classes, with_codes
from sim.partition.onto import Onto
from sim.partition.partitioner import Change
from sim.partition.randomness import generator
from sim.partition.sources import Columns


@dataclass(frozen=True)
class LabelFlip(Onto):
    """A share of the labels at some silos is replaced by another class, each as likely.

    base   who deals the rows; default IID
    share  of a silo's labelled training rows, in [0, 1], default 0.2: rounded to a row
    silos  the silos where it happens; default: all
    test   whether the test split is flipped too; default no, so that the test tells the truth

    Symmetric label noise, as in Natarajan et al. 2013. A missing label stays missing.

    Raises DataError without a label, with fewer than two classes, or for an unknown silo.

    >>> federation = LabelFlip(share=0.3, silos=["silo-01"]).split(frame, 4, label="ill")
    """

    share: float = 0.2
    silos: Sequence[str] = ()
    test: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "share", check_share(self.share, "share"))
        if isinstance(self.silos, str):
            raise DataError(f"silos must list silo names, not {self.silos!r}")
        object.__setattr__(self, "silos", tuple(self.silos))

    def own_change(self, columns: Columns, silos: Sequence[str], *, label: str | None, seed: int) -> Change:
        known = known_classes(columns, label, "LabelFlip")
        name = needs_label(label, "LabelFlip")
        if unknown := [silo for silo in self.silos if silo not in silos]:
            raise DataError(f"there is no silo {unknown[0]!r} to flip labels at{nearest(unknown[0], list(silos))}")

        def change(part: Columns, silo: str, split: str) -> Columns:
            if (self.silos and silo not in self.silos) or (split == "test" and not self.test):
                return {}
            random = generator(seed, f"label flip {split}", silo)
            codes = codes_of(part[name], known)
            there = np.flatnonzero(codes >= 0)
            flipped = random.permutation(there)[: int(np.floor(self.share * len(there) + 0.5))]
            codes[flipped] = (codes[flipped] + random.integers(1, len(known), len(flipped))) % len(known)
            return {name: with_codes(part[name], codes, known)}

        return change
