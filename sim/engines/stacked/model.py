"""One model with many silos' parameters: its forward pass under vmap."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from fl_kit.batches import call
from fl_kit.model_state import ModelState
from fl_kit.tensors import Tensors


class StackedModel:
    """The model's forward pass for silos that each have parameters of their own.

    names  of the tensors that differ from silo to silo
    """

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        self._module = module
        self._slots = slots(module, names)
        self._forward = vmap(self._one)

    def __call__(self, values: Sequence[Tensor], inputs: Any) -> Any:
        """Outputs (silos, rows, …), from values (silos, …) in the order of the names and inputs (silos, rows, …)."""
        return self._forward(list(values), inputs)

    def _one(self, values: list[Tensor], inputs: Any) -> Any:
        with in_place_of(self._slots, values):
            return call(self._module, inputs)


Slot = tuple[dict[str, Any], str, int]
"""A module's own table, a tensor's name in it, and which of the values goes there."""


def slots(module: nn.Module, names: Sequence[str]) -> list[Slot]:
    """Every place in which the named tensors stand; one that is shared between layers has several."""
    number = {name: i for i, name in enumerate(names)}
    found = dict(module.named_parameters()) | dict(module.named_buffers())
    whose = {id(found[name]): number[name] for name in names}
    places = []
    for part in module.modules():
        for table in (part._parameters, part._buffers):
            places += [(table, key, whose[id(value)]) for key, value in table.items() if id(value) in whose]
    return places


@contextmanager
def in_place_of(places: Sequence[Slot], values: Sequence[Tensor]) -> Iterator[None]:
    """Within the block the values stand where the model's own tensors were."""
    own = [table[key] for table, key, _ in places]
    try:
        for table, key, number in places:
            table[key] = values[number]
        yield
    finally:
        for (table, key, _), value in zip(places, own, strict=True):
            table[key] = value


def differing(starts: Sequence[Tensors], names: Sequence[str]) -> list[str]:
    """Those of the names whose tensors are not the very same in all starts."""
    first = starts[0]
    if all(start is first for start in starts):
        return []
    return [name for name in names if any(start[name] is not first[name] for start in starts)]


def stacked(starts: Sequence[Tensors], names: Sequence[str], device: torch.device) -> list[Tensor]:
    """Each named tensor of all starts, (silos, …), in memory of its own."""
    own = set(differing(starts, names))
    found = []
    for name in names:
        value = starts[0][name].to(device)
        whole = (
            torch.stack([start[name].to(device) for start in starts])
            if name in own
            else value.expand(len(starts), *value.shape)
        )
        found.append(whole.clone(memory_format=torch.contiguous_format))
    return found


def buffers_now(model: ModelState) -> Mapping[str, tuple[int, int]]:
    """Which tensor each buffer is, and how often it was written to: equal as long as nothing was."""
    return {name: (id(value), value._version) for name, value in model.module.named_buffers()}
