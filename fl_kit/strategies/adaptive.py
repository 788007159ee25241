"""What FedAdagrad, FedAdam and FedYogi share: an adaptive optimiser at the orchestrator.

Reddi et al. 2021, "Adaptive Federated Optimization", arXiv 2003.00295, Algorithm 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fl_kit.errors import IncompatibleError
from fl_kit.messages import Groups, State
from fl_kit.protocols import Context
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.tensors import Tensors, accumulator


@dataclass(frozen=True, kw_only=True)
class Adaptive(FedAvg):
    """FedAvg whose orchestrator gives each parameter a step size of its own, from the squares of its past deltas.

        delta = Σ n_k·delta_k / Σ n_k
        m     ← beta_1·m + (1 − beta_1)·delta                 from 0
        v     ← `second_moment` of v and delta²               from tau²
        w     ← w + server_lr · m / (√v + tau)

    All per parameter. There is no bias correction: the paper has none, since v starts at tau² and not at 0.
    Buffers are averaged. Missing silos need no care: m and v are of the mean that arrived.

    beta_1     how much of m lives on, 0 ≤ beta_1 < 1; the paper's β_1
    tau        above 0: how little adaptive it is. A delta far below tau moves w by about server_lr·delta / (2·tau);
               the paper found 1e-3 good throughout
    server_lr  the paper's η. While a parameter's deltas stay alike m / (√v + tau) is about 1, so this is how far it
               moves in a round, however small its deltas are: the first setting to tune, by factors of 3
    """

    server_lr: float = 0.1
    beta_1: float = 0.9
    tau: float = 1e-3
    AT_LEAST: ClassVar[Mapping[str, int]] = {**FedAvg.AT_LEAST, "beta_1": 0, "tau": 0}
    BELOW_ONE: ClassVar[frozenset[str]] = FedAvg.BELOW_ONE | {"beta_1"}

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        if self.tau == 0:
            raise IncompatibleError(f"{name}(tau={self.tau}): must be above 0, or a parameter at rest gives 0/0")
        if self.server_momentum:
            raise IncompatibleError(f"{name}(server_momentum={self.server_momentum}): its momentum is beta_1; use that")

    def init(self, params: Tensors, ctx: Context) -> State:
        like = {name: params[name] for name in ctx.model.trainable}
        m = {name: torch.zeros_like(value, dtype=accumulator(value)) for name, value in like.items()}
        v = {name: torch.full_like(value, self.tau**2, dtype=accumulator(value)) for name, value in like.items()}
        return State(round=0, params=params, memory={"first_moment": m, "second_moment": v})

    def direction(self, delta: Tensors, memory: Groups) -> tuple[Tensors, Groups]:
        m = {name: self.first_moment(memory["first_moment"][name], value) for name, value in delta.items()}
        v = {name: self.second_moment(memory["second_moment"][name], value.square()) for name, value in delta.items()}
        step = {name: value / (v[name].sqrt() + self.tau) for name, value in m.items()}
        return step, {"first_moment": m, "second_moment": v}

    def first_moment(self, m: Tensor, delta: Tensor) -> Tensor:
        return self.beta_1 * m + (1 - self.beta_1) * delta

    def second_moment(self, v: Tensor, squared: Tensor) -> Tensor:
        """The next v, from the last one and delta²; what tells the three apart."""
        raise IncompatibleError(f"{type(self).__name__} defines no second_moment(v, squared): define it")
