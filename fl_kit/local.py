"""The one local training and evaluation loop."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from fl_kit.backward import backward
from fl_kit.batches import EVALUATION_BATCH, Rows
from fl_kit.errors import TaskError
from fl_kit.messages import Groups, Memory, Update
from fl_kit.optimizers import Optimizer, OptimizerSettings, optimizer_for
from fl_kit.protocols import Context, Correction
from fl_kit.randomness import generator
from fl_kit.tensors import Tensors

if TYPE_CHECKING:
    from fl_kit.metrics import Metric


class LocalSettings(OptimizerSettings, Protocol):
    """How a silo trains within one round; a strategy has these as its own fields."""

    @property
    def epochs(self) -> int: ...
    @property
    def steps(self) -> int | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def shuffle(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class LocalResult:
    """What local training leaves behind: the changes, and how many rows and steps they rest on."""

    delta: Tensors
    buffers: Tensors
    rows: int
    steps: int
    loss: Tensor
    """Σ loss·rows and Σ rows over the batches, float64."""
    kept: Groups = field(default_factory=dict)
    """The optimiser's state, for the silo's memory; empty where it starts afresh each round."""

    def update(self) -> Update:
        """The update that plain federated averaging sends."""
        extra = {"buffers": self.buffers} if self.buffers else {}
        return Update(delta=self.delta, weight=float(self.rows), extra=extra, metrics={"train_loss": self.loss})


@dataclass(frozen=True, kw_only=True)
class FitContext:
    """What a task's own `fit(model, data, context)` may use.

    round, silo   where it is
    device        where the model is
    settings      the strategy: epochs, lr, batch_size …
    generator     for shuffling; follows from the seed, the silo and the round
    """

    round: int
    silo: str
    device: torch.device
    settings: LocalSettings
    generator: torch.Generator
    _ctx: Context

    def check(self) -> None:
        """Raise Stopped if the run was asked to stop; call it once a batch."""
        self._ctx.check()


@dataclass(frozen=True, kw_only=True)
class LossTerm:
    """What a strategy adds to the loss of each batch.

    term   (inputs, outputs) → a scalar tensor; called after the model's forward pass, before the backward one
    close  called when training has ended, however it did
    """

    term: Callable[[Any, Tensor], Tensor]
    close: Callable[[], None] = lambda: None


def train(
    ctx: Context,
    start: Tensors,
    settings: LocalSettings,
    correction: Correction | None = None,
    memory: Memory | None = None,
    term: LossTerm | None = None,
) -> LocalResult:
    """Train the silo's model from `start` on its own rows.

    correction  changes each gradient before the step (FedProx, SCAFFOLD)
    memory      the silo's own, from which an optimiser whose state is kept goes on
    term        is added to the loss (MOON); the training loss is told without it

    Raises TaskError if the loss is not finite, or if there are no rows to train on.
    """
    if ctx.together is not None:
        return ctx.together.train(ctx, start, settings, correction, memory, term)  # type: ignore[no-any-return]
    model, rows = ctx.model, ctx.rows("train")
    model.load(start)
    model.changed()
    model.training(True)
    kept: Groups = {}
    try:
        if ctx.task.fit:
            loss_sums, steps = own_fit(ctx, rows, settings)
        else:
            loss_sums, steps, kept = loop(ctx, rows, settings, correction, memory.tensors if memory else {}, term)
    finally:
        if term is not None:
            term.close()
    return LocalResult(
        delta=model.delta(start),
        buffers=model.buffer_delta(start),
        rows=len(rows),
        steps=steps,
        loss=loss_sums,
        kept=kept,
    )


def loop(
    ctx: Context,
    rows: Rows,
    settings: LocalSettings,
    correction: Correction | None,
    kept: Groups,
    term: LossTerm | None,
) -> tuple[Tensor, int, Groups]:
    """The ordinary loop; gives the loss sums, the number of steps and what the optimiser goes on with."""
    model, loss, check = ctx.model, ctx.loss, ctx.check
    params = list(model.trainable.values())
    # in-place steps on these views need no guard against autograd, which costs as much as a small step
    views = [p.detach() for p in params]
    optimizer = optimizer_for(settings, list(model.trainable), views, kept)
    unit: Tensor | None = None
    total, count, steps = 0.0, 0, 0
    for epoch in epochs(ctx, rows, settings):
        losses: list[Tensor] = []
        sizes: list[int] = []
        for inputs, targets in epoch:
            check()
            outputs = model.outputs(inputs)
            value = loss(outputs, targets)
            unit = one_like(value) if unit is None else unit
            whole = value if term is None else value + term.term(inputs, outputs)
            backward(whole, unit)
            descend(optimizer, params, views, correction)
            losses.append(value.detach())
            sizes.append(len(targets))
        total += epoch_loss(losses, sizes, first_step=steps)
        count += sum(sizes)
        steps += len(losses)
    return torch.tensor([total, count], dtype=torch.float64), steps, optimizer.kept()


def epochs(ctx: Context, rows: Rows, settings: LocalSettings) -> Iterator[Iterator[tuple[Any, Any]]]:
    """For each epoch its batches, in an order that follows from the seed, the silo and the round."""
    per_epoch = math.ceil(len(rows) / settings.batch_size)
    for order, steps in orders(ctx, len(rows), settings):
        batches = rows.batches(settings.batch_size, order)
        yield batches if steps == per_epoch else (batch for _, batch in zip(range(steps), batches, strict=False))


def orders(ctx: Context, rows: int, settings: LocalSettings) -> Iterator[tuple[Tensor | None, int]]:
    """For each epoch the order of so many rows, None for their own, and how many batches of it are taken."""
    per_epoch = math.ceil(rows / settings.batch_size)
    left = settings.epochs * per_epoch if settings.steps is None else settings.steps
    epoch = 0
    while left > 0:
        order = None
        if settings.shuffle:
            order = torch.randperm(rows, generator=generator(ctx.seed, ctx.step.id, "order", epoch))
        yield order, min(left, per_epoch)
        left -= per_epoch
        epoch += 1


def one_like(value: Tensor) -> Tensor:
    """The gradient of a scalar loss to itself; given to backward, it need not be made at every step."""
    return torch.ones_like(checked(value))


def checked(value: Any) -> Tensor:
    """What the loss gave; raises TaskError if it is no scalar tensor."""
    if not isinstance(value, Tensor) or value.ndim:
        shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TaskError(f"loss(outputs, targets) gave {shape}; it must give the mean over the batch, a scalar tensor")
    return value


def descend(
    optimizer: Optimizer, params: list[nn.Parameter], views: list[Tensor], correction: Correction | None
) -> None:
    """One step from the gradients that backward left.

    A parameter that took no part stays where it is, as in torch.optim.SGD, unless the correction moves it.
    """
    grads = [p.grad for p in params]
    for p in params:
        p.grad = None
    moving, found = views, [g for g in grads if g is not None]
    if len(found) == len(views):
        if correction is not None:
            correction(found, moving)
    elif correction is None:
        moving = [v for v, g in zip(views, grads, strict=True) if g is not None]
    else:
        corrected = [torch.zeros_like(v) if g is None else g for v, g in zip(views, grads, strict=True)]
        correction(corrected, views)
        part = [i for i, g in enumerate(grads) if g is not None or bool(corrected[i].any())]
        moving, found = [views[i] for i in part], [corrected[i] for i in part]
    if moving:
        optimizer.step(moving, found)


def epoch_loss(losses: list[Tensor], sizes: list[int], first_step: int) -> float:
    """Σ loss·rows of an epoch; one transfer from the device for all its batches."""
    values: list[float] = torch.stack(losses).tolist()
    for step, value in enumerate(values, first_step + 1):
        if not math.isfinite(value):
            raise TaskError(
                f"the loss is {value} at local step {step}; try a smaller lr, "
                "or look for values that are missing or far too large in this silo's rows"
            )
    return sum(value * size for value, size in zip(values, sizes, strict=True))


def own_fit(ctx: Context, rows: Rows, settings: LocalSettings) -> tuple[Tensor, int]:
    """The task's own `fit`; it may return its mean training loss."""
    assert ctx.task.fit is not None
    context = FitContext(
        round=ctx.step.round,
        silo=ctx.step.party,
        device=ctx.device,
        settings=settings,
        generator=generator(ctx.seed, ctx.step.id, "fit"),
        _ctx=ctx,
    )
    loss = ctx.task.fit(ctx.model.module, rows.raw, context)
    if loss is not None and not isinstance(loss, int | float):
        raise TaskError(f"fit() returned {type(loss).__name__}; return the mean training loss as a float, or nothing")
    ctx.model.module.zero_grad(set_to_none=True)
    count = 0.0 if loss is None else float(len(rows))
    return torch.tensor([(loss or 0.0) * count, count], dtype=torch.float64), 0


def evaluate(
    ctx: Context, params: Tensors, split: str = "test", metrics: "Mapping[str, Metric] | None" = None
) -> Tensors:
    """Sums of the loss and of each metric of `params` on the party's rows of that split; float64.

    metrics  None means all of the task's

    Sums add up over batches and silos to those of the pooled rows.
    """
    metrics = ctx.task.metrics if metrics is None else metrics
    if ctx.together is not None and (known := ctx.together.evaluate(ctx, params, split, metrics)) is not None:
        return known
    model, rows = ctx.model, ctx.rows(split)
    model.load(params)
    model.training(False)
    total, count = 0.0, 0
    sums: Tensors = {}
    with torch.no_grad():
        for inputs, targets in rows.batches(EVALUATION_BATCH):
            ctx.check()
            outputs = model.outputs(inputs)
            total += float(checked(ctx.measure_loss(outputs, targets))) * len(targets)
            count += len(targets)
            for name, metric in metrics.items():
                value = metric.sums(outputs, targets)
                sums[name] = sums[name] + value if name in sums else value
    return {"loss": torch.tensor([total, count], dtype=torch.float64), **sums}


def measuring(loss: Any) -> Callable[[Any, Tensor], Tensor]:
    """The loss for evaluation: torch's own losses on the CPU and in float64.

    A batch's mean loss in float32 is rounded to seven digits, and the federation's loss with it. A loss of
    the user's own is called as it is, since its tensors may not allow another dtype.
    """
    if not (isinstance(loss, nn.Module) and type(loss).__module__.startswith("torch.nn.")):
        return loss  # type: ignore[no-any-return]
    exact = copy.deepcopy(loss).cpu().double()

    def in_float64(outputs: Any, targets: Tensor) -> Tensor:
        targets = targets.cpu()
        return exact(outputs.cpu().double(), targets.double() if targets.is_floating_point() else targets)  # type: ignore[no-any-return]

    return in_float64
