"""What is handed to Ray: bytes made of JSON and safetensors, which Ray passes on as they are. Nothing is pickled."""

import json
from collections.abc import Mapping
from typing import Any

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


def from_message(message: Message) -> bytes:
    """A message as bytes."""
    from safetensors.torch import save

    meta, tensors = take_apart(message)
    return sealed(meta, save(apart(tensors)))


def to_message(kind: type[M], data: bytes) -> M:
    """The message of that kind; raises MessageError for what is none, or is not as its sender made it."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    name = kind.__name__.lower()
    try:
        meta, (part,) = unsealed(data)
        tensors = load(part)
        if meta["kind"] != name:
            raise MessageError(f"expected a message of the kind {name!r}, found {meta['kind']!r:.40}")
        if "sha256" in meta and digest(tensors) != meta["sha256"]:
            raise MessageError("its tensors' sha256 is not the one that it names: it was damaged on its way")
        return put_together(kind, meta, tensors)
    except (KeyError, TypeError, ValueError, OverflowError, SafetensorError) as error:
        raise MessageError(f"this is no message of the kind {name!r}: {error}") from error
