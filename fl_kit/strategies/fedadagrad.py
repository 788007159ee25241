"""FedAdagrad. Reddi et al. 2021, "Adaptive Federated Optimization", arXiv 2003.00295, Algorithm 2."""

from dataclasses import dataclass

from torch import Tensor

from fl_kit.strategies.adaptive import Adaptive


@dataclass(frozen=True, kw_only=True)
class FedAdagrad(Adaptive):
    """Adagrad at the orchestrator: steps shrink as a parameter's squared deltas add up.

        v ← v + delta²

    beta_1  0 as in the paper's experiments, though its algorithm allows momentum here too

    >>> job = Job(task=heart, strategy=FedAdagrad(lr=0.1, server_lr=0.01), rounds=20)
    """

    beta_1: float = 0.0

    def second_moment(self, v: Tensor, squared: Tensor) -> Tensor:
        return v + squared
