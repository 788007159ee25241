"""What strategies share in a silo: the settings of local training, their checks, and the training itself."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, cast

from torch import Tensor

from fl_kit.components import in_tuples
from fl_kit.errors import IncompatibleError
from fl_kit.local import LocalResult, LocalSettings, LossTerm, train
from fl_kit.messages import Memory, State
from fl_kit.optimizers import check_optimizer
from fl_kit.protocols import Context, Correction
from fl_kit.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """The silo's settings, as FedAvg's docstring explains them.

    AT_LEAST   setting → the least it may be      BELOW_ONE  settings below 1      WHOLE  settings that are whole
    needs_sgd  whether the strategy's equations hold for plain SGD only
    FIXED      settings that the strategy itself decides: they stay at their defaults
    """

    epochs: int = 1
    steps: int | None = None
    batch_size: int = 32
    lr: float | tuple[float, ...] = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    shuffle: bool = True
    optimizer: str = "SGD"
    optimizer_settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    optimizer_state: str = "reset"

    corrects_gradients: ClassVar[bool] = False
    needs_sgd: ClassVar[bool] = False

    AT_LEAST: ClassVar[Mapping[str, int]] = {
        "epochs": 1, "steps": 1, "batch_size": 1, "lr": 0, "momentum": 0, "weight_decay": 0,
    }  # fmt: skip
    BELOW_ONE: ClassVar[frozenset[str]] = frozenset({"momentum"})
    WHOLE: ClassVar[frozenset[str]] = frozenset({"epochs", "steps", "batch_size"})
    FIXED: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr", in_row(self.lr))
        object.__setattr__(self, "optimizer_settings", in_tuples(self.optimizer_settings))
        for each in fields(self):
            if each.name in self.FIXED and getattr(self, each.name) != each.default:
                raise IncompatibleError(
                    f"{type(self).__name__}({each.name}={getattr(self, each.name)!r}): the strategy itself decides "
                    f"that; leave out {each.name}"
                )
        for name, least in self.AT_LEAST.items():
            self._check_number(name, least)
        for name in sorted(self.BELOW_ONE):
            if getattr(self, name) >= 1:
                raise IncompatibleError(f"{type(self).__name__}({name}={getattr(self, name)}): must be below 1")
        check_optimizer(type(self).__name__, self.in_round(1), needs_sgd=self.needs_sgd)

    def _check_number(self, name: str, least: int) -> None:
        """A tuple, as lr may be, is looked at number by number."""
        kind, value = type(self).__name__, getattr(self, name)
        if name == "steps" and value is None:
            return
        if value == ():
            raise IncompatibleError(f"{kind}({name}=()): a schedule needs one value a round")
        kinds, number = ((int,), "whole number") if name in self.WHOLE else ((int, float), "number")
        for one in value if name == "lr" and isinstance(value, tuple) else (value,):
            if not isinstance(one, kinds) or not least <= one < math.inf:
                raise IncompatibleError(f"{kind}({name}={value!r}): must be a {number} of at least {least}")

    @property
    def rates(self) -> tuple[float, ...]:
        """Every learning rate that a round may have."""
        return self.lr if isinstance(self.lr, tuple) else (self.lr,)

    def rate(self, round: int) -> float:
        """The learning rate of a round, counted from 1; what a strategy reads instead of lr.

        Raises IncompatibleError for a schedule that has ended.
        """
        if not isinstance(self.lr, tuple):
            return self.lr
        if round > len(self.lr):
            raise IncompatibleError(
                f"{type(self).__name__}(lr=…): a schedule of {len(self.lr)} rounds has no rate for round {round}"
            )
        return self.lr[round - 1]

    def in_round(self, round: int) -> LocalSettings:
        """Itself with the learning rate of that round."""
        return cast(LocalSettings, replace(self, lr=self.rate(round)) if isinstance(self.lr, tuple) else self)

    def train(self, state: State, memory: Memory | None, ctx: Context) -> LocalResult:
        """Local training with this strategy's correction; an optimiser whose state is kept goes on from the memory."""
        if ctx.together is not None and (known := ctx.together.known(ctx)) is not None:
            return cast(LocalResult, known)
        correction = None
        if self.corrects_gradients:
            start = [state.params[name].to(ctx.device) for name in ctx.model.trainable]
            correction = self.correction(start, state, memory, ctx)
        term = self.loss_term(state, memory, ctx) if self.corrects_gradients else None
        return train(ctx, self.start(state, memory), self.in_round(ctx.step.round), correction, memory, term)

    def start(self, state: State, memory: Memory | None) -> Tensors:
        """The model that a silo trains from, and that it is measured with."""
        return state.params

    def loss_term(self, state: State, memory: Memory | None, ctx: Context) -> LossTerm | None:
        """What is added to the loss of each batch; None for nothing. Called only where `corrects_gradients` is set."""
        return None

    def correction(self, start: list[Tensor], state: State, memory: Memory | None, ctx: Context) -> Correction | None:
        """How each gradient is changed; None where it stays. `start` are the trainable parameters on arrival.

        In the model's order. Called only where `corrects_gradients` is set.
        """
        raise IncompatibleError(f"{type(self).__name__} sets corrects_gradients; define its correction(…)")


def in_row(lr: Any) -> Any:
    """Learning rates in a list, or in anything else that has them in a row, as a tuple."""
    return tuple(lr) if isinstance(lr, Iterable) and not isinstance(lr, str) else lr
