"""Min-max: as far from the mean as the honest updates are from one another, and no farther.

Shejwalkar and Houmansadr 2021, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for
Federated Learning", NDSS 2021, section IV-D (equation 8).
"""

import math
from dataclasses import dataclass
from typing import Literal

from fl_kit.aggregators.blocks import coordinate_wise, distances_to, inner_products, mean_of, squared_distances
from fl_kit.errors import IncompatibleError
from fl_kit.messages import Update
from fl_kit.tensors import Tensors
from sim.faults.attack import Known, Knows, UpdateAttack, check_knows


@dataclass(frozen=True, kw_only=True)
class MinMax(UpdateAttack):
    """All liars send mean + γ·direction, with the largest γ that keeps them inconspicuous.

        max_i ‖mean + γ·direction − delta_i‖ ≤ max_ij ‖delta_i − delta_j‖

    over the updates that they know. The paper searches for γ; each i gives a quadratic equation, so here it is exact.

    direction  the paper's ∇p: "std" is −std of each coordinate, "sign" −sign(mean), "unit" −mean/‖mean‖
    knows      "all": the updates of all honest silos. "colluders": the honest ones of the liars; one alone sends its
               own

    >>> liars = dict.fromkeys(["charlie", "delta"], MinMax())
    >>> run = job.run(federation, on=InProcess(folder=None, faults=liars)).wait()
    """

    direction: Literal["std", "sign", "unit"] = "std"
    knows: Knows = "all"

    def __post_init__(self) -> None:
        check_knows(self)
        if self.direction not in ("std", "sign", "unit"):
            raise IncompatibleError(f"MinMax(direction={self.direction!r}): must be 'std', 'sign' or 'unit'")

    def lie(self, own: Update, known: Known) -> Tensors:
        found = [update.delta for update in known.updates]
        mean = mean_of(found)
        way = self.way(found, mean)
        gamma = largest_gamma(found, mean, way)
        return {name: value + gamma * way[name] for name, value in mean.items()}

    def way(self, found: list[Tensors], mean: Tensors) -> Tensors:
        """The direction."""
        if self.direction == "std":
            return coordinate_wise(found, lambda block: -block.std(dim=0, correction=0))
        if self.direction == "sign":
            return {name: -value.sign() for name, value in mean.items()}
        length = math.sqrt(float(inner_products([mean], mean))) or 1.0
        return {name: -value / length for name, value in mean.items()}


def largest_gamma(found: list[Tensors], mean: Tensors, way: Tensors) -> float:
    """The least over i of the positive root of γ²‖way‖² + 2γ·way·(mean − delta_i) + ‖mean − delta_i‖² = widest."""
    widest = float(squared_distances(found).max())
    square = float(inner_products([way], way))
    if not square:
        return 0.0
    half = inner_products([mean], way) - inner_products(found, way)
    room = (widest - distances_to(mean, found).square()).clamp(min=0)
    return float(((half.square() + square * room).sqrt() - half).min() / square)
