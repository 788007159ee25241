"""Local training of many silos at once: one forward pass under vmap, one backward pass of the summed losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fl_kit.backward import backward
from fl_kit.corrections import AffineCorrection
from fl_kit.local import LocalResult, LocalSettings, descend, orders
from fl_kit.model_state import ModelState
from fl_kit.optimizers import SGD, Optimizer, TorchOptimizer, optimizer_for
from fl_kit.protocols import Context, Correction
from fl_kit.tensors import Tensors
from sim.engines.stacked.losses import SilosLoss, row_losses, summed
from sim.engines.stacked.model import StackedModel, buffers_now, differing, stacked
from sim.engines.stacked.probe import Probe, gradient, near
from sim.engines.stacked.reasons import Unstackable, in_brief, settings_refusal
from sim.engines.stacked.rows import Batches, Packed, Schedule


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What a strategy asked of `fl_kit.local.train` for one silo."""

    ctx: Context
    start: Tensors
    settings: LocalSettings
    correction: Correction | None
    has_term: bool


SCHEDULES = 32
"""So many are kept at most: where silos are drawn, each round may have its own."""
OF_VMAP = ("vmap", "functorch", "atching rule")
"""Words of errors that hang on the model, and not on what it is given."""

Trained = tuple[LocalResult, Tensors]
"""A silo's result, and its trainable parameters after training."""


def check_requests(requests: Sequence[Request]) -> None:
    """Raise Unstackable for requests that no tensor program can answer together."""
    for request in requests:
        correction = request.correction
        if request.has_term:
            raise Unstackable("the strategy adds a term of its own to the loss")
        if correction is not None and type(correction) is not AffineCorrection:
            raise Unstackable("the strategy's correction of gradients is a function; AffineCorrection is data")
        if why := settings_refusal(request.settings):
            raise Unstackable(why)
        if request.settings != requests[0].settings:
            raise Unstackable("silos train with different settings")


class Training:
    """Trains silos together.

    packed     their training rows
    probe      what is known of the model and of rows of this form
    schedules  of earlier rounds, where rows come in their own order: they are the same in each
    compare    whether the first silo's first gradient is compared with what it is alone
    """

    def __init__(
        self,
        requests: Sequence[Request],
        packed: Packed,
        probe: Probe,
        check: Callable[[], None],
        schedules: dict[Any, Schedule],
        *,
        compare: bool,
    ) -> None:
        self.first = first = requests[0]
        self.settings, self.packed, self.check, self.probe, self.compare = first.settings, packed, check, probe, compare
        self.model: ModelState = first.ctx.model
        self.schedule = schedule(requests, packed, schedules)
        self.requests = [requests[place] for place in self.schedule.places]
        self.names = list(self.model.trainable)
        self.loss = SilosLoss(first.ctx.loss, row_losses(first.ctx.loss, probe.outputs, packed.targets), packed.targets)

    def run(self) -> list[Trained]:
        """What each silo has after training, in the order of the requests.

        Raises Unstackable for a model that vmap cannot run, or a loss that is no number.
        """
        starts = [request.start for request in self.requests]
        before = stacked(starts, self.names, self.model.device)
        try:
            trained, losses = self._steps(starts, [value.clone() for value in before])
        finally:
            self.model.module.zero_grad(set_to_none=True)  # of a model that holds on to its own parameters
        deltas = unbound(self.names, torch._foreach_sub(trained, before))
        params = unbound(self.names, trained)
        sums = self._sums(losses)
        buffers = {name: torch.zeros_like(b, device="cpu") for name, b in self.model.moving_buffers.items()}
        found: dict[int, Trained] = {}
        steps = (self.schedule.counts > 0).sum(0).tolist()
        for at, place in enumerate(self.schedule.places):
            result = LocalResult(
                delta=deltas[at], buffers=buffers, rows=self.packed.sizes[place], steps=steps[at], loss=sums[at]
            )
            found[place] = result, params[at]
        return [found[place] for place in range(len(starts))]

    def _steps(self, starts: Sequence[Tensors], values: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The trained parameters (silos, …), and of each step its silos' losses."""
        model = self.model
        model.load(starts[0])
        model.changed()
        model.training(True)
        fixed = differing(starts, [name for name in starts[0] if name not in self.names])
        others = stacked(starts, fixed, model.device)
        forward = StackedModel(model.module, [*self.names, *fixed])
        correction = together([request.correction for request in self.requests])
        unchanged = buffers_now(model)
        losses: list[Tensor] = []
        active, views = 0, values
        optimizer: Optimizer | None = None
        for step, going in enumerate(self.schedule.active):
            self.check()
            if going != active or optimizer is None:
                narrower = [value[:going] for value in values]
                optimizer = gone_on(optimizer, self.settings, self.names, views, narrower)
                active, views = going, narrower
                leaves = [view.detach().requires_grad_() for view in views]
                held = first_of(correction, active)
                others = [other[:active] for other in others]
            found = self._losses(forward, leaves, others, step, active)
            backward(found, summed(found))
            if step == 0 and self.compare:
                self._check_first(leaves, found)
                unchanged = buffers_now(model)  # it has loaded the start once more
            if held is not None and any(leaf.grad is None for leaf in leaves):
                raise Unstackable("a parameter takes no part in the loss, and the strategy corrects its gradient")
            descend(optimizer, leaves, views, held)  # type: ignore[arg-type]  # leaves stand for parameters
            losses.append(found.detach())
        if buffers_now(model) != unchanged:
            raise Unstackable("the model changes its buffers in training", everywhere=True)
        return values, losses

    def _losses(
        self, forward: StackedModel, leaves: list[Tensor], others: list[Tensor], step: int, active: int
    ) -> Tensor:
        """The loss of each silo's batch."""
        rows, counts = self.schedule.rows[step, :active], self.schedule.counts[step, :active]
        least, most = int(counts.min()), int(counts.max())
        if least == most or (self.probe.apart and self.loss.pads):
            present = None if least == most else torch.arange(most) < counts[:, None]
            return self._of(forward, leaves, others, rows[:, :most], present)
        found = torch.empty(0)
        for count in sorted(set(counts.tolist())):
            among = (counts == count).nonzero().flatten()
            own = [value.index_select(0, among.to(value.device)) for value in leaves]
            part = self._of(forward, own, [o[among] for o in others], rows[among, :count], None)
            found = part.new_zeros(active) if not len(found) else found
            found = found.index_add(0, among.to(part.device), part)
        return found

    def _of(
        self, forward: StackedModel, leaves: list[Tensor], others: list[Tensor], rows: Tensor, present: Tensor | None
    ) -> Tensor:
        inputs, targets = self.packed.at(rows)
        try:
            outputs = forward([*leaves, *others], inputs)
            return self.loss(outputs, targets, None if present is None else present.to(targets.device))
        except (RuntimeError, TypeError, ValueError) as error:
            if not any(word in str(error) for word in OF_VMAP):
                raise  # of some silo's rows, as alone
            raise Unstackable(
                f"torch's vmap cannot run the model or its loss: {in_brief(error)}", everywhere=True
            ) from error

    def _check_first(self, leaves: list[Tensor], losses: Tensor) -> None:
        """Raise Unstackable unless the first silo's gradient is the one that it has alone."""
        at = self.schedule.places.index(0)
        if not bool(losses[at].isfinite()):
            raise Unstackable("a silo's loss is no number")
        inputs, targets = self.packed.at(self.schedule.rows[0, at, : int(self.schedule.counts[0, at])])
        alone = gradient(self.first.ctx, self.first.start, inputs, targets)
        ours = [None if leaf.grad is None else leaf.grad[at] for leaf in leaves]
        both = [(g, a) for g, a in zip(ours, alone, strict=True) if g is not None and a is not None]
        same_part = [g is None for g in ours] == [a is None for a in alone]
        if not same_part or not near([g for g, _ in both], [a for _, a in both]):
            raise Unstackable("under vmap the model has another gradient than alone", everywhere=True)

    def _sums(self, losses: Sequence[Tensor]) -> Tensor:
        """Σ loss·rows and Σ rows of each silo, (silos, 2), float64."""
        counts = self.schedule.counts.double()
        total = torch.zeros(counts.shape[1], dtype=torch.float64)
        for own, count in zip(losses, counts, strict=True):
            total[: len(own)] += own.cpu().double() * count[: len(own)]
        if not bool(total.isfinite().all()):
            raise Unstackable("a silo's loss is no number")
        return torch.stack([total, counts.sum(0)], dim=1)


def unbound(names: Sequence[str], values: Sequence[Tensor]) -> list[Tensors]:
    """Of tensors (silos, …) each silo's own by name, on the CPU."""
    silos = zip(*(value.cpu().unbind() for value in values), strict=True)
    return [dict(zip(names, own, strict=True)) for own in silos]


def schedule(requests: Sequence[Request], packed: Packed, known: dict[Any, Schedule]) -> Schedule:
    """Every silo's batches, in the order that they have alone."""
    settings = requests[0].settings
    key = (packed.sizes, settings.batch_size, settings.epochs, settings.steps)
    if not settings.shuffle and key in known:
        return known[key]
    batches = [
        Batches.of(size, settings.batch_size, list(orders(request.ctx, size, settings)))
        for request, size in zip(requests, packed.sizes, strict=True)
    ]
    found = Schedule.of(batches, packed.first)
    if not settings.shuffle:
        if len(known) == SCHEDULES:
            known.clear()
        known[key] = found
    return found


def together(corrections: Sequence[Correction | None]) -> AffineCorrection | None:
    """The silos' corrections as one, whose tensors are (silos, …)."""
    found = [each for each in corrections if isinstance(each, AffineCorrection)]
    if not found:
        return None
    shapes = {(each.pull, len(each.anchor), len(each.shift)) for each in found}
    if len(found) < len(corrections) or len(shapes) > 1:
        raise Unstackable("silos' gradients are corrected in different ways")
    return AffineCorrection(
        pull=found[0].pull,
        anchor=side_by_side([each.anchor for each in found]),
        shift=side_by_side([each.shift for each in found]),
    )


def side_by_side(silos: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """The silos' tensors as (silos, …), place by place; what all of them share is not copied."""
    found = []
    for parts in zip(*silos, strict=True):
        shared = all(part is parts[0] for part in parts)
        found.append(parts[0].expand(len(parts), *parts[0].shape) if shared else torch.stack(parts))
    return found


def first_of(correction: AffineCorrection | None, silos: int) -> AffineCorrection | None:
    """The correction of the first so many silos."""
    if correction is None:
        return None
    anchor, shift = ([value[:silos] for value in each] for each in (correction.anchor, correction.shift))
    return AffineCorrection(pull=correction.pull, anchor=anchor, shift=shift)


def gone_on(
    optimizer: Optimizer | None, settings: LocalSettings, names: list[str], old: list[Tensor], new: list[Tensor]
) -> Optimizer:
    """An optimiser over `new`, the first silos of `old`, that goes on with what it knows of them.

    None begins afresh. What an optimiser holds of a parameter is shaped like it; a scalar counts steps, which all
    silos that go on have taken alike.
    """
    fresh = optimizer_for(settings, names, new, {})
    if isinstance(optimizer, SGD) and isinstance(fresh, SGD):
        fresh.velocity = {
            n: optimizer.velocity[o][: len(n)] for o, n in zip(old, new, strict=True) if o in optimizer.velocity
        }
    elif isinstance(optimizer, TorchOptimizer) and isinstance(fresh, TorchOptimizer):
        for before, after in zip(old, new, strict=True):
            for what, value in optimizer.inner.state.get(before, {}).items():
                narrow = isinstance(value, Tensor) and value.ndim > 0
                fresh.inner.state[after][what] = value[: len(after)] if narrow else value
    return fresh
