"""FedAvg: local training, then the mean by number of rows; with momentum at the orchestrator it is FedAvgM.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv 1602.05629, Algorithm 1.
Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
arXiv 1909.06335, equation 3 (its Δw is −delta).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from fl_kit.local import LocalResult, LocalSettings, train
from fl_kit.messages import Groups, Memory, State, Update
from fl_kit.participation import Participants
from fl_kit.plan import Plan
from fl_kit.protocols import Context, Correction
from fl_kit.silo import Federation
from fl_kit.strategies.rounds import rounds_plan
from fl_kit.strategies.settings import as_schedule, check_numbers, rate_of
from fl_kit.tensors import Tensors, add_scaled


@dataclass(frozen=True, kw_only=True)
class FedAvg:
    """Silos train from the global model; their changes are averaged by number of rows.

        in silo k:        delta_k = w_k − w     after `epochs` epochs (or `steps` steps) of SGD from w
        at orchestrator:  velocity ← server_momentum·velocity + Σ n_k·delta_k / Σ n_k
                          w ← w + server_lr · velocity

    epochs           passes over the silo's rows per round; the paper's E
    steps            gradient steps per round instead of epochs; None means epochs
    batch_size       rows per step; the paper's B
    lr               the silo's learning rate; the paper's η. A tuple has one value a round (see fl_kit.schedules)
    momentum         of the silo's SGD, 0 ≤ momentum < 1; starts afresh each round
    weight_decay     L2 penalty of the silo's SGD
    shuffle          whether a silo's rows are shuffled each epoch, from the seed, the silo and the round
    server_lr        1 is the paper's average
    server_momentum  how much of the velocity lives on, 0 ≤ server_momentum < 1; above 0 it is FedAvgM, often 0.9. With
                     a server_lr of 1 − server_momentum a steady drift moves as fast as without. At 0 none is kept

    Raises IncompatibleError for a setting out of its range.
    """

    epochs: int = 1
    steps: int | None = None
    batch_size: int = 32
    lr: float | tuple[float, ...] = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    shuffle: bool = True
    server_lr: float = 1.0
    server_momentum: float = 0.0

    corrects_gradients: ClassVar[bool] = False
    inspects_individuals: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    needs_mean: ClassVar[bool] = False

    AT_LEAST: ClassVar[Mapping[str, int]] = {
        "epochs": 1, "steps": 1, "batch_size": 1, "lr": 0, "momentum": 0, "weight_decay": 0, "server_lr": 0,
        "server_momentum": 0,
    }  # fmt: skip
    BELOW_ONE: ClassVar[frozenset[str]] = frozenset({"momentum", "server_momentum"})
    WHOLE: ClassVar[frozenset[str]] = frozenset({"epochs", "steps", "batch_size"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", as_schedule(self.lr))
        check_numbers(self, self.AT_LEAST, self.BELOW_ONE, self.WHOLE)

    @property
    def rates(self) -> tuple[float, ...]:
        """Every learning rate that a round may have."""
        return self.lr if isinstance(self.lr, tuple) else (self.lr,)

    def rate(self, round: int) -> float:
        """The learning rate of a round, counted from 1; what a strategy reads instead of lr."""
        return rate_of(type(self).__name__, self.lr, round)

    def in_round(self, round: int) -> LocalSettings:
        """Itself with the learning rate of that round."""
        return cast(LocalSettings, replace(self, lr=self.rate(round)) if isinstance(self.lr, tuple) else self)

    def plan(
        self, federation: Federation, rounds: int, *, measure: bool, participants: Participants | None = None
    ) -> Plan:
        return rounds_plan(federation, rounds, measure=measure, remember=self.remembers, participants=participants)

    def init(self, params: Tensors, ctx: Context) -> State:
        return State(round=0, params=params)

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        return self.train(state, memory, ctx).update(), memory

    def train(self, state: State, memory: Memory | None, ctx: Context) -> LocalResult:
        """Local training with this strategy's correction."""
        correction = None
        if self.corrects_gradients:
            correction = self.correction(
                [state.params[n].to(ctx.device) for n in ctx.model.trainable], state, memory, ctx
            )
        return train(ctx, state.params, self.in_round(ctx.step.round), correction)

    def correction(self, start: list[Tensor], state: State, memory: Memory | None, ctx: Context) -> Correction | None:
        """How each gradient is changed; None where it stays. `start` are the trainable parameters on arrival.

        In the model's order. Called only where `corrects_gradients` is set.
        """
        raise NotImplementedError(f"{type(self).__name__} sets corrects_gradients and defines no correction")

    def aggregate(self, state: State, updates: Iterable[Update], ctx: Context) -> State:
        return self.advance(state, ctx.combine(updates))

    def advance(self, state: State, mean: Update) -> State:
        """The next state: a step along the mean update, as the server's own optimiser takes it."""
        step, memory = self.direction(mean.delta, state.memory)
        return State(round=state.round + 1, params=self.move(state.params, replace(mean, delta=step)), memory=memory)

    def direction(self, delta: Tensors, memory: Groups) -> tuple[Tensors, Groups]:
        """Where the step of this round goes for that mean delta, and the orchestrator's memory after it."""
        if not self.server_momentum:
            return delta, memory
        if last := memory.get("velocity"):
            delta = {name: torch.add(value, last[name], alpha=self.server_momentum) for name, value in delta.items()}
        return delta, {**memory, "velocity": delta}

    def move(self, params: Tensors, mean: Update) -> Tensors:
        """The global parameters after a step along the mean update; buffers are averaged, whatever server_lr."""
        return add_scaled(add_scaled(params, mean.delta, self.server_lr), mean.extra.get("buffers", {}))

    def evaluate(self, state: State, memory: Memory | None, ctx: Context) -> Tensors:
        return ctx.evaluate(state.params)
