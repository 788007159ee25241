"""Sample data sets that come with fl-kit: offline, redistributable, and real but for the one that says SYNTHETIC.

>>> from sim import samples
>>> samples.available()
('card_fraud', 'credit_data', 'heart_disease', 'lending_club', 'mnist', 'penguins', 'us_addresses')
>>> len(samples.load("heart_disease").frame)
920
"""

import hashlib
import importlib.resources
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_kit.errors import DataError
from fl_kit.silo import Federation, nearest
from fl_kit.table import Shown, Table
from sim.image_sample import ImageSample
from sim.partition import ByColumn, Partitioner, Vertical
from sim.partition.columns import is_whole_number
from sim.public_samples import pneumoniamnist as pneumoniamnist
from sim.public_samples import wnut17 as wnut17
from sim.synthetic_cxr import synthetic_cxr as synthetic_cxr

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
GENERATED = "card_fraud"
"""The sample that is made when it is asked for."""
MOST_TOLD = 12
"""A title names this many silos at most."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Sample(Shown):
    """A data set with all that must be known of it.

    name      as in `load(name)`
    frame     the rows of data.csv: numbers, but for the silo column and columns of text; a value not measured is NaN
    manifest  source, attribution, licence, sha256 and columns, as in manifest.json

    >>> federation = load("penguins").federation()
    >>> federation.names
    ('biscoe', 'dream', 'torgersen')
    """

    name: str
    frame: "pd.DataFrame"
    manifest: Mapping[str, Any]

    @property
    def silo_column(self) -> str:
        """The column that says whose row it is; raises DataError where the data have none."""
        if "silo_column" not in self.manifest:
            how = " or sample.vertical() for its parties" if self.parties else ""
            raise DataError(f"{self.name} has no silo column: write sample.federation(by=…, n=…){how}")
        return str(self.manifest["silo_column"])

    @property
    def parties(self) -> dict[str, tuple[str, ...]]:
        """Party → the columns that it would hold, for data that tell a vertical story; else empty."""
        return {party: tuple(columns) for party, columns in self.manifest.get("parties", {}).items()}

    @property
    def target(self) -> str:
        """The column to predict."""
        return str(self.manifest["target"]["column"])

    @property
    def classes(self) -> dict[str, str]:
        """What each value of the target means."""
        return dict(self.manifest["target"]["classes"])

    @property
    def features(self) -> tuple[str, ...]:
        """The columns to predict from, in the order of the silos' files."""
        return tuple(name for name in self.frame.columns if name not in (self.manifest.get("silo_column"), self.target))

    def federation(
        self,
        by: Partitioner | None = None,
        *,
        n: int | None = None,
        largest: int | None = None,
        test: float = 0.3,
        seed: int = 0,
        folder: str | Path | None = None,
    ) -> Federation:
        """Local folders per silo with train.csv and test.csv, stratified by the target.

        by       how rows are dealt; default: each to its own silo, by the silo column
        n        number of silos, for a partitioner that needs it
        largest  only the rows of so many of the data's own silos, those with the most rows; default: all
        test, seed, folder as in `Partitioner.split`

        The silo column is left out of the files whatever `by` is, so that one task reads them all; `by` may deal by it,
        as FeatureShift(ByColumn("hospital")) does.
        Raises DataError as `Partitioner.split` does, and for data without a silo column of their own.

        >>> load("penguins").federation().names  # doctest: +SKIP
        ('biscoe', 'dream', 'torgersen')
        """
        own = None if by is not None and "silo_column" not in self.manifest else ByColumn(self.silo_column)
        by = by or own
        assert by is not None
        rows = self.frame if largest is None else self.frame[self.frame[self.silo_column].isin(self._largest(largest))]
        rows = rows.drop(columns=own.column) if own and own.column not in by.left_out else rows
        # a row's tags are a sequence, not a class: nothing to stratify by
        label = None if self.manifest["target"].get("sequence") else self.target
        federation = by.split(rows, n, label=label, test=test, seed=seed, folder=folder)
        regions = self.manifest["regions"] if by == own else {}
        return replace(
            federation,
            silos=tuple(replace(silo, region=regions.get(silo.name, "")) for silo in federation.silos),
        )

    def vertical(
        self, *, overlap: float = 1.0, test: float = 0.3, seed: int = 0, folder: str | Path | None = None
    ) -> Federation:
        """Local folders per party, each with its own columns of the rows that it knows, and an id to match them by.

        overlap  share of the rows that every party knows
        test, seed, folder as in `Vertical.split`

        Raises DataError as `Vertical.split` does, and for data that tell no vertical story.
        """
        if not self.parties:
            raise DataError(f"{self.name} names no parties: say who holds which columns with sim.Vertical({{…}})")
        by = Vertical(self.parties, overlap=overlap)
        return by.split(self.frame, label=self.target, test=test, seed=seed, folder=folder)

    def _largest(self, count: int) -> list[str]:
        """The silos with the most rows; of two with as many, the first in the alphabet."""
        rows = self.manifest["silos"]
        if not is_whole_number(count) or not 1 <= count <= len(rows):
            raise DataError(f"largest must be a whole number from 1 to {len(rows)} silos, not {count!r}")
        return sorted(rows, key=lambda silo: (-rows[silo], silo))[:count]

    def table(self) -> Table:
        """One row per column of the data; the licence and the attribution stand below."""
        silos = self.manifest.get("silos", {})
        told = [f"{name} {rows}" for name, rows in list(silos.items())[:MOST_TOLD]]
        told += [f"{len(silos) - MOST_TOLD} more"] if len(silos) > MOST_TOLD else []
        return Table(
            columns=["column", "type", "unit", "missing", "description"],
            rows=[
                [c["name"], c["type"], c.get("unit", ""), c["missing"], c["description"]]
                for c in self.manifest["columns"]
            ],
            title=f"{self.manifest['title']}: {len(self.frame)} rows" + (f" ({', '.join(told)})" if told else ""),
            note=f"{self.manifest['licence']}. {self.manifest['attribution']}",
        )


def available() -> tuple[str, ...]:
    """The names that `load` knows, in alphabetical order.

    >>> "penguins" in available()
    True
    """
    return tuple(sorted(entry.name for entry in home().iterdir() if (entry / MANIFEST).is_file()))


def load(name: str) -> Sample:
    """The sample of that name.

    Raises DataError for an unknown name, with the nearest one, and for a data.csv that is not the one
    that the manifest states.

    >>> load("penguins").classes
    {'0': 'Adelie', '1': 'Chinstrap', '2': 'Gentoo'}
    """
    import pandas as pd

    if name == GENERATED:
        return card_fraud()
    manifest, content = read(name)
    if not manifest["data"]["file"].endswith(".csv"):
        raise DataError(f"sample {name!r} holds no table but images: write samples.images({name!r})")
    return Sample(name=name, frame=pd.read_csv(io.BytesIO(content)), manifest=manifest)


def card_fraud(rows: int = 48_000, *, seed: int = 0) -> Sample:
    """SYNTHETIC card payments with fraud, made from the seed; `load("card_fraud")` is those of the defaults.

    rows  how many, at least 2000

    data_samples/card_fraud/DATA_CARD.md says what they are like, and what they are no evidence for.
    Raises DataError as `sim.card_fraud.payments` does.

    >>> payments = card_fraud(rows=2000).frame
    """
    from sim.card_fraud import payments

    frame = payments(rows, seed=seed)
    manifest = read_manifest(GENERATED)
    silos = {str(name): int(count) for name, count in frame[manifest["silo_column"]].value_counts().items()}
    columns = [{**column, "missing": int(frame[column["name"]].isna().sum())} for column in manifest["columns"]]
    return Sample(name=GENERATED, frame=frame, manifest={**manifest, "silos": silos, "columns": columns})


def images(name: str) -> ImageSample:
    """The sample of images of that name; raises DataError as `load` does.

    >>> images("mnist").images.shape
    (10000, 28, 28)
    """
    manifest, content = read(name)
    if not manifest["data"]["file"].endswith(".npz"):
        raise DataError(f"sample {name!r} holds no images but a table: write samples.load({name!r})")
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        return ImageSample(name=name, images=found["x"], labels=found["y"], manifest=manifest)


def read(name: str) -> tuple[dict[str, Any], bytes]:
    """A sample's manifest, and the bytes of its data file, which are those that it states."""
    folder, manifest = home() / str(name), read_manifest(name)
    if name == GENERATED:
        raise DataError(f"sample {name!r} has no file: write samples.load({name!r})")
    try:
        content = (folder / manifest["data"]["file"]).read_bytes()
    except (OSError, KeyError, TypeError) as error:
        raise DataError(f"sample {name!r} cannot be read: {error}; install fl-kit again") from error
    if hashlib.sha256(content).hexdigest() != manifest["data"]["sha256"]:
        raise DataError(
            f"{folder / manifest['data']['file']} differs from the sha256 in its manifest: the file was changed or "
            f"damaged; make it again with {manifest['data']['made_by']} beside it"
        )
    return manifest, content


def read_manifest(name: str) -> dict[str, Any]:
    """What is stated of a sample."""
    if name not in available():
        raise DataError(f"there is no sample {name!r}{nearest(str(name), available())}")
    try:
        manifest: dict[str, Any] = json.loads((home() / name / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"sample {name!r} cannot be read: {error}; install fl-kit again") from error
    return manifest


def home() -> Traversable:
    """The folder `data_samples`, of a checkout or of an installed package."""
    return importlib.resources.files("data_samples")
