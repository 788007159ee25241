"""FedSGD: one gradient a round, over all rows of all silos.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv 1602.05629, section 2 (FederatedSGD: Algorithm 1 with E = 1 and B = ∞).
"""

from dataclasses import dataclass
from typing import ClassVar

from fl_kit.strategies.fedavg import FedAvg

EVERY_ROW = 2**31 - 1
"""Rows in a batch: as many as a silo has."""


@dataclass(frozen=True, kw_only=True)
class FedSGD(FedAvg):
    """Gradient descent on the pooled rows, without pooling them: each silo takes one step on all of its own.

        in silo k:        delta_k = −lr · ∇F_k(w)
        at orchestrator:  w ← w + server_lr · Σ n_k·delta_k / Σ n_k
                            = w − server_lr·lr · ∇F(w)     with F = Σ n_k·F_k / Σ n_k

    The exact yardstick, at one exchange a step; where that is too much, FedAvg takes more steps between. A silo's
    rows pass through the model as one batch, so they have to fit into memory together. With layers whose output
    depends on the batch (BatchNorm) the pooled gradient is another.

    epochs, steps, batch_size, shuffle and momentum are fixed: one step, of all rows, in their order. A momentum is
    server_momentum's.

    >>> job = Job(task=heart, strategy=FedSGD(lr=0.5), rounds=20)
    """

    steps: int | None = 1
    batch_size: int = EVERY_ROW
    shuffle: bool = False
    FIXED: ClassVar[frozenset[str]] = frozenset({"epochs", "steps", "batch_size", "shuffle", "momentum"})
