"""Distances between silos and all rows together: of label mixes, of sizes, of a feature's values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen–Shannon divergence of two distributions, base 2, in [0, 1] (Lin 1991, doi 10.1109/18.61115).

    JS(p, q) = KL(p ‖ m) / 2 + KL(q ‖ m) / 2 with m = (p + q) / 2.

    >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    1.0
    """
    middle = (p + q) / 2
    return (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2


def kullback_leibler(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """KL(p ‖ q) in bits; classes that p lacks add nothing."""
    has = p > 0
    return float(np.sum(p[has] * np.log2(p[has] / q[has])))


def gini(sizes: NDArray[Any]) -> float:
    """Gini coefficient of sizes: Σ_ij |x_i - x_j| / (2 n² x̄), in [0, 1 - 1 / n]; 0 for equal ones (Gini 1912).

    >>> gini(np.array([0, 1]))
    0.5
    """
    ordered = np.sort(np.asarray(sizes, dtype=np.float64))
    n = len(ordered)
    # sorted, the double sum is 2 Σ_i (2 i - n - 1) x_i for i from 1
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()))


def wasserstein(silos: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(silos,): how far one feature's values in each silo are from those of all silos together.

    The Wasserstein-1 distance ∫ |F_i(v) - F(v)| dv of the distribution functions, divided by the standard
    deviation of all values: the mean way that values would have to move, in standard deviations. So a silo whose
    values are all larger by s standard deviations than the pool's is at s; a larger spread counts too. Missing
    values are left aside; a silo without any value gets nan, and a feature that is the same everywhere 0.

    >>> wasserstein([np.array([0.0]), np.array([2.0])])
    array([1., 1.])
    """
    present = [values[~np.isnan(values)] for values in silos]
    pool = np.sort(np.concatenate(present))
    spread = pool.std() if len(pool) else 0.0
    if not spread > 0:
        return np.array([0.0 if len(values) else np.nan for values in present])
    steps, whole = np.diff(pool) / spread, np.arange(1, len(pool)) / len(pool)
    return np.array([float(np.abs(share_below(values, pool[:-1]) - whole) @ steps) for values in present])


def share_below(values: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The empirical distribution function of values at points; nan without values."""
    if not len(values):
        return np.full(len(points), np.nan)
    return np.asarray(np.searchsorted(np.sort(values), points, side="right") / len(values))
