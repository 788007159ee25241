"""How much each silo counts: for strategies whose orchestrator sums over silos that a round may lack."""

import math
from collections.abc import Iterable, Iterator

import torch

from fl_kit.messages import Update
from fl_kit.tensors import Tensors


def noting_weights(updates: Iterable[Update], weights: Tensors) -> Iterator[Update]:
    """The same updates, while each silo's weight is noted."""
    for update in updates:
        weights[update.silo] = torch.tensor(update.weight, dtype=torch.float64)
        yield update
        del update  # or it would live on while the next silo trains


def as_combined(noted: Tensors, mean: Update) -> Tensors:
    """The weights with which the mean was taken: those noted, or 1 each where every silo counts alike."""
    if math.isclose(mean.weight, sum_of(noted)):
        return noted
    return {silo: torch.ones_like(weight) for silo, weight in noted.items()}


def sum_of(weights: Tensors) -> float:
    return sum(float(weight) for weight in weights.values())
