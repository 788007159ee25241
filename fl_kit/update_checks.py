"""Whether an update is what the model expects: groups, names, shapes, dtypes, and finite values."""

import math
from collections.abc import Mapping

from fl_kit.errors import MessageError
from fl_kit.messages import BUFFERS, Update
from fl_kit.tensors import Tensors, accumulator, norm

MOST_METRICS, MOST_SUMS = 1000, 1 << 20
"""Metrics of one update, and sums of one metric: a histogram of scores has some thousands."""


MOST_ROWS = 2.0**53
"""A weight is a number of rows; beyond this, counts in float64 are no longer exact."""


def check_update(update: Update, expected: Tensors, extra: Mapping[str, Tensors]) -> float:
    """The norm of the update's delta, if names, shapes, dtypes and values are what the model expects.

    expected  the model's trainable parameters
    extra     group → tensors like those that it must have; no other group

    Raises MessageError that names the first tensor at fault.
    """
    check_form(update, expected, extra)
    for group, tensors in update.extra.items():
        finite_norm(group, tensors)
    return finite_norm("delta", update.delta)


def check_form(update: Update, expected: Tensors, extra: Mapping[str, Tensors]) -> None:
    """The same for all but the tensors' values: they may be outlines that have none."""
    check_tensors("delta", update.delta, expected)
    if unknown := sorted(update.extra.keys() - extra.keys()):
        raise MessageError(
            f"there is a group {unknown[0]!r:.80}, which the strategy does not announce: it must be one of its "
            "extra_groups"
        )
    for group, tensors in extra.items():
        check_tensors(group, update.extra.get(group, {}), tensors, wider=group != BUFFERS)
    if len(update.metrics) > MOST_METRICS or any(sums.numel() > MOST_SUMS for sums in update.metrics.values()):
        raise MessageError(f"there are more than {MOST_METRICS:,} metrics, or {MOST_SUMS:,} sums of one")
    if not 0 <= update.weight <= MOST_ROWS:
        raise MessageError(f"the weight is {update.weight}; it must be a number of rows")


def finite_norm(group: str, tensors: Tensors) -> float:
    total = norm(tensors[name] for name in sorted(tensors))  # a file may give the names in another order
    if not math.isfinite(total):
        name = next((n for n, value in tensors.items() if not math.isfinite(norm([value]))), "?")
        raise MessageError(f"{group} of {name!r} is not finite: NaN, Inf or far too large")
    return total


def check_tensors(group: str, found: Tensors, expected: Tensors, *, wider: bool = False) -> None:
    """Raise MessageError unless these are the expected names, shapes and dtypes.

    wider  a dtype may also be the one in which such values are summed
    """
    if found.keys() != expected.keys():
        missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
        shown = [name[:80] for name in sorted(unknown)[:3]]
        raise MessageError(f"{group}: missing {sorted(missing)[:3]}, unknown {shown}")
    for name, value in found.items():
        like = expected[name]
        dtypes = (like.dtype, accumulator(like)) if wider else (like.dtype,)
        if value.shape != like.shape or value.dtype not in dtypes:
            raise MessageError(
                f"{group} of {name!r} is {value.dtype} {tuple(value.shape)}, expected {like.dtype} {tuple(like.shape)}"
            )
