"""The checks of a strategy's settings, and the learning rate as one number or one a round."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fl_kit.errors import IncompatibleError

OPTIONAL = frozenset({"steps"})
"""Settings that may be None."""


def check_numbers(strategy: Any, at_least: Mapping[str, int], below_one: Iterable[str], whole: Iterable[str]) -> None:
    """Raise IncompatibleError for the first setting that is no number, or out of its range.

    A tuple, as lr may be, is looked at number by number.
    """
    kind = type(strategy).__name__
    for name, least in at_least.items():
        value = getattr(strategy, name)
        if name in OPTIONAL and value is None:
            continue
        kinds, number = ((int,), "whole number") if name in whole else ((int, float), "number")
        if value == ():
            raise IncompatibleError(f"{kind}({name}=()): a schedule needs one value a round")
        for one in value if name == "lr" and isinstance(value, tuple) else (value,):
            if not isinstance(one, kinds) or not least <= one < math.inf:
                raise IncompatibleError(f"{kind}({name}={value!r}): must be a {number} of at least {least}")
    for name in sorted(below_one):
        if getattr(strategy, name) >= 1:
            raise IncompatibleError(f"{kind}({name}={getattr(strategy, name)}): must be below 1")


def as_schedule(lr: Any) -> Any:
    """A list of learning rates, or anything else with numbers in a row, as the tuple that is kept."""
    return lr if isinstance(lr, int | float | str | tuple) or not isinstance(lr, Iterable) else tuple(lr)


def rate_of(strategy: str, lr: float | tuple[float, ...], round: int) -> float:
    """The learning rate of a round, counted from 1; raises IncompatibleError for a schedule that has ended."""
    if not isinstance(lr, tuple):
        return lr
    if round > len(lr):
        raise IncompatibleError(f"{strategy}(lr=…): a schedule of {len(lr)} rounds has no rate for round {round}")
    return lr[round - 1]
