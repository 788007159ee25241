"""Inner-product manipulation: the mean of the honest, turned round.

Xie et al. 2019, "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation", arXiv 1903.03936,
section 4.
"""

from dataclasses import dataclass

from fl_kit.aggregators.blocks import mean_of
from fl_kit.messages import Update
from fl_kit.tensors import Tensors
from sim.faults.attack import Known, Knows, UpdateAttack, check_knows, check_number


@dataclass(frozen=True, kw_only=True)
class InnerProduct(UpdateAttack):
    """All liars send −epsilon times the mean of the updates that they know.

    epsilon  the paper's ε. Small, it hides among updates that are spread widely, and what is selected or averaged
             points away from learning; large, it turns the plain mean round: with m of n from ε > (n − m)/m on
    knows    "all": the updates of all honest silos, as in the paper. "colluders": the honest ones of the liars

    >>> liars = dict.fromkeys(["charlie", "delta"], InnerProduct(epsilon=0.5))
    >>> run = job.run(federation, on=InProcess(folder=None, faults=liars)).wait()
    """

    epsilon: float = 0.5
    knows: Knows = "all"

    def __post_init__(self) -> None:
        check_knows(self)
        check_number(self, "epsilon")

    def lie(self, own: Update, known: Known) -> Tensors:
        mean = mean_of([update.delta for update in known.updates])
        return {name: -self.epsilon * value for name, value in mean.items()}
