"""ConceptShift: the same inputs mean another label at another silo."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from sim.partition.columns import is_whole_number, needs_label
from sim.partition.labels import codes_of, known_classes, with_codes
from sim.partition.onto import Onto
from sim.partition.partitioner import Change
from sim.partition.randomness import generator
from sim.partition.sources import Columns

KINDS = ("rotate", "permute")


@dataclass(frozen=True)
class ConceptShift(Onto):
    """Silos fall into `concepts` groups that name the classes differently; p(y | x) differs, p(x) does not.

    base      who deals the rows; default IID
    concepts  how many meanings, at least 2 (default 2): silo i, counted from 0, has concept i mod `concepts`.
              Concept 0 leaves the labels as they are
    kind      "rotate" (default): under concept c the class k, in sorted order, is called k + c, modulo the number
              of classes; "permute": by a permutation drawn from the seed and c, no two concepts the same

    Both splits change, since at such a silo that *is* the truth: one global model cannot serve all. Groups of
    silos with swapped labels are the test of clustered federated learning (Sattler et al. 2019, arXiv 1910.01991;
    Ghosh et al. 2020, arXiv 2006.04088).

    Raises DataError without a label, or where there are too few classes for so many concepts.

    >>> federation = ConceptShift(concepts=2).split(frame, 4, label="ill")
    """

    concepts: int = 2
    kind: str = "rotate"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole_number(self.concepts) or self.concepts < 2:
            raise DataError(f"concepts must be a whole number of at least 2, not {self.concepts!r}")
        if self.kind not in KINDS:
            raise DataError(f"kind must be {' or '.join(KINDS)}, not {self.kind!r}")
        object.__setattr__(self, "concepts", int(self.concepts))

    def own_change(self, columns: Columns, silos: Sequence[str], *, label: str | None, seed: int) -> Change:
        known = known_classes(columns, label, "ConceptShift")
        name = needs_label(label, "ConceptShift")
        meanings = self.meanings(len(known), seed)
        concept = {silo: i % self.concepts for i, silo in enumerate(silos)}

        def change(part: Columns, silo: str, split: str) -> Columns:
            codes = codes_of(part[name], known)
            called = np.where(codes >= 0, meanings[concept[silo]][codes], -1)
            return {name: with_codes(part[name], called, known)}

        return change

    def meanings(self, classes: int, seed: int) -> list[NDArray[np.int64]]:
        """What each class is called under each concept."""
        if self.kind == "rotate":
            if self.concepts > classes:
                raise DataError(f"{classes} classes rotate to {classes} concepts at most, not {self.concepts}")
            return [(np.arange(classes) + concept) % classes for concept in range(self.concepts)]
        if self.concepts > np.prod(np.arange(1.0, min(classes, 12) + 1)):
            raise DataError(f"{classes} classes have fewer than {self.concepts} permutations")
        random = generator(seed, "concepts")
        found = [np.arange(classes)]
        while len(found) < self.concepts:
            drawn = random.permutation(classes)
            if not any(np.array_equal(drawn, other) for other in found):
                found.append(drawn)
        return found
