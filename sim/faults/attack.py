"""What an attack is: a silo that lies in its update, or in its rows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from fl_kit.errors import IncompatibleError
from fl_kit.messages import Update
from fl_kit.tensors import Tensors, cast_like

Knows = Literal["own", "colluders", "all"]
"""What an attacker goes by: its own honest update, those of all silos with the very same attack, or those of all
silos that have none."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What one attacker has before it in a round.

    seed     of the job
    step     id of its fit step; seed and step are what its randomness follows from
    silos    how many silos delivered
    bad      how many of them make the very same attack
    updates  the honest updates that it knows, in silo order
    """

    seed: int
    step: str
    silos: int
    bad: int
    updates: Sequence[Update]


class UpdateAttack(ABC):
    """Sends another `delta` than it trained. Weight, extra groups and metrics stay those of honest training."""

    knows: Knows = "own"

    @abstractmethod
    def lie(self, own: Update, known: Known) -> Tensors:
        """The delta to send; `own` is the honest update and must not change."""


class DataAttack(ABC):
    """Trains on other rows than it has; its test rows stay honest."""

    @abstractmethod
    def poison(self, found: Any, silo: str) -> Any:
        """The rows to train on, in the form in which the task's `data` gave them."""


Attack = UpdateAttack | DataAttack


def told(own: Update, lie: Tensors) -> Update:
    """The update with the lie in place of its delta, in the dtypes of the model."""
    return replace(own, delta={name: cast_like(lie[name], like) for name, like in own.delta.items()})


def each(own: Update, change: Callable[[Tensor], Tensor]) -> Tensors:
    """The own delta with every tensor changed."""
    return {name: change(value) for name, value in own.delta.items()}


def check_knows(attack: Any) -> None:
    """Raise IncompatibleError for a setting `knows` that there is not."""
    if attack.knows not in ("colluders", "all"):
        raise IncompatibleError(f"{type(attack).__name__}(knows={attack.knows!r}): must be 'colluders' or 'all'")


def check_number(attack: Any, name: str) -> None:
    """Raise IncompatibleError for a setting that is no finite number."""
    value = getattr(attack, name)
    if not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise IncompatibleError(f"{type(attack).__name__}({name}={value!r}): must be a number")
