"""Grouped: several values of a column share a silo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_kit.errors import DataError
from fl_kit.silo import nearest
from sim.partition.columns import Rows, check_count, dealt, numbered, whole_column
from sim.partition.partitioner import Partitioner

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Grouped(Partitioner):
    """Rows are dealt by the value of a column, several values to one silo: states to regions, customers to branches.

    column  left out of the silos' files, as in ByColumn
    groups  silo → its values, such as {"north": ["ME", "VT"], "south": ["GA"]}; every value of the column in
            exactly one. None: n groups as equal in rows as may be – the value with the most rows goes first, each
            to the smallest group so far – called `silo-01`, `silo-02` …

    The values of a group never part: persons, say, of whom one silo knows all rows.

    Raises DataError for a column that is unknown or has missing values, for a value in no group or in two, for
    a group without rows, or for more silos than values.

    >>> federation = Grouped("state", groups={"north": ["ME", "VT"], "south": ["GA"]}).split(frame, label="ill")
    """

    column: str
    groups: Mapping[str, Sequence[Any]] | None = None

    def __post_init__(self) -> None:
        if self.groups is None:
            return
        groups: dict[str, tuple[Any, ...]] = {}
        home: dict[Any, str] = {}
        for silo, values in self.groups.items():
            if isinstance(values, str) or not len(values):
                raise DataError(f"group {silo!r} must list its values, not {values!r}")
            groups[silo] = tuple(values)
            for value in values:
                if value in home:
                    raise DataError(f"value {value!r} stands in the groups {home[value]!r} and {silo!r}")
                home[value] = silo
        object.__setattr__(self, "groups", groups)

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        import pandas as pd

        if label == self.column:
            raise DataError(f"column {label!r} cannot be both the silo and the label")
        codes, values = pd.factorize(whole_column(frame, self.column), sort=True)
        if self.groups is None:
            n = check_count(n, len(frame), "Grouped")
            if n > len(values):
                raise DataError(f"column {self.column!r} has {len(values)} values: ask for {len(values)} silos at most")
            return dealt(balanced(np.bincount(codes), n)[codes], numbered(n))
        if n is not None and n != len(self.groups):
            raise DataError(f"groups makes {len(self.groups)} silos, not {n}; leave n out")
        return dealt(self.numbers(list(values))[codes], tuple(self.groups))

    @property
    def left_out(self) -> tuple[str, ...]:
        return (self.column,)

    def numbers(self, values: list[Any]) -> Rows:
        """The number of the group of each value."""
        homes = {value: i for i, group in enumerate((self.groups or {}).values()) for value in group}
        if stray := [value for value in values if value not in homes]:
            raise DataError(f"no group has {self.column!r} = {told(stray)}; name one, or drop such rows")
        if unknown := [value for value in homes if value not in values]:
            known = nearest(str(unknown[0]), [str(value) for value in values])
            raise DataError(f"column {self.column!r} has no value {unknown[0]}{known}")
        return np.array([homes[value] for value in values], dtype=np.int64)


def balanced(sizes: Rows, n: int) -> Rows:
    """The number of the group of each value, the sums of sizes as equal as the greedy rule makes them."""
    group = np.zeros(len(sizes), dtype=np.int64)
    total = np.zeros(n, dtype=np.int64)
    for value in np.argsort(-sizes, kind="stable"):
        group[value] = int(np.argmin(total))
        total[group[value]] += sizes[value]
    return group


def told(values: list[Any]) -> str:
    """The first few, as text."""
    return ", ".join(map(str, values[:5])) + (" …" if len(values) > 5 else "")
