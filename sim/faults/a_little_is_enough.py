"""A little is enough: lies within the spread of the honest updates.

Baruch et al. 2019, "A Little Is Enough: Circumventing Defenses For Distributed Learning", arXiv 1902.06083,
Algorithm 3.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from fl_kit.aggregators.blocks import coordinate_wise
from fl_kit.errors import IncompatibleError
from fl_kit.messages import Update
from fl_kit.tensors import Tensors
from sim.faults.attack import Known, Knows, UpdateAttack, check_knows


@dataclass(frozen=True, kw_only=True)
class ALittleIsEnough(UpdateAttack):
    """All liars send mean − z·std of the updates that they know, coordinate by coordinate.

    z      how many standard deviations; None is the paper's largest that still leaves a majority beyond it:
           Φ(z) = (n − m − s)/(n − m), s = ⌊n/2 + 1⌋ − m, of n silos m liars; 0 where that is below 0, as with few
    knows  "colluders": the honest updates of the liars themselves, as in the paper; one alone has no spread and sends
           its own. "all": those of all honest silos

    >>> liars = dict.fromkeys(["charlie", "delta"], ALittleIsEnough(z=1.0))
    >>> run = job.run(federation, on=InProcess(folder=None, faults=liars)).wait()
    """

    z: float | None = None
    knows: Knows = "colluders"

    def __post_init__(self) -> None:
        check_knows(self)
        if self.z is not None and not 0 <= self.z < math.inf:
            raise IncompatibleError(f"ALittleIsEnough(z={self.z!r}): must be a number of at least 0, or None")

    def lie(self, own: Update, known: Known) -> Tensors:
        z = largest_z(known.silos, known.bad) if self.z is None else self.z
        return coordinate_wise(
            [update.delta for update in known.updates],
            lambda block: block.mean(dim=0) - z * block.std(dim=0, correction=0),
        )


def largest_z(silos: int, bad: int) -> float:
    """The paper's z: with it the liars and those honest silos that lie beyond are a majority.

    >>> round(largest_z(50, 24), 2)
    1.43
    """
    honest = silos - bad
    supporters = silos // 2 + 1 - bad
    share = (honest - supporters) / honest if honest else 0.0
    return max(0.0, NormalDist().inv_cdf(share)) if 0 < share < 1 else 0.0
