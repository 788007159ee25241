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


def check_table(frame: Any) -> None:
    """Raises DataError unless `frame` is a DataFrame with rows and distinct text column names."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"split takes a pandas DataFrame, not {type(frame).__name__}; read the file with pandas first")
    if frame.empty:
        raise DataError("there are no rows to split")
    names: list[object] = list(frame.columns)
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        raise DataError(f"column {odd[0]!r} has no text name; rename it, since a csv file keeps text only")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"two columns are called {twice!r}; rename one")


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
