"""What every stop rule asks of its settings."""

import math
from typing import Any

from fl_kit.errors import IncompatibleError


def check_metric(rule: Any) -> None:
    """Raise IncompatibleError unless the rule names a metric."""
    if not isinstance(rule.metric, str) or not rule.metric:
        raise IncompatibleError(f"{type(rule).__name__}(metric={rule.metric!r}): must be a metric's name")


def is_finite(value: object) -> bool:
    """Whether it is a finite number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
