"""A model's tensors by name: loading a state into it, and taking an update out of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import nn

from fl_kit.batches import call
from fl_kit.errors import TaskError
from fl_kit.tensors import Tensors

IMAGES = 4
"""The dimensions of a batch of images: rows, channels, height, width."""


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
        self._layout = torch.contiguous_format
        self._loaded: Tensors | None = None
        self._checked = False

    @cached_property
    def _places(self) -> dict[str, tuple[dict[str, Any], str]]:
        """Name → the module's own table that has the tensor, and its name there.

        Looked up at each use: a model or a task's own fit may put another tensor in its place.
        """
        kept = self.module.state_dict(keep_vars=True)
        tables = dict(self.module.named_modules())
        places: dict[str, tuple[dict[str, Any], str]] = {}
        for name, _ in self.module.named_parameters():
            path, _, key = name.rpartition(".")
            places[name] = tables[path]._parameters, key
        for name, _ in self.module.named_buffers():
            if name in kept:
                path, _, key = name.rpartition(".")
                places[name] = tables[path]._buffers, key
        return places

    def _now(self, names: Iterable[str]) -> Tensors:
        """The tensors as they are; views that share the model's memory."""
        places = self._places
        return {name: places[name][0][places[name][1]].detach() for name in names}

    @cached_property
    def _trainable(self) -> list[str]:
        return [name for name, p in self.module.named_parameters() if p.requires_grad]

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes."""
        return {name: self._places[name][0][self._places[name][1]] for name in self._trainable}

    @cached_property
    def _buffers(self) -> Tensors:
        """Persistent buffers, such as running statistics: the model's own tensors from the start."""
        return {
            name: table[key] for name, (table, key) in self._places.items() if not isinstance(table[key], nn.Parameter)
        }

    @cached_property
    def moving_buffers(self) -> Tensors:
        """The buffers that travel in updates."""
        return {name: b for name, b in self._buffers.items() if b.dtype != torch.bool}

    def snapshot(self, names: Iterable[str] | None = None) -> Tensors:
        """A copy of these parameters and buffers, by default of all, on the CPU; in the model's order."""
        wanted = self._places.keys() if names is None else self._places.keys() & set(names)
        kept = (name for name in self._places if name in wanted)
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in self._now(kept).items()}

    def load(self, params: Tensors) -> None:
        """Copy a state's parameters into the model, unless it already holds just these.

        Raises TaskError if names or shapes differ: `model()` gave another model than the one at the start.
        """
        if self._loaded is params:
            return
        for name, buffer in self._buffers.items():
            table, key = self._places[name]
            table[key] = buffer  # a model may have put something else there, even a part of its rows
        own = self._now(self._places)
        if not self._checked:
            check_same_model(own, params)
            self._checked = True
        torch._foreach_copy_(list(own.values()), [params[name] for name in own])
        self._loaded = params

    def training(self, mode: bool) -> None:
        """Put the model into training mode, or into evaluation mode: what `module.train(mode)` does."""
        if self._own_modes:
            self.module.train(mode)
        else:
            for one in self._modules:
                one.__dict__["training"] = mode  # at each step, nn.Module's own way costs as much as a layer

    @contextmanager
    def in_layout(self, layout: torch.memory_format) -> Iterator[None]:
        """Within the block the weights of 2-D convolutions lie in memory as `layout` says; their values stay."""
        self._lay_out(layout)
        try:
            yield
        finally:
            self._lay_out(torch.contiguous_format)

    def outputs(self, inputs: Any) -> Any:
        """What the model gives for a batch; images are laid out as its convolutions are."""
        if self._layout is torch.channels_last and isinstance(inputs, torch.Tensor) and inputs.ndim == IMAGES:
            inputs = torch.empty_like(inputs, memory_format=self._layout).copy_(inputs)
        return call(self.module, inputs)

    def _lay_out(self, layout: torch.memory_format) -> None:
        if not self._kernels:
            return
        self._layout = layout
        with torch.no_grad():
            for weight in self._kernels:
                weight.data = torch.empty_like(weight, memory_format=layout).copy_(weight)

    @cached_property
    def _kernels(self) -> list[torch.Tensor]:
        """The weights of 2-D convolutions on the CPU, whose own order of memory makes them slow there."""
        on_cpu = self.device.type == "cpu"
        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        return [one.weight for one in self.module.modules() if isinstance(one, kinds)] if on_cpu else []

    @cached_property
    def _modules(self) -> list[nn.Module]:
        return list(self.module.modules())

    @cached_property
    def _own_modes(self) -> bool:
        """Whether a module has its own idea of training and evaluation, as one with a frozen part often has."""
        return any(
            type(one).train is not nn.Module.train or type(one).eval is not nn.Module.eval for one in self._modules
        )

    def changed(self) -> None:
        """Say that the model no longer holds the state that was loaded."""
        self._loaded = None

    def delta(self, start: Tensors) -> Tensors:
        """Trained − start for each trainable parameter, on the CPU."""
        return self._difference(self._now(self._trainable), start)

    def buffer_delta(self, start: Tensors) -> Tensors:
        """Now − start for each buffer that travels, on the CPU."""
        return self._difference(self._now(self.moving_buffers), start)

    def _difference(self, values: Tensors, start: Tensors) -> Tensors:
        if not values:
            return {}
        names = list(values)
        now = [values[name].to("cpu") for name in names]
        difference = torch._foreach_sub(now, [start[name] for name in names])
        return {name: value.contiguous() for name, value in zip(names, difference, strict=True)}


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
