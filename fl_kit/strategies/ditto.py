"""Ditto: a personal model beside the global one.

Li et al. 2021, "Ditto: Fair and Robust Federated Learning Through Personalization", arXiv 2012.04221, Algorithm 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from torch import Tensor

from fl_kit.corrections import AffineCorrection
from fl_kit.errors import IncompatibleError
from fl_kit.local import LocalSettings, train
from fl_kit.messages import Memory, State, Update
from fl_kit.protocols import Context, Correction
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class Ditto(FedAvg):
    """FedAvg; and in each silo a model of its own, drawn towards the global one but never sent.

        in silo k:        delta_k as in FedAvg
                          v_k ← v_k − personal_lr · (∇F_k(v_k) + lam · (v_k − w))     w as it arrived
        at orchestrator:  as FedAvg: the global model is FedAvg's to the bit

    lam              how strongly v_k is held near w, at least 0. 0: each silo trains alone; large: the global model
    personal_lr      the learning rate of v_k; None means that of the round
    personal_epochs  passes over the silo's rows for v_k in each round; None means epochs (or steps)

    v_k starts from the first global model that reaches the silo, and is its private memory; an optimiser whose state
    is kept is that of the global model, v_k's starts afresh each round. Figures come twice: of
    the global model by their names, of the personal models as `personal_<metric>`. A silo trains and holds one
    model more, and each round costs it twice the passes.

    >>> job = Job(task=heart, strategy=Ditto(lam=0.1, lr=0.1), rounds=20)
    """

    lam: float = 0.1
    personal_lr: float | None = None
    personal_epochs: int | None = None
    corrects_gradients: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    personal: ClassVar[bool] = True
    AT_LEAST: ClassVar[Mapping[str, int]] = {**FedAvg.AT_LEAST, "lam": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least, kinds in (("personal_lr", 0, int | float), ("personal_epochs", 1, int)):
            value = getattr(self, name)
            number = isinstance(value, kinds) and not isinstance(value, bool) and least <= value < math.inf
            if value is not None and not number:
                whole = "a whole number" if kinds is int else "a number"
                raise IncompatibleError(f"Ditto({name}={value!r}): must be {whole} of at least {least}, or None")

    def correction(self, start: list[Tensor], state: State, memory: Memory | None, ctx: Context) -> Correction | None:
        return None  # of the global model; the personal one has its own, below

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        result = self.train(state, memory, ctx)
        arrived = [state.params[name].to(ctx.device) for name in ctx.model.trainable]
        hold = AffineCorrection(pull=self.lam, anchor=arrived)
        train(ctx, own_model(state, memory), self.personally(ctx.step.round), hold)
        return result.update(), Memory(tensors={**result.kept, "own": ctx.model.snapshot()})

    def personally(self, round: int) -> LocalSettings:
        """How v_k is trained in a round."""
        rate = self.rate(round) if self.personal_lr is None else self.personal_lr
        longer = self if self.personal_epochs is None else replace(self, epochs=self.personal_epochs, steps=None)
        return cast(LocalSettings, replace(longer, lr=rate))

    def evaluate(self, state: State, memory: Memory | None, ctx: Context) -> Tensors:
        own = ctx.evaluate(own_model(state, memory))
        return {**ctx.evaluate(state.params), **{f"personal_{name}": sums for name, sums in own.items()}}


def own_model(state: State, memory: Memory | None) -> Tensors:
    """v_k, or the global model before the silo's first round."""
    return memory.tensors["own"] if memory is not None and "own" in memory.tensors else state.params
