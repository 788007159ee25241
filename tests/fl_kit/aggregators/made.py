"""Updates made up for the tests of aggregators."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from fl_kit.messages import Update

ROUND_3: Any = SimpleNamespace(step=SimpleNamespace(round=3))
"""All that an aggregator asks of its context."""


def update(value: Any, weight: float = 1.0, silo: str = "", **extra: Any) -> Update:
    """An update of one tensor `w`, and of one tensor `b` in each extra group."""
    return Update(
        delta={"w": torch.as_tensor(value)},
        weight=weight,
        extra={group: {"b": torch.as_tensor(given)} for group, given in extra.items()},
        silo=silo,
    )


def updates(*values: Any) -> list[Update]:
    """Updates of weight 1 from silos `s0`, `s1` …"""
    return [update(value, silo=f"s{place}") for place, value in enumerate(values)]


def combined(rule: Any, found: Sequence[Update]) -> Any:
    """What the rule gives for `w`, as numbers."""
    return result(rule, found).tolist()


def result(rule: Any, found: Sequence[Update]) -> Tensor:
    value: Tensor = rule(iter(found), ROUND_3).delta["w"]
    return value


def drawn(count: int, size: int, seed: int) -> list[Tensor]:
    """Standard normal vectors that follow from the seed, float64."""
    draws = torch.Generator().manual_seed(seed)
    return list(torch.randn(count, size, generator=draws, dtype=torch.float64))
