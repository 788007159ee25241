"""Randomness that follows from `(seed, step)` and from nothing else.

Modules draw their initial weights and their dropout masks from torch's global generator, which every
thread of a notebook shares. `seeded` gives such draws a generator of their own instead, for the calling
thread only: the global generator is neither read nor moved.
"""

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

SEED_BITS = 63
_global_generator = threading.Lock()


def derived_seed(seed: int, *parts: object) -> int:
    """A 63-bit seed that follows from `seed` and the parts, the same on every machine.

    >>> derived_seed(7, "round_001/cleveland/fit") == derived_seed(7, "round_001/cleveland/fit")
    True
    """
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - SEED_BITS)


def generator(seed: int, *parts: object, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator for `(seed, parts)`; on the CPU torch keeps 32 bits of its seed."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, *parts))


class Redirection:
    """What `SeededDraws` does with each operation.

    A class of its own, since torch wraps a `__torch_dispatch__` that a mode's class defines itself, and the
    wrapper loads torch._dynamo at the first operation: a second and more of every start.
    """

    def __init__(self, seed: int, *parts: object) -> None:
        super().__init__()
        self._seed = seed
        self._parts = parts
        self._generators: dict[torch.device, torch.Generator] = {}
        self.drew = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        device = device_of(args, kwargs)
        if device.type == "meta":  # tensors without values: nothing is drawn
            return func(*args, **kwargs)
        self.drew = True
        if takes_generator(func):
            return func(*args, **{**kwargs, "generator": self.generator(device)})
        fill = FILLS.get(func.overloadpacket)
        if fill is not None:
            empty = torch.empty_like(args[0], **{k: v for k, v in kwargs.items() if k != "layout"})
            return fill(empty, args[1:], self.generator(device))
        twin = generator_overload(func)
        if twin is not None:
            return twin(*args, **kwargs, generator=self.generator(device))
        return self.with_global_generator(func, device, args, kwargs)

    def generator(self, device: torch.device) -> torch.Generator:
        """This mode's own generator on a device."""
        if device not in self._generators:
            self._generators[device] = generator(self._seed, *self._parts, device=device)
        return self._generators[device]

    def with_global_generator(self, func: Any, device: torch.device, args: Any, kwargs: Any) -> Any:
        """For the few operations that take no generator: lend them the global one, then put it back."""
        draw = int(torch.randint(2**62, (), generator=self.generator(torch.device("cpu"))))
        devices = [device] if device.type != "cpu" else []
        with _global_generator, torch.random.fork_rng(devices=devices, device_type=device.type if devices else "cuda"):
            torch.manual_seed(draw)
            return func(*args, **kwargs)


class SeededDraws(Redirection, TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its base untyped
    """Redirects every random operation of this thread to generators that follow from `(seed, parts)`.

    `drew` says whether there was any: code that draws nothing may be run without the redirection, at full
    speed, for the same bits.
    """


class CompilerSafeDraws(SeededDraws):  # type: ignore[no-untyped-call]  # as above
    """The same in torch's wrapper: a compiled model must not compile the redirection too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs)


FILLS: dict[Any, Callable[[torch.Tensor, Any, torch.Generator], torch.Tensor]] = {
    torch.ops.aten.rand_like: lambda empty, _, draws: empty.uniform_(generator=draws),
    torch.ops.aten.randn_like: lambda empty, _, draws: empty.normal_(generator=draws),
    torch.ops.aten.randint_like: lambda empty, limits, draws: empty.random_(
        *(limits if len(limits) > 1 else (0, *limits)), generator=draws
    ),
}


def takes_generator(func: Any) -> bool:
    return any(argument.name == "generator" for argument in func._schema.arguments)


def generator_overload(func: Any) -> Any:
    """`randn.generator` for `randn.default`, `randint.low_generator` for `randint.low`; None if there is none."""
    name = "generator" if func._overloadname == "default" else f"{func._overloadname}_generator"
    packet = func.overloadpacket
    return getattr(packet, name) if name in packet.overloads() else None


def device_of(args: Any, kwargs: Any) -> torch.device:
    for value in args:
        if isinstance(value, torch.Tensor):
            return value.device
    return torch.device(kwargs.get("device") or "cpu")


@contextmanager
def seeded(seed: int, *parts: object) -> Iterator[SeededDraws]:
    """Within the block, this thread's random operations follow from `(seed, parts)`.

    >>> with seeded(7, "init"):
    ...     first = torch.nn.Linear(2, 2).weight
    >>> with seeded(7, "init"):
    ...     bool((torch.nn.Linear(2, 2).weight == first).all())
    True
    """
    compiler_loaded = "torch._dynamo" in sys.modules
    with (CompilerSafeDraws if compiler_loaded else SeededDraws)(seed, *parts) as draws:
        yield draws
