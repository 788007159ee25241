"""`Look`: what of a run a picture shows, and how."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fl_kit.errors import FlKitError

NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is drawn of a run, and how.

    metrics    which, two a row; None: the loss and the first other metric of the global model
    log        whether the axes of values are logarithmic
    target     metric → the value to reach, a dashed line; None: what the run's own stop rule asks for, if it has one
    reference  metric → label → value: dashed lines to compare with, such as the baselines of a comparison
    header     whether the progress stands above the curves
    """

    metrics: tuple[str, ...] | None = None
    log: bool = False
    target: Mapping[str, float] | None = None
    reference: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: NONE)
    header: bool = True


def look_of(
    *, metrics: object = None, log: object = False, target: object = None, reference: object = None, header: bool = True
) -> Look:
    """The look that somebody asked for; raises FlKitError, saying what it should be, for anything else."""
    return Look(
        metrics=names(metrics),
        log=switch(log),
        target=None if target is None else numbers("target", target, 'target={"auc": 0.9}'),
        reference=references(reference),
        header=header,
    )


def names(metrics: object) -> tuple[str, ...] | None:
    if metrics is None:
        return None
    if not isinstance(metrics, tuple | list) or not metrics or not all(isinstance(name, str) for name in metrics):
        raise FlKitError(f'metrics is a tuple of names such as ("loss", "auc"), not {metrics!r}')
    return tuple(metrics)


def switch(log: object) -> bool:
    if not isinstance(log, bool):
        raise FlKitError(f"log is True or False, not {log!r}")
    return log


def numbers(what: str, found: object, example: str) -> dict[str, float]:
    if not isinstance(found, Mapping) or not all(isinstance(key, str) and number(found[key]) for key in found):
        raise FlKitError(f"{what} gives each name a number, as in {example}, not {found!r}")
    return {key: float(value) for key, value in found.items()}


def number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def references(found: object) -> Mapping[str, Mapping[str, float]]:
    example = 'reference={"auc": {"centralised": 0.91, "silo-only": 0.84}}'
    if found is None:
        return NONE
    if not isinstance(found, Mapping):
        raise FlKitError(f"reference gives each metric labels and values, as in {example}, not {found!r}")
    return {str(metric): numbers(f"reference of {metric}", lines, example) for metric, lines in found.items()}
