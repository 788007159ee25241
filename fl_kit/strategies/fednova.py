"""FedNova: normalised averaging, for silos that take unequal numbers of steps.

Wang et al. 2020, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
arXiv 2007.07481, equation 7 and section 4.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fl_kit.errors import IncompatibleError, MessageError
from fl_kit.messages import Groups, Memory, State, Update
from fl_kit.protocols import Context
from fl_kit.strategies.fedprox import FedProx
from fl_kit.tensors import Tensors, accumulator


@dataclass(frozen=True, kw_only=True)
class FedNova(FedProx):
    """FedAvg in which a silo counts by its rows alone, and not by how many steps it takes as well.

    After τ_k steps delta_k is −lr · Σ_j a_kj·(gradient at step j). In FedAvg silo k therefore counts n_k·‖a_k‖₁, and
    what is minimised is another objective than Σ n_k·F_k. Here

        in silo k:        length_k = ‖a_k‖₁ = Σ_{j=1..τ_k} (1 − momentum^j) / (1 − momentum) · (1 − lr·mu)^(j−1)
        at orchestrator:  length = Σ n_k·length_k / Σ n_k                            the paper's τ_eff
                          w ← w + server_lr · length · Σ n_k·(delta_k / length_k) / Σ n_k

    length_k is τ_k for plain SGD. Silos that take equally many steps give FedAvg, or FedProx, to the bit.

    Exact for plain SGD, and for momentum or mu alone, the paper's cases; both together have no a_k there, and are
    refused. weight_decay is part of F_k. Drift remains: the minimum is exact as lr → 0 (see Scaffold, FedDyn).

    mu  strength of FedProx's penalty, 0 ≤ mu ≤ 1/lr; 0, the default, is none

    >>> job = Job(task=heart, strategy=FedNova(lr=0.1, epochs=5), rounds=20)
    """

    mu: float = 0.0
    needs_mean: ClassVar[bool] = True
    needs_sgd: ClassVar[bool] = True
    inspects_individuals: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum and self.mu:
            raise IncompatibleError(
                f"FedNova(momentum={self.momentum}, mu={self.mu}): the paper normalises either alone; set one to 0"
            )
        if (lr := max(self.rates)) * self.mu > 1:
            raise IncompatibleError(f"FedNova(mu={self.mu}): must be at most 1/lr = {1 / lr:g}, or steps overshoot")

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        result = self.train(state, memory, ctx)
        update = result.update()
        length = torch.tensor(self.length(result.steps, self.rate(ctx.step.round)), dtype=torch.float64)
        return replace(update, extra={**update.extra, "steps": {"length": length}}), memory

    def length(self, steps: int, lr: float) -> float:
        """‖a_k‖₁ of that many steps; each factor is 1 where its setting is 0."""
        shrink = 1 - lr * self.mu
        return sum((1 - self.momentum**j) / (1 - self.momentum) * shrink ** (j - 1) for j in range(1, steps + 1))

    def extra_groups(self, trainable: Tensors) -> Groups:
        return {"steps": {"length": torch.zeros((), dtype=torch.float64)}}

    def aggregate(self, state: State, updates: Iterable[Update], ctx: Context) -> State:
        mean = ctx.combine(normalised(updates))
        length = 1 + float(mean.extra["steps"]["length"])
        delta = {name: value * length for name, value in mean.delta.items()}
        return self.advance(state, replace(mean, delta=delta))


def normalised(updates: Iterable[Update]) -> Iterator[Update]:
    """The updates for first/length_k of a silo's steps, `first` being the length_k of the first that arrived.

    So equal lengths leave every bit as it is. Each tells by how much its length differs from `first`, relative to
    it: their mean is exactly 0 where all are equal, and length/first − 1 in general.
    """
    first = None
    for update in updates:
        length = float(update.extra["steps"]["length"])
        if not length > 0:
            raise MessageError(f"the update of {update.silo} rests on steps of length {length}; it must be above 0")
        first = first or length
        more = torch.tensor(length / first - 1, dtype=torch.float64)
        delta = update.delta if length == first else scaled(update.delta, first / length)
        yield replace(update, delta=delta, extra={**update.extra, "steps": {"length": more}})
        del update, delta  # or they would live on while the next silo trains


def scaled(tensors: Tensors, factor: float) -> Tensors:
    """`factor·tensors`, at least in float32."""
    return {name: value.to(accumulator(value)) * factor for name, value in tensors.items()}
