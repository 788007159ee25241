"""Looks at one silo's first batch, as it is trained alone, before silos are trained together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fl_kit.batches import TensorRows, call, pick
from fl_kit.local import checked
from fl_kit.protocols import Context
from fl_kit.randomness import seeded
from fl_kit.tensors import Tensors
from sim.engines.stacked.model import buffers_now
from sim.engines.stacked.reasons import Unstackable

LOOKED_AT = 16
"""Rows that are looked at."""
CLOSE = 1e-3
"""Two gradients are the same function's if they differ by less, relative to their norm: rounding is far below."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was seen.

    outputs        of the batch
    bytes_per_row  of memory that a step holds beside the parameters and the rows
    apart          whether a row's outputs hang on that row alone, so that a batch may be filled up
    """

    outputs: Any
    bytes_per_row: int
    apart: bool

    @classmethod
    def of(cls, ctx: Context, start: Tensors, rows: TensorRows) -> "Probe":
        """From a silo's first rows; the model holds `start` afterwards.

        Raises Unstackable for a model that draws random numbers in training, or changes its own buffers.
        """
        model, first = ctx.model, torch.arange(min(len(rows), LOOKED_AT))
        (inputs, targets), longer = rows_at(rows, first), torch.cat([first, first[-1:].expand(len(first))])
        model.load(start)
        model.changed()
        model.training(True)
        before, saved = buffers_now(model), Saved(model.module)
        with seeded(ctx.seed, "probe") as draws:
            with torch.autograd.graph.saved_tensors_hooks(saved.note, lambda tensor: tensor):
                outputs = call(model.module, inputs)
                checked(ctx.loss(outputs, targets))
            with torch.no_grad():
                again = call(model.module, rows_at(rows, longer)[0])
        if draws.drew:
            raise Unstackable(
                f"the model draws random numbers in training{kinds(model.module, DRAWING)}", everywhere=True
            )
        if moved := [name for name, now in buffers_now(model).items() if before.get(name) != now]:
            kind = kinds(model.module, (nn.modules.batchnorm._NormBase,))
            raise Unstackable(f"the model changes its buffer {moved[0]!r} in training{kind}", everywhere=True)
        model.load(start)
        return cls(
            outputs=outputs.detach() if isinstance(outputs, Tensor) else outputs,
            bytes_per_row=-(-saved.bytes // len(targets)),
            apart=len(targets) > 1 and alike(outputs, again, len(targets)),  # beside itself alone a row tells nothing
        )


DRAWING = (nn.modules.dropout._DropoutNd, nn.RReLU)


def kinds(module: nn.Module, wanted: tuple[type[nn.Module], ...]) -> str:
    """The classes of those layers, in brackets; empty where the model has none."""
    found = {type(part).__name__: None for part in module.modules() if isinstance(part, wanted)}
    return f" ({', '.join(found)})" if found else ""


class Saved:
    """Counts the bytes that autograd keeps for the backward pass, without those of the model itself."""

    def __init__(self, module: nn.Module) -> None:
        own = [*module.parameters(), *module.buffers()]
        self._seen = {value.untyped_storage().data_ptr() for value in own}
        self.bytes = 0

    def note(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._seen:
            self._seen.add(place)
            self.bytes += tensor.numel() * tensor.element_size()
        return tensor


def alike(outputs: Any, longer: Any, rows: int) -> bool:
    """Whether the first rows' outputs are the same with more rows behind them, but for rounding."""
    if not (isinstance(outputs, Tensor) and isinstance(longer, Tensor)) or longer.shape[1:] != outputs.shape[1:]:
        return False
    return len(outputs) == rows and near([outputs], [longer[:rows]])


def near(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether two lists of tensors differ by rounding only."""
    off, size = (sum(float(t.detach().double().square().sum()) for t in each) for each in (
        [a - b for a, b in zip(found, expected, strict=True)], expected
    ))  # fmt: skip
    return off <= CLOSE**2 * size


def rows_at(rows: TensorRows, numbers: Tensor) -> tuple[Any, Tensor]:
    """Inputs and targets of these rows."""
    numbers = numbers.to(rows.targets.device)
    return pick(rows.inputs, numbers), rows.targets[numbers]


def gradient(ctx: Context, start: Tensors, inputs: Any, targets: Tensor) -> list[Tensor | None]:
    """What one batch gives alone, for each trainable parameter; None where one takes no part."""
    ctx.model.load(start)
    ctx.model.changed()
    ctx.model.training(True)
    loss = checked(ctx.loss(call(ctx.model.module, inputs), targets))
    return list(torch.autograd.grad(loss, list(ctx.model.trainable.values()), allow_unused=True))
