"""FedProx. Li et al. 2020, "Federated Optimization in Heterogeneous Networks", arXiv 1812.06127, Algorithm 2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fl_kit.corrections import AffineCorrection
from fl_kit.messages import Memory, State
from fl_kit.protocols import Context, Correction
from fl_kit.strategies.fedavg import FedAvg


@dataclass(frozen=True, kw_only=True)
class FedProx(FedAvg):
    """FedAvg with a penalty in the silo's loss that holds the local model near the global one.

        h_k(w) = F_k(w) + mu/2 · ‖w − start‖²      so that      ∇h_k = ∇F_k + mu · (w − start)

    mu  strength of the penalty, at least 0; 0 is FedAvg to the bit

    >>> job = Job(task=heart, strategy=FedProx(mu=0.1, lr=0.1, epochs=5), rounds=20)
    """

    mu: float = 0.01
    corrects_gradients: ClassVar[bool] = True
    AT_LEAST: ClassVar[Mapping[str, int]] = {**FedAvg.AT_LEAST, "mu": 0}

    def correction(self, start: list[Tensor], state: State, memory: Memory | None, ctx: Context) -> Correction | None:
        return AffineCorrection(pull=self.mu, anchor=start) if self.mu else None
