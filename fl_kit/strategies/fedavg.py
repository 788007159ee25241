"""FedAvg: local training, then the mean by number of rows; with momentum at the orchestrator it is FedAvgM.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv 1602.05629, Algorithm 1.
Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
arXiv 1909.06335, equation 3 (its Δw is −delta).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from fl_kit.messages import Groups, Memory, State, Update
from fl_kit.participation import Participants
from fl_kit.plan import Plan
from fl_kit.protocols import Context
from fl_kit.silo import Federation
from fl_kit.strategies.local_training import LocalTraining
from fl_kit.strategies.rounds import rounds_plan
from fl_kit.tensors import Tensors, add_scaled


@dataclass(frozen=True, kw_only=True)
class FedAvg(LocalTraining):
    """Silos train from the global model; their changes are averaged by number of rows.

        in silo k:        delta_k = w_k − w     after `epochs` epochs (or `steps` steps) of SGD from w
        at orchestrator:  velocity ← server_momentum·velocity + Σ n_k·delta_k / Σ n_k
                          w ← w + server_lr · velocity

    epochs              passes over the silo's rows per round; the paper's E
    steps               gradient steps per round instead of epochs; None means epochs
    batch_size          rows per step; the paper's B
    lr                  the silo's learning rate; the paper's η. A tuple has one value a round (see fl_kit.schedules)
    momentum            of the silo's SGD, 0 ≤ momentum < 1; starts afresh each round
    weight_decay        L2 penalty of the silo's SGD
    shuffle             whether a silo's rows are shuffled each epoch, from the seed, the silo and the round
    optimizer           the silo's, by its name in torch.optim: SGD, AdamW … lr is its learning rate
    optimizer_settings  its further settings: {"betas": (0.9, 0.99)}
    optimizer_state     "reset": the optimiser starts afresh each round; "kept": a silo goes on with its own momenta, as
                        private memory that never leaves it
    server_lr           1 is the paper's average
    server_momentum     how much of the velocity lives on, 0 ≤ server_momentum < 1; above 0 it is FedAvgM, often 0.9.
                        With a server_lr of 1 − server_momentum a steady drift moves as fast as without. At 0 none is
                        kept

    Raises IncompatibleError for a setting out of its range.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1, epochs=2), rounds=20)
    """

    server_lr: float = 1.0
    server_momentum: float = 0.0

    inspects_individuals: ClassVar[bool] = False
    remembers: ClassVar[bool] = False
    needs_mean: ClassVar[bool] = False
    personal: ClassVar[bool] = False

    AT_LEAST: ClassVar[Mapping[str, int]] = {**LocalTraining.AT_LEAST, "server_lr": 0, "server_momentum": 0}
    BELOW_ONE: ClassVar[frozenset[str]] = LocalTraining.BELOW_ONE | {"server_momentum"}

    def plan(
        self, federation: Federation, rounds: int, *, measure: bool, participants: Participants | None = None
    ) -> Plan:
        remember = self.remembers or self.optimizer_state == "kept"
        return rounds_plan(federation, rounds, measure=measure, remember=remember, participants=participants)

    def init(self, params: Tensors, ctx: Context) -> State:
        return State(round=0, params=params)

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        result = self.train(state, memory, ctx)
        return result.update(), Memory(tensors=result.kept) if result.kept else memory

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
        return ctx.evaluate(self.start(state, memory))

    def check_model(self, make: Callable[[], nn.Module]) -> None:
        """Raise IncompatibleError for a model that the strategy cannot do with; this one does with any."""

    def private(self, module: nn.Module) -> frozenset[str]:
        """The names of the parameters and buffers that never leave a silo."""
        return frozenset()

    def extra_groups(self, trainable: Tensors) -> Groups:
        """The groups that an update has beside `delta` and the buffers; this one's has none."""
        return {}
