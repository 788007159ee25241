"""A model's tensors by name: loading a state into it, and taking an update out of it."""

from functools import cached_property

import torch
from torch import nn

from fl_kit.errors import TaskError
from fl_kit.tensors import Tensors


class ModelState:
    """One working model and the named tensors behind it.

    Tied parameters count once, under their first name. Frozen parameters belong to the state but not to an
    update. Persistent buffers belong to the state; floating and integer ones travel in updates, bool ones
    stay as they are at the start.

    module  the model; it is moved to `device` and used again for every silo
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module.to(device)
        self.device = device
        self._loaded: Tensors | None = None
        self._checked = False

    @cached_property
    def parameters(self) -> Tensors:
        """Every parameter, frozen ones too."""
        return {name: p.detach() for name, p in self.module.named_parameters()}

    @cached_property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    @cached_property
    def buffers(self) -> Tensors:
        """Persistent buffers, such as running statistics."""
        kept = self.module.state_dict(keep_vars=True)
        return {name: b for name, b in self.module.named_buffers() if name in kept}

    @cached_property
    def moving_buffers(self) -> Tensors:
        """The buffers that travel in updates."""
        return {name: b for name, b in self.buffers.items() if b.dtype != torch.bool}

    def snapshot(self) -> Tensors:
        """A copy of every parameter and buffer, on the CPU."""
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in self._all.items()}

    def load(self, params: Tensors) -> None:
        """Copy a state's parameters into the model, unless it already holds just these.

        Raises TaskError if names or shapes differ: `model()` gave another model than the one at the start.
        """
        if self._loaded is params:
            return
        if not self._checked:
            check_same_model(self._all, params)
            self._checked = True
        for name, (owner, key) in self._owners.items():
            setattr(owner, key, self.buffers[name])  # a model may have assigned it anew
        torch._foreach_copy_(list(self._all.values()), [params[name] for name in self._all])
        self._loaded = params

    def changed(self) -> None:
        """Say that the model no longer holds the state that was loaded."""
        self._loaded = None

    def delta(self, start: Tensors) -> Tensors:
        """Trained − start for each trainable parameter, on the CPU."""
        return self._difference({name: self.parameters[name] for name in self.trainable}, start)

    def buffer_delta(self, start: Tensors) -> Tensors:
        """Now − start for each buffer that travels, on the CPU."""
        places = {name: self._owners[name] for name in self.moving_buffers}
        return self._difference({name: getattr(owner, key).detach() for name, (owner, key) in places.items()}, start)

    def _difference(self, values: Tensors, start: Tensors) -> Tensors:
        if not values:
            return {}
        names = list(values)
        now = [values[name].to("cpu") for name in names]
        return dict(zip(names, torch._foreach_sub(now, [start[name] for name in names]), strict=True))

    @cached_property
    def _owners(self) -> dict[str, tuple[nn.Module, str]]:
        """Buffer → the module that has it, and its name there: what it is now, if the model assigns it anew."""
        places = {name: name.rpartition(".") for name in self.buffers}
        return {name: (self.module.get_submodule(path), key) for name, (path, _, key) in places.items()}

    @cached_property
    def _all(self) -> Tensors:
        """Parameters and buffers; views that share the model's memory."""
        return {**self.parameters, **{name: b.detach() for name, b in self.buffers.items()}}


def check_same_model(own: Tensors, params: Tensors) -> None:
    cure = "model() must build the same model each time it is called"
    if own.keys() != params.keys():
        differing = sorted(own.keys() ^ params.keys())[:3]
        raise TaskError(f"model() gave a model with other tensors than at the start of the run: {differing}; {cure}")
    for name, value in own.items():
        if value.shape != params[name].shape or value.dtype != params[name].dtype:
            raise TaskError(
                f"model() gave {name!r} as {value.dtype} {tuple(value.shape)}, at the start of the run it was "
                f"{params[name].dtype} {tuple(params[name].shape)}; {cure}"
            )
