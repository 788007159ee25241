"""A pandas frame that shows itself as one of our tables, and is a frame in everything else."""

from functools import cache
from typing import Any

from fl_kit.table import HEAD, MOST, TAIL, Cell, Shown, Table


@cache
def shown_frame() -> Any:
    """The base class of such frames, made when pandas is first needed.

    What pandas derives from one, a selection or a pivot, is a plain DataFrame: what is said of the whole in a title
    would no longer hold for it.
    """
    import pandas as pd

    class ShownFrame(Shown, pd.DataFrame):
        """A frame whose repr is the table that `table()` gives."""

        # pandas takes an attribute that is not named here for a column
        _internal_names = (*pd.DataFrame._internal_names, "_events")  # type: ignore[attr-defined]  # no stub
        _internal_names_set = frozenset(_internal_names)

        @property
        def _constructor(self) -> "type[pd.DataFrame]":
            return pd.DataFrame

        def __reduce_ex__(self, protocol: Any) -> Any:
            return pd.DataFrame, (pd.DataFrame(self),)  # a class inside a function does not travel

    return ShownFrame


def as_table(frame: Any, *, title: str, note: str = "", without: tuple[str, ...] = ()) -> Table:
    """A frame's rows as they are, but for some columns."""
    count = len(frame)
    long = count > MOST  # a history may have a million rows, of which nobody reads more than these
    shown = frame.iloc[[*range(HEAD), *range(count - TAIL, count)]] if long else frame
    columns = [name for name in frame.columns if name not in without]
    rows = zip(*(shown[name].tolist() for name in columns), strict=True)
    return Table(
        columns=[str(name) for name in columns],
        rows=[[*map(cell, row)] for row in rows],
        title=title,
        note=note,
        left_out=count - len(shown),
    )


def cell(value: Any) -> Cell:
    """A value of a frame, to which its user may have added columns of any kind."""
    return value if value is None or isinstance(value, str | int | float) else str(value)
