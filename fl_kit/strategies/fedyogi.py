"""FedYogi. Reddi et al. 2021, "Adaptive Federated Optimization", arXiv 2003.00295, Algorithm 2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fl_kit.strategies.adaptive import Adaptive


@dataclass(frozen=True, kw_only=True)
class FedYogi(Adaptive):
    """Yogi at the orchestrator: v moves by the squared delta, however far from it, so it forgets slower than Adam's.

        v ← v − (1 − beta_2) · delta² · sign(v − delta²)

    beta_2  1 − beta_2 is the share of delta² by which v moves, 0 ≤ beta_2 < 1; the paper's β_2

    >>> job = Job(task=heart, strategy=FedYogi(lr=0.1, server_lr=0.01), rounds=20)
    """

    beta_2: float = 0.99
    AT_LEAST: ClassVar[Mapping[str, int]] = {**Adaptive.AT_LEAST, "beta_2": 0}
    BELOW_ONE: ClassVar[frozenset[str]] = Adaptive.BELOW_ONE | {"beta_2"}

    def second_moment(self, v: Tensor, squared: Tensor) -> Tensor:
        return v - (1 - self.beta_2) * squared * (v - squared).sign()
