"""What every partitioner shares: from assigned rows to a federation of local folders."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.silo import Federation, Silo
from sim.partition import folders
from sim.partition.columns import Rows, classes, is_number, is_whole_number
from sim.partition.holdout import holdout
from sim.partition.randomness import generator
from sim.partition.sources import Columns, Source, source_of

if TYPE_CHECKING:
    import pandas as pd


Change = Callable[[Columns, str, str], Columns]
"""(a silo's columns, its name, "train" or "test") → the columns that differ there, alone."""


@dataclass(frozen=True)
class Partitioner(ABC):
    """Deals the rows of a table, of arrays or of a Dataset to silos. A new one is a frozen dataclass with an `assign`.

    `assign` is pure and can be called alone: `IID().assign(pd.DataFrame({"y": labels}), 10, label="y", seed=0)`.

    >>> rows = IID().assign(frame, 4, label=None, seed=0)
    >>> [len(positions) for positions in rows.values()]
    [50, 50, 50, 50]
    """

    @abstractmethod
    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        """Each silo's name and the positions of its rows, ascending; every row in exactly one silo.

        Pure: the same frame, n, label and seed give the same rows on every machine.
        """

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns that the silos' files do not hold: none, unless the partitioner says otherwise."""
        return ()

    def hold(
        self, frame: "pd.DataFrame", rows: Rows, strata: Rows, share: float, random: np.random.Generator
    ) -> NDArray[np.bool_]:
        """Which of a silo's rows are its test split: a share of each class, unless the partitioner says otherwise."""
        return holdout(strata, share, random)

    def change(self, columns: Columns, silos: Sequence[str], *, label: str | None, seed: int) -> Change | None:
        """How silos differ in what they hold, beyond whose rows they are; None: in nothing.

        columns  of all rows, for what is the same at every silo, such as the label's classes
        """
        return None

    def split(
        self,
        data: Any,
        n: int | None = None,
        *,
        label: str | None = None,
        test: float = 0.3,
        seed: int = 0,
        folder: str | Path | None = None,
        names: Sequence[str] | None = None,
    ) -> Federation:
        """A federation whose silos own `train.csv` and `test.csv`; every row is in exactly one of the files.

        data    rows to deal: a DataFrame (its index is not kept, its order is); arrays (inputs, targets) or a
                mapping of arrays by name; a torch Dataset of (input, target), every item of which is read once.
                Arrays and Datasets give `train.npz` and `test.npz`, with `x` and `y` or the mapping's names
        n       number of silos; not for ByColumn, which counts them itself
        label   column by which each silo's test split is stratified (and that Dirichlet skews);
                rows without a label form a stratum of their own. Default for arrays and Datasets: their
                targets, `y`
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
        source, label = source_of(data, label)
        keys = source.keys
        test, seed = check_share(test), check_seed(seed)
        assigned = rename(self.assign(keys, n, label=label, seed=seed), names)
        silos = Federation(silos=tuple(Silo(name=name, data="") for name in assigned))
        check_labels(keys, label, assigned)
        files = self.files(source, assigned, label=label, test=test, seed=seed)
        recipe = {
            "data": source.digest(),
            "partitioner": type(self).__name__,
            "settings": settings(self),
            "silos": list(assigned),
            "label": label,
            "test": test,
            "seed": seed,
        }
        return folders.federation(folder, recipe, files, {name: len(assigned[name]) for name in silos.names})

    def files(
        self, source: Source, assigned: Mapping[str, Rows], *, label: str | None, test: float, seed: int
    ) -> folders.Files:
        """The train and test rows of each silo, by path; each file is made when it is asked for."""
        strata = np.zeros(len(source.keys), dtype=np.int64) if label is None else classes(source.keys, label)
        change = self.change(source.columns(), tuple(assigned), label=label, seed=seed)

        def content(name: str, split: str, rows: Rows) -> bytes:
            changed = {} if change is None else change(source.columns(rows), name, split)
            return source.content(rows, changed, self.left_out)

        files = {}
        for name, rows in assigned.items():
            held = self.hold(source.keys, rows, strata[rows], test, generator(seed, "test split", name))
            for split, part in (("train", rows[~held]), ("test", rows[held])):
                files[f"{name}/{split}.{source.suffix}"] = partial(content, name, split, part)
        return files


def settings(partitioner: Partitioner) -> dict[str, Any]:
    """A partitioner's fields as JSON values; one inside it by its class and its own fields."""

    def plain(value: Any) -> Any:
        return {type(value).__name__: settings(value)} if isinstance(value, Partitioner) else value

    return {field.name: plain(getattr(partitioner, field.name)) for field in fields(partitioner)}


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
