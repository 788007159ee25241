"""What is handed to Ray: bytes made of JSON and safetensors, which Ray passes on as they are. Nothing is pickled."""

import json
from collections.abc import Mapping
from typing import Any

import torch

from fl_kit.errors import MessageError
from fl_kit.messages import M, Message, apart, put_together, take_apart
from fl_kit.tensors import digest

LENGTH = 8
"""Bytes that tell the length of the JSON, at the start."""


def sealed(about: Mapping[str, Any], *parts: bytes) -> bytes:
    """JSON, and after it parts as they are."""
    head = json.dumps({"about": about, "sizes": [len(part) for part in parts]}).encode()
    return b"".join((len(head).to_bytes(LENGTH, "little"), head, *parts))


def unsealed(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """What `sealed` was given."""
    place = LENGTH + int.from_bytes(data[:LENGTH], "little")
    if len(data) < place:
        raise ValueError("it is not whole")
    head = json.loads(data[LENGTH:place])
    parts: list[bytes] = []
    for size in head["sizes"]:
        parts.append(data[place : place + size])
        place += size
    return dict(head["about"]), parts


def order_of(value: torch.Tensor) -> list[int]:
    """The strides of a tensor that lies otherwise than row by row, as convolutions' do; else none.

    safetensors forgets them, and the order of a sum, such as that of a norm, hangs on them.
    """
    return [] if value.is_contiguous() else list(torch.empty_like(value, device="meta").stride())


def in_order(value: torch.Tensor, strides: list[int]) -> torch.Tensor:
    """The same tensor with those strides; raises ValueError where they are none of a tensor without gaps."""
    reach = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, strides, strict=True))
    if min(strides) < 0 or reach != value.numel():
        raise ValueError(f"a tensor of shape {list(value.shape)!r:.80} with the strides {strides!r:.80}")
    return torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)


def from_message(message: Message) -> bytes:
    """A message as bytes."""
    from safetensors.torch import save

    meta, tensors = take_apart(message)
    strides = {name: order for name, value in tensors.items() if (order := order_of(value))}
    return sealed({**meta, "strides": strides}, save(apart(tensors)))


def to_message(kind: type[M], data: bytes) -> M:
    """The message of that kind; raises MessageError for what is none, or is not as its sender made it."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    name = kind.__name__.lower()
    try:
        meta, (part,) = unsealed(data)
        tensors = load(part)
        for tensor, strides in meta["strides"].items():
            tensors[tensor] = in_order(tensors[tensor], strides)
        if meta["kind"] != name:
            raise MessageError(f"expected a message of the kind {name!r}, found {meta['kind']!r:.40}")
        if "sha256" in meta and digest(tensors) != meta["sha256"]:
            raise MessageError("its tensors' sha256 is not the one that it names: it was damaged on its way")
        return put_together(kind, meta, tensors)
    except (KeyError, TypeError, ValueError, OverflowError, SafetensorError) as error:
        raise MessageError(f"this is no message of the kind {name!r}: {error}") from error
