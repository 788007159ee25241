"""A step's inputs and outputs as plain data and tensors, to be put together in another process."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fl_kit.errors import MessageError
from fl_kit.execute import Outputs
from fl_kit.messages import KINDS, Message, Origin, State, Update, put_together, take_apart
from fl_kit.tensors import Tensors

Described = dict[str, dict[str, Any]]
"""Message's name → all of it that is not tensors."""


def taken_apart(messages: Mapping[str, Message]) -> tuple[Described, Tensors]:
    """Messages as plain data, and all their tensors by name.

    Of an update's origin only step and bundle are told: who hands it over knows the state, and nothing is hashed.
    """
    described: Described = {}
    tensors: Tensors = {}
    for name, message in messages.items():
        bare = replace(message, origin=None) if isinstance(message, Update) else message
        described[name], found = take_apart(bare)
        if isinstance(message, Update):
            origin = message.origin and {"step": message.origin.step, "bundle": message.origin.bundle}
            described[name] |= {"from": origin, "norm": message.norm}
        tensors |= {f"{name}:{key}": value for key, value in found.items()}
    return described, tensors


def joined(described: Described, tensors: Tensors, state: State | None = None) -> Outputs:
    """The messages again; raises MessageError for anything else.

    state  what the step began with
    """
    parts: dict[str, Tensors] = {name: {} for name in described}
    try:
        for key, value in tensors.items():
            name, _, rest = key.partition(":")
            parts[name][rest] = value
        return {name: one(meta, parts[name], state) for name, meta in described.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MessageError(f"what a worker gave is no message: {error!r:.200}") from error


def one(meta: dict[str, Any], tensors: Tensors, state: State | None) -> Message:
    message: Message = put_together(KINDS[meta["kind"]], meta, tensors)  # type: ignore[type-var]  # one of the three
    if not isinstance(message, Update) or meta["from"] is None:
        return message
    origin = Origin(step=str(meta["from"]["step"]), start=state, bundle=str(meta["from"]["bundle"]))
    update = replace(message, origin=origin)
    if meta["norm"] is not None:
        object.__setattr__(update, "norm", float(meta["norm"]))  # as the silo's door set it, in the worker
    return update
