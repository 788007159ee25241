"""The optimiser in a silo: plain SGD of our own, or any of torch's by its name."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fl_kit.entries import nearest
from fl_kit.errors import IncompatibleError, TaskError
from fl_kit.messages import Groups

PLAIN = "SGD"
PREFIX = "optimizer."
"""Of the groups of a silo's memory that hold the optimiser's state: `optimizer.exp_avg` and so on."""
UNSUITED = {
    "LBFGS": "it evaluates the loss several times a step",
    "SparseAdam": "it takes sparse gradients only",
}


class Optimizer(Protocol):
    """Moves parameters by their gradients."""

    def step(self, params: list[Tensor], grads: list[Tensor]) -> None:
        """Move the parameters against the gradients, which may be overwritten."""

    def kept(self) -> Groups:
        """What it goes on with in the silo's next round, where that is asked for."""


class SGDSettings(Protocol):
    """What plain SGD reads of the settings."""

    @property
    def lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


class OptimizerSettings(SGDSettings, Protocol):
    """What the choice of an optimiser reads of the settings."""

    @property
    def optimizer(self) -> str: ...
    @property
    def optimizer_settings(self) -> Mapping[str, Any]: ...
    @property
    def optimizer_state(self) -> str: ...


def optimizer_for(
    settings: OptimizerSettings, names: Sequence[str], params: Sequence[Tensor], kept: Groups
) -> Optimizer:
    """The optimiser that the settings name, over parameters of those names.

    kept  a silo's memory, in which an earlier one may have left its state
    """
    if is_plain(settings):
        return SGD(settings)
    return TorchOptimizer(settings, dict(zip(names, params, strict=True)), kept)


def is_plain(settings: OptimizerSettings) -> bool:
    """Whether it is SGD as FedAvg's own settings say it, afresh in each round."""
    return (settings.optimizer, settings.optimizer_state) == (PLAIN, "reset") and not settings.optimizer_settings


class SGD:
    """Stochastic gradient descent as torch.optim.SGD does it, to the bit, without its import and overhead."""

    def __init__(self, settings: SGDSettings) -> None:
        self.lr = settings.lr
        self.momentum = settings.momentum
        self.weight_decay = settings.weight_decay
        self.velocity: dict[Tensor, Tensor] = {}

    def step(self, params: list[Tensor], grads: list[Tensor]) -> None:
        """Move the parameters against the gradients, which may be overwritten."""
        if self.weight_decay:
            torch._foreach_add_(grads, params, alpha=self.weight_decay)
        if self.momentum:
            known = [i for i, p in enumerate(params) if p in self.velocity]
            if known:
                velocity = [self.velocity[params[i]] for i in known]
                torch._foreach_mul_(velocity, self.momentum)
                torch._foreach_add_(velocity, [grads[i] for i in known])
            if len(known) < len(params):
                self.velocity |= {p: g.clone() for p, g in zip(params, grads, strict=True) if p not in self.velocity}
            grads = [self.velocity[p] for p in params]
        torch._foreach_add_(params, grads, alpha=-self.lr)

    def kept(self) -> Groups:
        """Nothing: it starts afresh each round."""
        return {}


class TorchOptimizer:
    """One of torch.optim's, over the model's trainable parameters by name."""

    def __init__(self, settings: OptimizerSettings, params: Mapping[str, Tensor], kept: Groups) -> None:
        self.params = params
        self.keeps = settings.optimizer_state == "kept"
        try:
            self.inner = made(settings, list(params.values()))
        except ValueError as error:  # Muon, for one, takes matrices only
            raise TaskError(f"{settings.optimizer} does not take this model's parameters: {error}") from error
        if self.keeps:
            self._go_on_from(kept)

    def step(self, params: list[Tensor], grads: list[Tensor]) -> None:
        """Move the parameters against the gradients; the others stay where they are."""
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        self.inner.step()
        for p in params:
            p.grad = None

    def kept(self) -> Groups:
        """Its state of each parameter, on the CPU: `optimizer.<what>` → name → tensor."""
        found: Groups = {}
        for name, p in self.params.items() if self.keeps else ():
            for what, value in self.inner.state.get(p, {}).items():
                if isinstance(value, Tensor):
                    found.setdefault(f"{PREFIX}{what}", {})[name] = value.detach().to("cpu", copy=True)
        return found

    def _go_on_from(self, kept: Groups) -> None:
        for group, tensors in kept.items():
            if group.startswith(PREFIX):
                for name, value in tensors.items():
                    p = self.params[name]
                    # torch counts steps in scalars on the CPU, wherever the parameters are
                    own = value.clone() if value.ndim == 0 else value.to(p.device, copy=True)
                    self.inner.state[p][group.removeprefix(PREFIX)] = own


def made(settings: OptimizerSettings, params: list[Tensor]) -> torch.optim.Optimizer:
    """The optimiser of torch over those parameters."""
    sgd = {"momentum": settings.momentum, "weight_decay": settings.weight_decay} if settings.optimizer == PLAIN else {}
    kind = getattr(torch.optim, settings.optimizer)
    return kind(params, lr=settings.lr, **{**sgd, **settings.optimizer_settings})  # type: ignore[no-any-return]


def check_optimizer(strategy: str, settings: OptimizerSettings, *, needs_sgd: bool = False) -> None:
    """Raise IncompatibleError for a name that torch.optim has not, or a setting that its optimiser does not take.

    needs_sgd  whether the strategy's equations hold for plain SGD only
    """
    if needs_sgd and not is_plain(settings):
        raise IncompatibleError(
            f"{strategy} counts on plain SGD in the silos, which optimizer={settings.optimizer!r}, optimizer_settings "
            "and optimizer_state='kept' change: leave them out, or use FedAvg or FedProx"
        )
    name, own = settings.optimizer, settings.optimizer_settings
    if not isinstance(own, dict):
        raise IncompatibleError(
            f"{strategy}(optimizer_settings={own!r}): must be a dict such as {{'betas': (0.9, 0.99)}}"
        )
    if settings.optimizer_state not in ("reset", "kept"):
        raise IncompatibleError(
            f"{strategy}(optimizer_state={settings.optimizer_state!r}): must be 'reset', afresh each round, or 'kept'"
        )
    check_name(strategy, name)
    for setting, cure in (("lr", "it is the strategy's lr"), ("params", "they are the model's")):
        if setting in own:
            raise IncompatibleError(f"{strategy}(optimizer_settings=…): leave out {setting!r}, {cure}")
    for setting in ("momentum", "weight_decay"):
        if getattr(settings, setting) and (name != PLAIN or setting in own):
            raise IncompatibleError(
                f"{strategy}({setting}={getattr(settings, setting)}) is that of plain SGD; with optimizer={name!r} "
                "write it into optimizer_settings, once"
            )
    if not is_plain(settings):
        try:
            made(settings, [torch.zeros(2, 2)])
        except (TypeError, ValueError, RuntimeError) as error:
            raise IncompatibleError(f"{strategy}(optimizer={name!r}, optimizer_settings={own}): {error}") from error


def check_name(strategy: str, name: str) -> None:
    """Raise IncompatibleError, with the nearest name, for an optimiser that torch.optim has not."""
    known = sorted(key for key, kind in vars(torch.optim).items() if is_usable(key, kind))
    if name not in known:
        why = f": {UNSUITED[name]}" if name in UNSUITED else nearest(str(name), known)
        raise IncompatibleError(f"{strategy}(optimizer={name!r}): there is no such optimiser in a silo{why}")


def is_usable(name: str, kind: Any) -> bool:
    base = torch.optim.Optimizer
    return isinstance(kind, type) and issubclass(kind, base) and kind is not base and name not in UNSUITED
