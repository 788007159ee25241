"""How sure a mean over a few seeds is."""

import math
import statistics
from collections.abc import Sequence


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half-width of its 95 % interval by Student's t; a half-width of nan for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    from scipy.stats import t

    return mean, float(t.ppf(0.975, len(values) - 1)) * spread(values) / math.sqrt(len(values))


def spread(values: Sequence[float]) -> float:
    """The standard deviation, estimated from at least two values; nan if one of them is not finite."""
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
