"""ByColumn: one silo per value of a column."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_kit.errors import DataError
from sim.partition.columns import Rows, whole_column
from sim.partition.partitioner import Partitioner

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ByColumn(Partitioner):
    """The split that the data come with: rows with the same value of `column` share a silo.

    A silo is named by its value; where the value cannot be a silo's name, every other character
    becomes a dash (`VA Long Beach` → `VA-Long-Beach`). The column is left out of the silos' files: a
    silo knows who it is, and a model must not learn it.

    Raises DataError for an unknown column, a missing value in it, or two values that give one name.

    >>> federation = ByColumn("state").split(frame, label="ill")
    """

    column: str

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        import pandas as pd

        if label == self.column:
            raise DataError(f"column {label!r} cannot be both the silo and the label")
        codes, found = pd.factorize(whole_column(frame, self.column))
        source: dict[str, int] = {}
        for code, value in enumerate(found):
            name = silo_name(value)
            if name in source:
                raise DataError(
                    f"values {found[source[name]]!r} and {value!r} of {self.column!r} both give silo {name!r}; "
                    "rename one of them"
                )
            source[name] = code
        assigned = {name: np.flatnonzero(codes == code).astype(np.int64) for name, code in sorted(source.items())}
        if n is not None and n != len(assigned):
            raise DataError(f"column {self.column!r} makes {len(assigned)} silos, not {n}; leave n out")
        return assigned

    @property
    def left_out(self) -> tuple[str, ...]:
        return (self.column,)


def silo_name(value: Any) -> str:
    """The value as a silo's name; whole floats lose their `.0`, which a csv reader adds to counts."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", str(value)).strip("-_")[:63]
