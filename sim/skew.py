"""How the silos' data differ: sizes, label mix, missing values, features, and the distances from the pool."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.silo import Federation, nearest
from fl_kit.table import Cell, Shown, Table
from sim.distances import gini, jensen_shannon, wasserstein
from sim.partition.sources import TARGETS
from sim.silo_rows import SiloRows, read

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 50
"""Above this a label is taken for a quantity, of which shares would say nothing."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Skew(Shown):
    """How the silos of a federation differ in one split.

    label    the target column; empty where none was given, and then there are no classes
    split    "train" or "test"
    silos    names, in silo order
    classes  the label's values as text, in order
    counts   (silos, classes): rows of each class; rows without a label are in none
    rows     (silos,): rows, with or without a label
    columns  the feature columns
    missing  (silos, columns): share of rows whose value is missing, in [0, 1]
    features the numeric ones of the columns
    shift    (silos, features): distance of the silo's values from those of all rows, see `wasserstein`; nan where
             a silo has no value

    >>> found = skew(federation, "ill")
    >>> found.shares.shape  # four silos, two classes
    (4, 2)
    >>> figure = found.plot()
    """

    label: str
    split: str
    silos: tuple[str, ...]
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: tuple[str, ...]
    missing: NDArray[np.float64]
    features: tuple[str, ...]
    shift: NDArray[np.float64]

    @property
    def gini(self) -> float:
        """Inequality of the silos' sizes, see `gini`: 0 for equal ones."""
        return gini(self.rows)

    @property
    def feature_shift(self) -> NDArray[np.float64]:
        """(silos,): the mean of `shift` over the features that a silo has; nan where it has none."""
        there = ~np.isnan(self.shift)
        count = there.sum(axis=1)
        total = np.where(there, self.shift, 0).sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    @property
    def shares(self) -> NDArray[np.float64]:
        """(silos, classes): the label mix of each silo; a row sums to 1."""
        return np.asarray(self.counts / self.counts.sum(axis=1, keepdims=True), dtype=np.float64)

    @property
    def divergence(self) -> NDArray[np.float64]:
        """(silos,): Jensen–Shannon divergence of each silo's label mix from the pooled one, in bits.

        0: the pooled mix; 1: no class in common with it, which a silo cannot reach, being in the pool.
        """
        pooled = self.counts.sum(axis=0) / self.counts.sum()
        return np.array([jensen_shannon(mix, pooled) for mix in self.shares])

    @property
    def headline(self) -> str:
        """The figures in a line, each the mean over the silos."""
        far = self.feature_shift[~np.isnan(self.feature_shift)]
        parts = [f"JS {self.divergence.mean():.2f}"] if self.classes else []
        parts.append(f"Gini {self.gini:.2f}")
        return " · ".join([*parts, *([f"shift {far.mean():.2f}"] if len(far) else [])])

    def table(self) -> Table:
        """One row per silo, the pooled rows last."""
        weights = self.rows / self.rows.sum()
        cells = self.missing.mean(axis=1) if self.columns else np.zeros(len(self.silos))
        far = self.feature_shift
        rows: list[list[Cell]] = [
            [
                name,
                int(self.rows[i]),
                *(map(percent, self.shares[i]) if self.classes else ()),
                percent(cells[i]),
                *([round(float(self.divergence[i]), 6)] if self.classes else ()),
                None if np.isnan(far[i]) else round(float(far[i]), 6),
            ]
            for i, name in enumerate(self.silos)
        ]
        pooled = map(percent, self.counts.sum(axis=0) / self.counts.sum()) if self.classes else ()
        distances = [None, None] if self.classes else [None]
        rows.append(["all", int(self.rows.sum()), *pooled, percent(cells @ weights), *distances])
        divergence = ["JS divergence"] if self.classes else []
        mixed = "JS divergence of the silo's label mix from that of all rows, in bits: 0 is the same mix. "
        return Table(
            columns=["silo", "rows", *self.classes, "missing cells", *divergence, "feature shift"],
            rows=rows,
            title=f"Skew{f' of {self.label!r}' if self.label else ''} over {len(self.silos)} silos ({self.split})",
            note=f"Gini of the sizes {self.gini:.3f}. {mixed if self.classes else ''}"
            "Feature shift: mean Wasserstein distance from all rows, in standard deviations",
        )

    def plot(self) -> "Figure":
        """The label mix of each silo as bars, and beside it the share of missing values per column.

        More than 25 silos, or no label: sizes as bars, and below them a dot for each silo and class.
        """
        from sim.skew_dots import MOST_NAMES, draw_many
        from sim.skew_picture import draw

        if len(self.silos) > MOST_NAMES or not self.classes:
            return draw_many(
                label=self.label,
                title=self.headline,
                silos=self.silos,
                rows=self.rows,
                classes=self.classes,
                counts=self.counts,
            )

        columns, missing = grouped(self.columns, self.missing)
        return draw(
            label=self.label,
            silos=self.silos,
            rows=[int(count) for count in self.rows],
            classes=self.classes,
            shares=self.shares,
            divergence=self.divergence,
            columns=columns,
            missing=missing,
        )


def skew(
    federation: Federation, label: str | None = None, split: str = "train", *, names: Mapping[str, str] | None = None
) -> Skew:
    """Read the silos' `<split>.csv`, `.npz` or `.npy` and compare them. For simulation: it opens every silo's data.

    label  the target column; numbers or text, at most 50 classes. Default: `y` of arrays where it has no more, and
           none of tables
    names  what the label's values mean, such as a sample's `classes`

    Of arrays with a row and columns, each column is a feature; of images, the mean and the standard deviation of
    each one's pixels are: brightness and contrast.

    Raises DataError, naming the silo, where a file or column is missing or no row has a label.

    >>> print(skew(federation, "ill").headline)
    JS ... · Gini ... · shift ...
    """
    found = {silo.name: read(silo, split) for silo in federation.silos}
    label = default_label(found) if label is None else label
    columns = same_columns(found, label)
    values = [] if label is None else label_values(found, label)
    frames = [rows.frame for rows in found.values()]
    features = tuple(name for name in columns if all(frame[name].dtype.kind in "iufb" for frame in frames))
    return Skew(
        label=label or "",
        split=split,
        silos=federation.names,
        classes=tuple((names or {}).get(text(value), text(value)) for value in values),
        counts=np.array([[int((frame[label] == value).sum()) for value in values] for frame in frames], dtype=np.int64),
        rows=np.array([len(frame) for frame in frames]),
        columns=columns,
        missing=np.array([frame[list(columns)].isna().mean().to_numpy(dtype=float) for frame in frames]),
        features=features,
        shift=np.array([wasserstein([frame[name].to_numpy(dtype=float) for frame in frames]) for name in features])
        .reshape(len(features), len(frames))
        .T,
    )


def default_label(found: Mapping[str, SiloRows]) -> str | None:
    """The targets of arrays, where they are classes."""
    if any(rows.is_table or TARGETS not in rows.frame.columns for rows in found.values()):
        return None
    classes = {value for rows in found.values() for value in rows.frame[TARGETS].unique()}
    return TARGETS if len(classes) <= MOST_CLASSES else None


def label_values(found: Mapping[str, SiloRows], label: str) -> list[Any]:
    """The classes in any silo, in order; raises DataError for a silo without one, or for too many."""
    for silo, rows in found.items():
        if rows.frame[label].notna().sum() == 0:
            raise DataError(f"silo {silo!r}: no row of {rows.file} has a {label!r}")
    values = sorted({value for rows in found.values() for value in rows.frame[label].dropna()}, key=order)
    if len(values) > MOST_CLASSES:
        raise DataError(f"{label!r} has {len(values)} values: skew compares classes, {MOST_CLASSES} at most")
    return values


def same_columns(found: Mapping[str, SiloRows], label: str | None) -> tuple[str, ...]:
    """The columns beside the label; raises DataError for a silo without the label, with other columns, or empty."""
    columns = tuple(name for name in next(iter(found.values())).frame.columns if name != label)
    for silo, rows in found.items():
        names = list(rows.frame.columns)
        if label is not None and label not in names:
            raise DataError(f"silo {silo!r}: {rows.file} has no column {label!r}{nearest(label, names)}")
        if odd := sorted({*names} - {label} ^ {*columns}):
            raise DataError(f"silo {silo!r}: {rows.file} has other columns than the first silo's: {', '.join(odd)}")
        if len(rows.frame) == 0:
            raise DataError(f"silo {silo!r}: {rows.file} has no rows")
    return columns


def order(value: Any) -> tuple[bool, float, str]:
    """Sorts numbers by value, then text by letters."""
    number = isinstance(value, int | float | np.number)
    return (not number, float(value) if number else 0.0, str(value))


def text(value: Any) -> str:
    """A class as text; a whole float loses the `.0` that missing labels give it."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def grouped(columns: tuple[str, ...], missing: NDArray[np.float64]) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The columns with a gap in any silo; neighbours of one prefix and the same gaps as one `prefix_*`.

    Such neighbours are one category spelled as 0/1 columns, and would only repeat each other.
    """
    kept: dict[str, NDArray[np.float64]] = {}
    previous = ""
    for name, shares in zip(columns, missing.T, strict=True):
        prefix, _, rest = name.partition("_")
        if previous and rest and prefix == previous.partition("_")[0] and np.array_equal(kept[previous], shares):
            kept[f"{prefix}_*"] = kept.pop(previous)
            previous = f"{prefix}_*"
        elif shares.any():
            kept[name] = shares
            previous = name
    return tuple(kept), np.array(list(kept.values())).reshape(len(kept), len(missing)).T


def percent(share: float) -> str:
    return f"{share:.1%}"
