"""Any silo's rows as columns, for comparing silos: a csv file's, or such as stand for arrays."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.silo import Silo
from sim.partition.sources import INPUTS

if TYPE_CHECKING:
    import pandas as pd

MOST_FEATURES = 200
"""Rows with more columns than this are taken for flattened images."""


@dataclass(frozen=True, kw_only=True)
class SiloRows:
    """One silo's rows of one split.

    file    its name in the silo's folder
    frame   the rows as columns
    """

    file: str
    frame: "pd.DataFrame"

    @property
    def is_table(self) -> bool:
        return self.file.endswith(".csv")


def read(silo: Silo, split: str) -> SiloRows:
    """The silo's rows as columns, of its csv file or of its arrays; raises DataError for a file that is not there."""
    import pandas as pd

    for suffix in (".npz", ".npy"):
        path = Path(silo.data) / f"{split}{suffix}"
        if path.is_file():
            return SiloRows(file=path.name, frame=frame_of(read_arrays(silo, path)))
    path = Path(silo.data) / f"{split}.csv"
    try:
        return SiloRows(file=path.name, frame=pd.read_csv(path))
    except OSError as error:
        raise DataError(f"silo {silo.name!r}: {path} cannot be read: {error.strerror}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"silo {silo.name!r}: {path} is not a csv file: {error}") from error


def read_arrays(silo: Silo, path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file, by name; a file of one calls it `x`."""
    try:
        found = np.load(path, allow_pickle=False)
        return {INPUTS: found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"silo {silo.name!r}: {path} holds no arrays that can be read: {error}") from error


def frame_of(arrays: Mapping[str, NDArray[Any]]) -> "pd.DataFrame":
    """Columns that stand for the arrays: themselves, their columns, or the mean and spread of each image."""
    import pandas as pd

    columns: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = array
        elif array.ndim == 2 and array.shape[1] <= MOST_FEATURES:
            columns |= {f"{name}[{i}]": array[:, i] for i in range(array.shape[1])}
        else:
            flat = array.reshape(len(array), -1).astype(np.float64)
            columns |= {f"{name} mean": flat.mean(axis=1), f"{name} std": flat.std(axis=1)}
    return pd.DataFrame(columns)
