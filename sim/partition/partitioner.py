"""What every partitioner shares: from assigned rows to a federation of local folders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fl_kit.errors import DataError
from fl_kit.silo import Federation, Silo
from sim.partition import folders
from sim.partition.columns import Rows, check_table, classes, is_number, is_whole_number
from sim.partition.holdout import holdout
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
"""Goes up when the same arguments deal rows in another way, so that no older folder is taken for a new one."""


@dataclass(frozen=True)
class Partitioner(ABC):
    """Deals the rows of a table to silos. A new one is a frozen dataclass with an `assign`."""

    @abstractmethod
    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        """Each silo's name and the positions of its rows, ascending; every row in exactly one silo.

        Pure: the same frame, n, label and seed give the same rows on every machine.
        """

    def keep(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """The columns that the silos' files hold: all, unless the partitioner says otherwise."""
        return frame

    def split(
        self,
        data: "pd.DataFrame",
        n: int | None = None,
        *,
        label: str | None = None,
        test: float = 0.3,
        seed: int = 0,
        folder: str | Path | None = None,
        names: Sequence[str] | None = None,
    ) -> Federation:
        """A federation whose silos own `train.csv` and `test.csv`; every row is in exactly one of the files.

        data    rows to deal; its index is not kept, its order is
        n       number of silos; not for ByColumn, which counts them itself
        label   column by which each silo's test split is stratified (and that Dirichlet skews);
                rows without a label form a stratum of their own
        test    share of each silo's rows held out, in (0, 1); at least one row is held out where a
                silo has two, and a single row is for training
        seed    same seed, same split, on every machine; the test split of a silo follows from the
                seed and the silo's name alone
        folder  where to keep the files: default `$FL_KIT_CACHE/partitions` where that variable is
                set, else `.fl_kit/partitions` in the working directory. The files go to a folder
                named by the sha256 of data, partitioner and arguments, so that equal calls share
                one and different calls never overwrite each other
        names   silo names in place of the default ones, in the order of these

        Raises DataError for data, columns or counts that cannot be split as asked, FederationError
        for names that cannot name a silo.
        """
        check_table(data)
        test, seed = check_share(test), check_seed(seed)
        assigned = rename(self.assign(data, n, label=label, seed=seed), names)
        silos = Federation(silos=tuple(Silo(name=name, data="") for name in assigned))
        check_labels(data, label, assigned)
        files = self.files(data, assigned, label=label, test=test, seed=seed)
        recipe = {
            "version": VERSION,
            "data": folders.sha256(folders.csv_bytes(data)),
            "partitioner": type(self).__name__,
            "settings": asdict(self),
            "silos": list(assigned),
            "label": label,
            "test": test,
            "seed": seed,
        }
        place = folders.ensure(folders.root(folder), recipe, files)
        return Federation(
            silos=tuple(
                Silo(name=name, data=str(place / name), tags={"rows": str(len(assigned[name]))}) for name in silos.names
            )
        )

    def files(
        self, data: "pd.DataFrame", assigned: Mapping[str, Rows], *, label: str | None, test: float, seed: int
    ) -> "dict[str, pd.DataFrame]":
        """The train and test rows of each silo, by path."""
        strata = np.zeros(len(data), dtype=np.int64) if label is None else classes(data, label)
        kept = self.keep(data)
        files = {}
        for name, rows in assigned.items():
            held = holdout(strata[rows], test, generator(seed, "test split", name))
            files[f"{name}/train.csv"] = kept.iloc[rows[~held]]
            files[f"{name}/test.csv"] = kept.iloc[rows[held]]
        return files


def rename(assigned: dict[str, Rows], names: Sequence[str] | None) -> dict[str, Rows]:
    """The same rows under the user's names; raises DataError unless there is one name per silo."""
    if names is None:
        return assigned
    if isinstance(names, str) or len(names) != len(assigned):
        raise DataError(f"names must list {len(assigned)} silo names, one for each of {', '.join(assigned)}")
    if len(set(names)) != len(names):
        raise DataError(f"names must differ: {', '.join(map(str, names))}")
    return dict(zip(names, assigned.values(), strict=True))


def check_share(test: float) -> float:
    if not is_number(test) or not 0 < test < 1:
        raise DataError(f"test is the share of rows held out, between 0 and 1 and neither of them; got {test!r}")
    return float(test)


def check_seed(seed: int) -> int:
    if not is_whole_number(seed):
        raise DataError(f"seed must be a whole number, not {seed!r}")
    return int(seed)


def check_labels(data: "pd.DataFrame", label: str | None, assigned: Mapping[str, Rows]) -> None:
    """Raises DataError that names the first silo with nothing to learn from."""
    found = np.zeros(len(data), dtype=np.int64) if label is None else classes(data, label)
    for name, rows in assigned.items():
        if len(rows) == 0:
            raise DataError(f"silo {name!r} would have no rows; ask for fewer silos")
        if (found[rows] < 0).all():
            raise DataError(
                f"silo {name!r} has no rows of the target: {label!r} is missing in all of its {len(rows)} rows; "
                "leave that silo's rows out, or choose another label"
            )
