"""FedDyn: dynamic regularisation, so that the silos' minima and the federation's agree.

Acar et al. 2021, "Federated Learning Based on Dynamic Regularization", arXiv 2111.04263, Algorithm 1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from fl_kit.corrections import AffineCorrection
from fl_kit.errors import IncompatibleError
from fl_kit.messages import Memory, State, Update
from fl_kit.protocols import Context, Correction
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.strategies.weights import as_combined, noting_weights, sum_of
from fl_kit.tensors import Tensors, accumulator


@dataclass(frozen=True, kw_only=True)
class FedDyn(FedAvg):
    """Each silo's loss is tilted by the gradient it remembers, and held near the global model.

        in silo k:        minimise  F_k(w_k) − ⟨g_k, w_k⟩ + alpha/2 · ‖w_k − w‖²,  by SGD from w
                          so each step follows  ∇F_k(w_k) − g_k + alpha·(w_k − w)
                          g_k ← g_k − alpha·delta_k              with delta_k = w_k − w
        at orchestrator:  h = Σ n_k·g_k / Σ n_k                  over every silo heard of so far
                          w ← w + server_lr · (Σ n_k·delta_k / Σ n_k − h/alpha)

    Where it comes to rest delta_k = 0 and h = 0, that is ∇F_k(w) = g_k and Σ n_k·∇F_k(w) = 0: the exact minimum,
    however many local steps there are and however well they minimise.

    g_k stays in silo k as its private memory. The orchestrator keeps Σ n_k·g_k, from the deltas: a silo that misses
    a round keeps its part in h, and the mean of w_k is over those that delivered. The paper's silos count alike
    (Mean(weighted=False); then h ← h − alpha/m · Σ delta_k); with n_k rows both sums carry the weights of the
    objective Σ n_k·F_k. The paper's m counts silos not yet heard of, with g_k = 0; here a silo counts from its
    first update on, which is when the orchestrator learns its n_k. From when all are heard of, both are one.

    alpha  above 0; the paper used 0.001 to 0.1. Small: silos move freely and h/alpha does the work. Large: they
           stay close, and it becomes slow

    >>> job = Job(task=heart, strategy=FedDyn(alpha=0.1, lr=0.1), rounds=20)
    """

    alpha: float = 0.1
    corrects_gradients: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    needs_mean: ClassVar[bool] = True
    AT_LEAST: ClassVar[Mapping[str, int]] = {**FedAvg.AT_LEAST, "alpha": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha == 0:
            raise IncompatibleError(
                f"FedDyn(alpha={self.alpha}): must be above 0, for it divides; FedAvg is without it"
            )

    def init(self, params: Tensors, ctx: Context) -> State:
        zero = {n: torch.zeros_like(params[n], dtype=accumulator(params[n])) for n in ctx.model.trainable}
        return State(round=0, params=params, memory={"gradient_sum": zero, "weights": {}})

    def correction(self, start: list[Tensor], state: State, memory: Memory | None, ctx: Context) -> Correction:
        g_k = own_gradient(state, memory)
        remembered = [g_k[name].to(p) for name, p in zip(ctx.model.trainable, start, strict=True)]
        return AffineCorrection(pull=self.alpha, anchor=start, shift=torch._foreach_neg(remembered))

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        result, g_k = self.train(state, memory, ctx), own_gradient(state, memory)
        update = result.update()
        kept = {name: torch.sub(g_k[name], delta, alpha=self.alpha) for name, delta in update.delta.items()}
        return update, Memory(tensors={"gradient": kept, **result.kept})

    def aggregate(self, state: State, updates: Iterable[Update], ctx: Context) -> State:
        noted: Tensors = {}
        mean = ctx.combine(noting_weights(updates, noted))
        present = as_combined(noted, mean)
        weights = {**state.memory.get("weights", {}), **present}
        moved, heard = self.alpha * sum_of(present), sum_of(weights)
        total = {name: state.memory["gradient_sum"][name] - moved * delta for name, delta in mean.delta.items()}
        delta = {name: delta - total[name] / (heard * self.alpha) for name, delta in mean.delta.items()}
        after = self.advance(state, replace(mean, delta=delta))
        return replace(after, memory={**after.memory, "gradient_sum": total, "weights": weights})


def own_gradient(state: State, memory: Memory | None) -> Tensors:
    """g_k, zero before the silo's first round."""
    if memory is not None and memory.tensors:
        return memory.tensors["gradient"]
    return {name: torch.zeros_like(total) for name, total in state.memory["gradient_sum"].items()}
