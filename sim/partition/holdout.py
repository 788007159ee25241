"""Which rows of a silo are held out as its test split."""

import math

import numpy as np
from numpy.typing import NDArray

from sim.partition.columns import Rows


def holdout(strata: Rows, share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """True for each row that goes to the test split.

    strata  the class of each row (all equal: no stratification)
    share   in (0, 1): the test split has `share` of the rows, rounded to the nearest count, and of
            each class the rounded-down or rounded-up count. Both splits get at least one row where
            there are two; a single row is for training.
    """
    rows = len(strata)
    held = np.zeros(rows, dtype=np.bool_)
    if rows < 2:
        return held
    total = min(max(math.floor(share * rows + 0.5), 1), rows - 1)
    groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for group, count in zip(groups, apportion([len(group) for group in groups], share, total, random), strict=True):
        held[random.permutation(group)[:count]] = True
    return held


def apportion(sizes: list[int], share: float, total: int, random: np.random.Generator) -> list[int]:
    """How many of each group to take, `total` in all: largest remainders, ties broken at random.

    At random, since with many groups of one row (a continuous label) a fixed order would always
    hold out the same ones.
    """
    quotas = np.array(sizes) * share
    counts = np.floor(quotas).astype(np.int64)
    order = random.permutation(len(sizes))
    order = order[np.argsort(-(quotas - counts)[order], kind="stable")]
    counts[order[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]
