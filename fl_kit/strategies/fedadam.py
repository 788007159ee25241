"""FedAdam. Reddi et al. 2021, "Adaptive Federated Optimization", arXiv 2003.00295, Algorithm 2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fl_kit.strategies.adaptive import Adaptive


@dataclass(frozen=True, kw_only=True)
class FedAdam(Adaptive):
    """Adam at the orchestrator, without bias correction: v is a running mean of squared deltas.

        v ← beta_2·v + (1 − beta_2)·delta²

    beta_2  how much of v lives on, 0 ≤ beta_2 < 1; the paper's β_2

    >>> job = Job(task=heart, strategy=FedAdam(lr=0.1, server_lr=0.01), rounds=20)
    """

    beta_2: float = 0.99
    AT_LEAST: ClassVar[Mapping[str, int]] = {**Adaptive.AT_LEAST, "beta_2": 0}
    BELOW_ONE: ClassVar[frozenset[str]] = Adaptive.BELOW_ONE | {"beta_2"}

    def second_moment(self, v: Tensor, squared: Tensor) -> Tensor:
        return self.beta_2 * v + (1 - self.beta_2) * squared
