"""SCAFFOLD: control variates against client drift.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
arXiv 1910.06378, Algorithm 1 with option II.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from fl_kit.corrections import AffineCorrection
from fl_kit.errors import IncompatibleError
from fl_kit.messages import Groups, Memory, State, Update
from fl_kit.protocols import Context, Correction
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.strategies.weights import as_combined, noting_weights, sum_of
from fl_kit.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class Scaffold(FedAvg):
    """Control variates that take out client drift.

        each step in silo k:  w_k ← w_k − lr · (∇F_k(w_k) − c_k + c)
        after K steps:        c_k⁺ = c_k − c + (w − w_k) / (K·lr)
        sent:                 delta_k = w_k − w,   control_k = c_k⁺ − c_k
        at orchestrator:      w ← w + server_lr · Σ n_k·delta_k / Σ n_k
                              c = Σ n_k·c_k / Σ n_k     over every silo heard of so far

    The paper's silos count alike (n_k = 1, so c ← c + |S|/N · mean of control_k; so they do under
    Mean(weighted=False)); with n_k rows both means carry the weights of the objective Σ n_k·F_k. c_k stays in
    silo k as its private memory; the orchestrator keeps Σ n_k·c_k, so a silo that misses a round leaves c exact.

    Needs plain SGD: with momentum, (w − w_k)/(K·lr) is not the mean gradient.

    >>> job = Job(task=heart, strategy=Scaffold(lr=0.1, epochs=5), rounds=20)
    """

    corrects_gradients: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    needs_mean: ClassVar[bool] = True
    needs_sgd: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum:
            raise IncompatibleError("Scaffold and momentum exclude one another: set momentum=0 (see its docstring)")
        if 0 in self.rates:
            raise IncompatibleError("Scaffold divides by lr: choose lr > 0")

    def init(self, params: Tensors, ctx: Context) -> State:
        zero = {name: torch.zeros_like(params[name]) for name in ctx.model.trainable}
        return State(round=0, params=params, memory={"control_sum": zero, "weights": {}})

    def correction(self, start: list[Tensor], state: State, memory: Memory | None, ctx: Context) -> Correction:
        c, c_k = control(state), own_control(state, memory)
        return AffineCorrection(shift=[(c[name] - c_k[name]).to(ctx.device) for name in ctx.model.trainable])

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        result, lr = self.train(state, memory, ctx), self.rate(ctx.step.round)
        update, c, c_k = result.update(), control(state), own_control(state, memory)
        change = {name: -c[name] - update.delta[name] / (result.steps * lr) for name in c}
        kept = Memory(tensors={"control": {name: c_k[name] + change[name] for name in c}})
        sent = Update(
            delta=update.delta, weight=update.weight, extra={**update.extra, "control": change}, metrics=update.metrics
        )
        return sent, kept

    def extra_groups(self, trainable: Tensors) -> Groups:
        return {"control": trainable}

    def aggregate(self, state: State, updates: Iterable[Update], ctx: Context) -> State:
        present: Tensors = {}
        mean = ctx.combine(noting_weights(updates, present))
        present = as_combined(present, mean)
        total, change, weight = state.memory["control_sum"], mean.extra["control"], sum_of(present)
        after = self.advance(state, mean)
        memory = {
            **after.memory,
            "control_sum": {name: total[name] + change[name] * weight for name in total},
            "weights": {**state.memory.get("weights", {}), **present},
        }
        return replace(after, memory=memory)


def control(state: State) -> Tensors:
    """C = Σ n_k·c_k / Σ n_k over the silos heard of so far; zero before the first round."""
    heard = sum_of(state.memory.get("weights", {}))
    return {name: total / heard if heard else total for name, total in state.memory["control_sum"].items()}


def own_control(state: State, memory: Memory | None) -> Tensors:
    """c_k, zero before the silo's first round."""
    if memory is not None and memory.tensors:
        return memory.tensors["control"]
    return {name: torch.zeros_like(total) for name, total in state.memory["control_sum"].items()}
