"""Measuring one model on many silos' rows: one forward pass, then each silo's own sums."""

import copy
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from fl_kit.batches import EVALUATION_BATCH, Rows, call, pick
from fl_kit.errors import FlKitError, Stopped
from fl_kit.local import checked
from fl_kit.protocols import Context
from fl_kit.randomness import seeded
from fl_kit.tensors import Tensors
from sim.engines.stacked.losses import row_losses
from sim.engines.stacked.probe import near
from sim.engines.stacked.reasons import Unstackable
from sim.engines.stacked.rows import Packed

Silo = tuple[str, Rows]
NONE = torch.zeros(0, dtype=torch.float64)
"""In the place of the sums of no rows, which nobody reads."""


def measured(
    ctx: Context, params: Tensors, silos: Sequence[Silo], metrics: Mapping[str, Any], check: Callable[[], None]
) -> dict[str, Tensors] | None:
    """Silo → its sums, as `fl_kit.local.evaluate` gives them; None where each has to be measured alone.

    That is so for a model whose outputs hang on the other rows of a batch or on random draws, and where anything
    goes wrong: then the silo at fault says so itself.
    """
    try:
        packed = Packed.of(silos)
        outputs = all_outputs(ctx, params, packed, check)
        if outputs is None:
            return None
        sums = {"loss": loss_sums(ctx, outputs, packed)}
        sums |= {name: metric_sums(metric, outputs, packed) for name, metric in metrics.items()}
        found: dict[str, Tensors] = {}
        for place, ((silo, _), size) in enumerate(zip(silos, packed.sizes, strict=True)):
            found[silo] = {name: each[place] for name, each in sums.items() if size or name == "loss"}
        return found
    except Stopped:
        raise
    except (Unstackable, FlKitError, RuntimeError, TypeError, ValueError, IndexError):
        return None


def all_outputs(ctx: Context, params: Tensors, packed: Packed, check: Callable[[], None]) -> Tensor | None:
    """The model's outputs for all rows, if they are those that the first silo's rows have alone."""
    model, total = ctx.model, len(packed.targets)
    model.load(params)
    model.training(False)
    module = model.module
    found = []
    with torch.no_grad(), seeded(ctx.seed, "evaluation") as draws:
        for first in range(0, total, EVALUATION_BATCH):
            check()
            found.append(call(module, pick(packed.inputs, slice(first, first + EVALUATION_BATCH))))
        if not all(isinstance(each, Tensor) for each in found):
            return None
        outputs = torch.cat(found)
        alone = call(module, pick(packed.inputs, slice(0, min(packed.sizes[0], EVALUATION_BATCH))))
    if draws.drew or len(outputs) != total or not near([outputs[: len(alone)]], [alone]):
        return None
    return outputs


def loss_sums(ctx: Context, outputs: Tensor, packed: Packed) -> Sequence[Tensor]:
    """Each silo's Σ loss·rows and Σ rows, float64."""
    rows = row_losses(in_float64(ctx.task.loss), outputs, packed.targets)
    if rows is not None:
        targets = packed.targets.cpu()
        each = rows(outputs.cpu().double(), targets.double() if targets.is_floating_point() else targets)
        return by_silo(torch.stack([each, torch.ones_like(each)], dim=1), packed)
    return [one_by_one(ctx, outputs[rows], packed.targets[rows]) for rows in packed.slices()]


def one_by_one(ctx: Context, outputs: Tensor, targets: Tensor) -> Tensor:
    """The same for one silo, in the batches that it has alone."""
    total = 0.0
    for first in range(0, len(targets), EVALUATION_BATCH):
        rows = slice(first, first + EVALUATION_BATCH)
        total += float(checked(ctx.measure_loss(outputs[rows], targets[rows]))) * len(targets[rows])
    return torch.tensor([total, len(targets)], dtype=torch.float64)


def in_float64(loss: Any) -> Any:
    """A loss of torch's own on the CPU and in float64, as `fl_kit.local.measuring` has it; any other as it is."""
    return copy.deepcopy(loss).cpu().double() if isinstance(loss, nn.Module) else loss


def metric_sums(metric: Any, outputs: Tensor, packed: Packed) -> Sequence[Tensor]:
    """A metric's sums of each silo."""
    if isinstance(rows := getattr(metric, "row_sums", None), MethodType):
        return by_silo(rows(outputs, packed.targets), packed)
    return [
        metric.sums(outputs[rows], packed.targets[rows]) if rows.stop > rows.start else NONE for rows in packed.slices()
    ]


def by_silo(rows: Tensor, packed: Packed) -> Sequence[Tensor]:
    """Sums over each silo's own rows of (rows, sums)."""
    silo = torch.repeat_interleave(torch.arange(len(packed.sizes)), torch.tensor(packed.sizes))
    return rows.new_zeros(len(packed.sizes), rows.shape[1]).index_add(0, silo, rows).unbind()
