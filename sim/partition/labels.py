"""The label's classes, for partitioners that change labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.silo import nearest
from sim.partition.columns import needs_label
from sim.partition.sources import Columns


def known_classes(columns: Columns, label: str | None, partitioner: str) -> NDArray[Any]:
    """The label's values, sorted, missing ones aside; raises DataError unless there are two."""
    import pandas as pd

    label = needs_label(label, partitioner)
    if label not in columns:
        raise DataError(f"there is no column {label!r}{nearest(label, list(columns))}")
    values = columns[label]
    found = np.unique(values[~pd.isna(values)])
    if len(found) < 2:
        raise DataError(f"{partitioner} needs two classes, and {label!r} has {len(found)}")
    return found


def codes_of(values: NDArray[Any], known: NDArray[Any]) -> NDArray[np.int64]:
    """The place of each value among the known ones, -1 where it is missing."""
    import pandas as pd

    codes = np.full(len(values), -1, dtype=np.int64)
    there = ~np.asarray(pd.isna(values))
    codes[there] = np.searchsorted(known, values[there])
    return codes


def with_codes(values: NDArray[Any], codes: NDArray[np.int64], known: NDArray[Any]) -> NDArray[Any]:
    """The same values with those classes; a missing one stays missing."""
    changed = values.copy()
    changed[codes >= 0] = known[codes[codes >= 0]]
    return changed
