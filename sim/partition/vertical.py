"""Vertical: parties know different columns of overlapping sets of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.silo import Federation, Silo
from sim.partition import folders
from sim.partition.columns import (
    Rows,
    check_share,
    check_table,
    classes,
    column,
    is_whole_number,
    numbered,
    whole_column,
)
from sim.partition.holdout import holdout
from sim.partition.partitioner import check_seed
from sim.partition.partitioner import check_share as check_test
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Vertical:
    """Two or more parties hold different columns, and share an id by which rows can be matched.

    parties  party → its columns, such as {"bank": ["income", "default"], "telecom": ["age", "bill"]}; or a number:
             the columns in their order, cut into so many groups, called `silo-01` … A column may be at several
             parties; every column must be at one
    overlap  share of the rows that every party knows, in [0, 1], default 1. Every other row is known to one party
             alone, dealt at random in equal numbers
    id       the column that names a row at every party; where the table has none of that name, the row's number
    shuffle  whether each party keeps its rows in an order of its own (default), as real parties do, so that nobody
             can match rows by place

    A row is in the train split of all parties that know it, or in the test split of all.

    >>> parties = Vertical({"bank": ["age", "ill"], "telecom": ["state", "year"]}, overlap=0.8)
    >>> parties.split(frame, label="ill").names
    ('bank', 'telecom')
    """

    parties: Mapping[str, Sequence[str]] | int
    overlap: float = 1.0
    id: str = "id"
    shuffle: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "overlap", check_share(self.overlap, "overlap"))
        if isinstance(self.parties, Mapping):
            for party, names in self.parties.items():
                if isinstance(names, str) or not len(names):
                    raise DataError(f"party {party!r} must list its columns, not {names!r}")
            object.__setattr__(self, "parties", {party: tuple(names) for party, names in self.parties.items()})
        elif is_whole_number(self.parties):
            object.__setattr__(self, "parties", int(self.parties))
        else:
            raise DataError(f"parties must be a number or party → columns, not {self.parties!r}")
        if (self.parties if isinstance(self.parties, int) else len(self.parties)) < 2:
            raise DataError("a vertical split needs two parties")

    def split(
        self,
        data: "pd.DataFrame",
        *,
        label: str | None = None,
        test: float = 0.3,
        seed: int = 0,
        folder: str | Path | None = None,
    ) -> Federation:
        """A federation whose parties own `train.csv` and `test.csv`, the id first.

        label   column by which the test split is stratified; it goes where `parties` says
        test, seed, folder as in `Partitioner.split`

        Raises DataError for unknown columns, columns at no party, an id that is missing or twice, or a party that
        would have no row.
        """
        check_table(data)
        test, seed = check_test(test), check_seed(seed)
        frame = self.with_id(data)
        columns = self.columns(frame)
        known = self.known(len(frame), tuple(columns), seed)
        Federation(silos=tuple(Silo(name=party, data="") for party in columns))
        strata = np.zeros(len(frame), dtype=np.int64) if label is None else classes(frame, label)
        held = holdout(strata, test, generator(seed, "test split"))
        files = {}
        for party, names in columns.items():
            for split, rows in (("train", known[party] & ~held), ("test", known[party] & held)):
                order = self.order(rows, party, split, seed)
                files[f"{party}/{split}.csv"] = partial(rows_as_csv, frame, order, [self.id, *names])
        recipe = {
            "data": folders.sha256(folders.csv_bytes(data)),
            "partitioner": "Vertical",
            "settings": asdict(self),
            "label": label,
            "test": test,
            "seed": seed,
        }
        return folders.federation(folder, recipe, files, {party: int(known[party].sum()) for party in columns})

    def with_id(self, data: "pd.DataFrame") -> "pd.DataFrame":
        """The table with an id column."""
        if self.id not in data.columns:
            return data.assign(**{self.id: np.arange(len(data))})
        ids = whole_column(data, self.id)
        if not ids.is_unique:
            raise DataError(f"the id {ids[ids.duplicated()].iloc[0]} stands in two rows")
        return data

    def columns(self, frame: "pd.DataFrame") -> dict[str, tuple[str, ...]]:
        """Each party's columns, without the id."""
        names = [name for name in frame.columns if name != self.id]
        if isinstance(self.parties, int):
            if self.parties > len(names):
                raise DataError(f"{self.parties} parties cannot share {len(names)} columns")
            groups = np.array_split(np.array(names, dtype=object), self.parties)
            return {party: tuple(group) for party, group in zip(numbered(self.parties), groups, strict=True)}
        for name in (name for group in self.parties.values() for name in group):
            column(frame, name)
        if left := [name for name in names if not any(name in group for group in self.parties.values())]:
            raise DataError(f"no party has the column {', '.join(map(repr, left))}; give it to one, or drop it first")
        return {party: tuple(n for n in group if n != self.id) for party, group in self.parties.items()}

    def known(self, rows: int, parties: tuple[str, ...], seed: int) -> dict[str, NDArray[np.bool_]]:
        """Which rows each party knows."""
        order = generator(seed, "vertical").permutation(rows)
        shared = int(np.floor(self.overlap * rows + 0.5))
        owner = np.full(rows, -1, dtype=np.int64)
        owner[order[shared:]] = np.arange(rows - shared) % len(parties)
        known = {party: (owner == -1) | (owner == i) for i, party in enumerate(parties)}
        for party, has in known.items():
            if not has.any():
                raise DataError(f"party {party!r} would know none of the {rows} rows; use a larger overlap")
        return known

    def order(self, rows: NDArray[np.bool_], party: str, split: str, seed: int) -> Rows:
        """The rows' positions, in the order of the party's file."""
        found = np.flatnonzero(rows).astype(np.int64)
        return generator(seed, f"vertical order {split}", party).permutation(found) if self.shuffle else found


def rows_as_csv(frame: "pd.DataFrame", rows: Rows, columns: list[str]) -> bytes:
    return folders.csv_bytes(frame.iloc[rows][columns])
