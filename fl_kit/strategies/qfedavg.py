"""QFedAvg: a silo counts more, the worse the model serves it.

Li et al. 2020, "Fair Resource Allocation in Federated Learning", arXiv 1905.10497, Algorithm 2 (q-FedAvg).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fl_kit.errors import IncompatibleError, TaskError
from fl_kit.local import evaluate
from fl_kit.messages import Groups, Memory, State, Update
from fl_kit.metrics import ratio
from fl_kit.protocols import Context
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.tensors import Tensors, norm

LEAST_LOSS = 1e-10
"""Where the loss is 0, F^(q−1) has no value for q < 1."""


@dataclass(frozen=True, kw_only=True)
class QFedAvg(FedAvg):
    """Minimises Σ n_k·F_k^(q+1) / (q + 1) instead of Σ n_k·F_k.

        in silo k:        F_k     = the loss of w on the silo's training rows, before training
                          delta_k = F_k^q · (w_k − w)
                          bound_k = F_k^q + q·F_k^(q−1) · ‖w_k − w‖² / lr
        at orchestrator:  w ← w + server_lr · Σ n_k·delta_k / Σ n_k·bound_k

    With L = 1/lr the paper's Δ_k is −L·delta_k and its h_k is L·bound_k: L takes itself out. bound_k, from an upper
    bound of the curvature of F_k^(q+1)/(q+1), sets the step's length, so that lr need not be tuned again for each q.
    The paper draws silos with probability p_k and then counts them alike; here all train and count p_k = n_k/n, the
    expectation of that (under Mean(weighted=False) p_k is 1/m). Then q = 0 is FedAvg, to the bit.

    F_k costs a pass over the training rows each round, without gradients; not with q = 0. It is measured like any
    loss, in evaluation mode, and leaves out weight_decay. `update_norm` tells the norm of delta_k, F_k^q within.

    q  at least 0: 0 is FedAvg; larger makes the silos' losses more even, at some cost to their mean, and slower.
       The right one depends on the data: try 0.1, 1 and 5, and look at the worst silo

    >>> job = Job(task=heart, strategy=QFedAvg(q=1.0, lr=0.1), rounds=20)
    """

    q: float = 1.0
    needs_mean: ClassVar[bool] = True
    needs_sgd: ClassVar[bool] = True
    AT_LEAST: ClassVar[Mapping[str, int]] = {**FedAvg.AT_LEAST, "q": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 in self.rates:
            raise IncompatibleError("QFedAvg divides by lr: choose lr > 0")

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        if self.q == 0:
            return super().fit(state, memory, ctx)
        loss = self.loss_on_arrival(state, ctx)
        gain = self.gain(loss)
        update = self.train(state, memory, ctx).update()
        length, lr = norm(update.delta.values()), self.rate(ctx.step.round)
        bound = torch.tensor(gain + self.q * loss ** (self.q - 1) * length**2 / lr, dtype=torch.float64)
        delta = {name: value * gain for name, value in update.delta.items()}
        return replace(update, delta=delta, extra={**update.extra, "bound": {"bound": bound}}), memory

    def loss_on_arrival(self, state: State, ctx: Context) -> float:
        """F_k; raises TaskError where it is negative, for then it has no power q."""
        loss = ratio(evaluate(ctx, state.params, "train", metrics={})["loss"])
        if loss < 0:
            raise TaskError(
                f"the loss is {loss:g} before training, and QFedAvg raises it to the power q={self.q:g}: "
                "use a loss that is never negative, or another strategy"
            )
        return max(loss, LEAST_LOSS)

    def gain(self, loss: float) -> float:
        """F_k^q; raises TaskError where it is too large for a number."""
        try:
            return float(loss**self.q)
        except OverflowError as error:
            raise TaskError(
                f"the loss {loss:g} to the power q={self.q:g} is no number: choose a smaller q, or a better start"
            ) from error

    def extra_groups(self, trainable: Tensors) -> Groups:
        return {"bound": {"bound": torch.zeros((), dtype=torch.float64)}} if self.q else {}

    def aggregate(self, state: State, updates: Iterable[Update], ctx: Context) -> State:
        mean = ctx.combine(updates)
        if self.q == 0:
            return self.advance(state, mean)
        bound = float(mean.extra["bound"]["bound"])
        return self.advance(state, replace(mean, delta={name: value / bound for name, value in mean.delta.items()}))
