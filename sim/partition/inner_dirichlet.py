"""InnerDirichlet: a label mix of its own for each silo, sizes as asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.partition.columns import Rows, check_alpha, check_count, dealt, in_proportion, numbered, whole_classes
from sim.partition.partitioner import Partitioner
from sim.partition.quantity_skew import QuantitySkew
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class InnerDirichlet(Partitioner):
    """Each silo draws its own label mix from a Dirichlet distribution around the pooled one; sizes stay as asked.

    alpha  concentration, above 0 (default 0.3): silo i's mix is q_i ~ Dir(alpha · K · p), with p the pooled mix of
           the K classes; so for equal classes Dir(alpha · 1_K), and a large alpha is IID
    sizes  None: equal, to a row; or as in QuantitySkew

    Hsu et al. 2019 (arXiv 1909.06335), with sizes as in Acar et al. 2021 (FedDyn, arXiv 2111.04263). Silos are
    served in random order; where a class is used up, the rest of a silo's rows come from its other classes in
    the proportions of its mix, so the last ones get what is left.

    Silos are called `silo-01`, `silo-02` …

    Raises DataError without a label in every row, for a bad alpha, or for sizes that cannot be met.

    >>> federation = InnerDirichlet(alpha=1.0).split(frame, 4, label="ill")
    """

    alpha: float = 0.3
    sizes: str | Sequence[float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_alpha(self.alpha))
        if self.sizes is not None:
            object.__setattr__(self, "sizes", QuantitySkew(self.sizes).sizes)

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        found = whole_classes(frame, label, "InnerDirichlet")
        if n is None and self.sizes is not None and not isinstance(self.sizes, str):
            n = len(self.sizes)
        n = check_count(n, len(frame), "InnerDirichlet")
        weights = np.ones(n) if self.sizes is None else QuantitySkew(self.sizes).weights(n)
        sizes = in_proportion(weights, len(frame), 1)
        random = generator(seed, "inner dirichlet")
        counts = self.draw(sizes, np.bincount(found), random)
        owner = np.empty(len(frame), dtype=np.int64)
        for kind in range(counts.shape[1]):
            rows = random.permutation(np.flatnonzero(found == kind))
            owner[rows] = np.repeat(np.arange(n), counts[:, kind])
        return dealt(owner, numbered(n))

    def draw(self, sizes: NDArray[np.int64], pool: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """(silos, classes): how many rows of each class a silo gets."""
        mixes = random.dirichlet(self.alpha * len(pool) * pool / pool.sum(), size=len(sizes))
        counts = np.zeros((len(sizes), len(pool)), dtype=np.int64)
        left = pool.copy()
        for silo in random.permutation(len(sizes)):
            while (lacks := int(sizes[silo] - counts[silo].sum())) > 0:
                mix = np.where(left > 0, mixes[silo], 0.0)
                # a mix that knows only used-up classes takes what there is
                mix = mix if mix.sum() > 0 else left.astype(np.float64)
                taken = np.minimum(random.multinomial(lacks, mix / mix.sum()), left)
                counts[silo] += taken
                left -= taken
        return counts
