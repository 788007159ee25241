"""What partitioners ask of a table's columns."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.silo import nearest

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.int64]
"""Positions of rows in a table, ascending."""


def column(frame: "pd.DataFrame", name: str) -> "pd.Series[Any]":
    """The column of that name; raises DataError with the nearest name."""
    if name not in frame.columns:
        raise DataError(f"there is no column {name!r}{nearest(str(name), [str(known) for known in frame.columns])}")
    return frame[name]


def classes(frame: "pd.DataFrame", label: str) -> Rows:
    """The class of each row: 0, 1 … in order of appearance, -1 where the label is missing."""
    import pandas as pd

    return np.asarray(pd.factorize(column(frame, label))[0], dtype=np.int64)


def whole_column(frame: "pd.DataFrame", name: str) -> "pd.Series[Any]":
    """The column of that name; raises DataError with count and first row where a value is missing."""
    values = column(frame, name)
    missing = np.flatnonzero(values.isna())
    if len(missing):
        raise DataError(
            f"column {name!r} is missing in {len(missing)} of {len(frame)} rows (the first is row {missing[0]}), "
            "so they belong to no silo; fill it in or leave these rows out"
        )
    return values


def number_column(frame: "pd.DataFrame", name: str) -> NDArray[np.float64]:
    """A whole column of finite numbers; raises DataError for text."""
    values = whole_column(frame, name)
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {name!r} holds no numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise DataError(f"column {name!r} has the value {numbers[~np.isfinite(numbers)][0]:g}; leave such rows out")
    return numbers


def whole_classes(frame: "pd.DataFrame", label: str | None, partitioner: str) -> Rows:
    """The class of each row, 0, 1 … in the order of the classes; raises DataError unless every row has one."""
    import pandas as pd

    return np.asarray(pd.factorize(whole_column(frame, needs_label(label, partitioner)), sort=True)[0], dtype=np.int64)


def needs_label(label: str | None, partitioner: str) -> str:
    """The label; raises DataError where there is none."""
    if label is None:
        raise DataError(
            f"{partitioner} deals by a label, and these data have none: say which column it is, "
            "split(data, n, label=…); arrays and Datasets need targets, one class for each row"
        )
    return label


def check_table(frame: "pd.DataFrame") -> None:
    """Raises DataError unless it has rows and distinct text column names."""
    if frame.empty:
        raise DataError("there are no rows to split")
    names: list[object] = list(frame.columns)
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise DataError(f"column {odd[0]!r} has no text name; rename it, since a csv file keeps text only")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"two columns are called {twice!r}; rename one")


def check_minimum(minimum: object) -> int:
    """The rows that every silo gets at least; raises DataError unless it is a whole number above 0."""
    if not is_whole_number(minimum) or minimum < 1:  # type: ignore[operator]
        raise DataError(f"minimum must be a whole number of at least 1, not {minimum!r}")
    return int(minimum)  # type: ignore[call-overload, no-any-return]


def check_room(n: int, minimum: int, rows: int) -> None:
    """Raises DataError, with what could be met, where n silos cannot all have the minimum."""
    if n * minimum > rows:
        raise DataError(
            f"{n} silos of at least {minimum} rows need {n * minimum} rows, and there are {rows}; "
            f"use {rows // n} as minimum, or {max(rows // minimum, 1)} silos"
        )


def check_alpha(alpha: object) -> float:
    """The concentration of a Dirichlet distribution; raises DataError unless it is finite and above 0."""
    if not is_number(alpha) or not 0 < alpha < np.inf:  # type: ignore[operator]
        raise DataError(f"alpha must be a finite number above 0, not {alpha!r}")
    return float(alpha)  # type: ignore[arg-type]


def check_share(share: object, name: str) -> float:
    """A share in [0, 1]; raises DataError with the setting's name for anything else."""
    if not is_number(share) or not 0 <= share <= 1:  # type: ignore[operator]
        raise DataError(f"{name} must be between 0 and 1, not {share!r}")
    return float(share)  # type: ignore[arg-type]


def check_count(n: int | None, rows: int, partitioner: str) -> int:
    """The number of silos, if one can make them; else raises DataError."""
    if n is None:
        raise DataError(f"{partitioner} needs the number of silos: write split(data, n=4)")
    if not is_whole_number(n) or n < 1:
        raise DataError(f"the number of silos must be a whole number of at least 1, not {n!r}")
    if n > rows:
        raise DataError(f"{n} silos cannot share {rows} rows; ask for {rows} silos at most")
    return int(n)


def is_whole_number(value: object) -> bool:
    """Whether it is a Python or numpy integer; True and False are not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a Python or numpy number that is real; True and False are not."""
    return is_whole_number(value) or isinstance(value, float | np.floating)


def numbered(n: int) -> tuple[str, ...]:
    """Names `silo-01` … `silo-n`, padded so that they sort by number."""
    width = max(2, len(str(n)))
    return tuple(f"silo-{i:0{width}d}" for i in range(1, n + 1))


def dealt(owner: NDArray[Any], names: tuple[str, ...]) -> dict[str, Rows]:
    """Each silo's rows, ascending, from the number of the silo that owns each row."""
    rows = np.argsort(owner, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(owner, minlength=len(names)))[:-1]
    return dict(zip(names, np.split(rows, ends), strict=True))


def cut(order: NDArray[Any], sizes: NDArray[np.int64]) -> dict[str, Rows]:
    """Each silo's rows where silos take from `order` one after the other as many rows as `sizes` says."""
    owner = np.empty(len(order), dtype=np.int64)
    owner[order] = np.repeat(np.arange(len(sizes)), sizes)
    return dealt(owner, numbered(len(sizes)))


def in_proportion(weights: NDArray[np.float64], total: int, minimum: int) -> NDArray[np.int64]:
    """Whole sizes that sum to `total`, in proportion to `weights` but each at least `minimum`.

    Sizes that would be too small become `minimum`, and the others share the rest; of what rounding down
    leaves, one row each goes to the largest remainders, the first of equal ones first.
    """
    sizes = np.full(len(weights), minimum, dtype=np.int64)
    free = np.ones(len(weights), dtype=np.bool_)
    while free.any():
        rest = total - int(sizes[~free].sum())
        quotas = weights * (rest / weights[free].sum()) if weights[free].sum() > 0 else np.full(len(weights), 0.0)
        small = free & (quotas < minimum)
        if not small.any():
            break
        free &= ~small
        sizes[small] = minimum
    if free.any():
        # remainders that differ in the last bits only are equal, and so is the split on every machine
        whole = np.floor(np.round(quotas[free], 9))
        remainders = np.round(quotas[free] - whole, 9)
        sizes[free] = whole.astype(np.int64)
        left = total - int(sizes.sum())
        first = np.flatnonzero(free)[np.argsort(-remainders, kind="stable")[:left]]
        sizes[first] += 1
    else:
        sizes[int(np.argmax(weights))] += total - int(sizes.sum())
    return sizes
