"""How the silos' data differ: label mix, missing values, and the distance from the pooled mix."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.silo import Federation, Silo, nearest
from fl_kit.table import Cell, Shown, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_CLASSES = 50
"""Above this a label is taken for a quantity, of which shares would say nothing."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Skew(Shown):
    """How the silos of a federation differ in one split.

    label    the target column
    split    "train" or "test"
    silos    names, in silo order
    classes  the label's values as text, in order
    counts   (silos, classes): rows of each class; rows without a label are in none
    rows     (silos,): rows, with or without a label
    columns  the feature columns
    missing  (silos, columns): share of rows whose value is missing, in [0, 1]
    """

    label: str
    split: str
    silos: tuple[str, ...]
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: tuple[str, ...]
    missing: NDArray[np.float64]

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

    def table(self) -> Table:
        """One row per silo, the pooled rows last."""
        weights = self.rows / self.rows.sum()
        pooled = self.counts.sum(axis=0) / self.counts.sum()
        cells = self.missing.mean(axis=1) if self.columns else np.zeros(len(self.silos))
        rows: list[list[Cell]] = [
            [name, int(count), *map(percent, mix), percent(empty), round(float(distance), 3)]
            for name, count, mix, empty, distance in zip(
                self.silos, self.rows, self.shares, cells, self.divergence, strict=True
            )
        ]
        rows.append(["all", int(self.rows.sum()), *map(percent, pooled), percent(cells @ weights), None])
        return Table(
            columns=["silo", "rows", *self.classes, "missing cells", "JS divergence"],
            rows=rows,
            title=f"Skew of {self.label!r} over {len(self.silos)} silos ({self.split})",
            note="JS divergence of the silo's label mix from that of all rows, in bits: 0 is the same mix",
        )

    def plot(self) -> "Figure":
        """The label mix of each silo as bars, and beside it the share of missing values per column."""
        from sim.skew_picture import draw

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


def skew(federation: Federation, label: str, split: str = "train", *, names: Mapping[str, str] | None = None) -> Skew:
    """Read the silos' `<split>.csv` and compare them. For simulation: it opens every silo's data.

    label  the target column; numbers or text, at most 50 classes
    names  what the label's values mean, such as a sample's `classes`

    Raises DataError, naming the silo, where a file or column is missing or no row has a label.
    """
    frames = {silo.name: read(silo, split) for silo in federation.silos}
    for silo, frame in frames.items():
        if label not in frame.columns:
            raise DataError(f"silo {silo!r}: {split}.csv has no column {label!r}{nearest(label, list(frame.columns))}")
        if frame[label].notna().sum() == 0:
            raise DataError(f"silo {silo!r}: no row of {split}.csv has a {label!r}")
    values = sorted({value for frame in frames.values() for value in frame[label].dropna()}, key=order)
    if len(values) > MOST_CLASSES:
        raise DataError(f"{label!r} has {len(values)} values: skew compares classes, {MOST_CLASSES} at most")
    columns = tuple(name for name in next(iter(frames.values())).columns if name != label)
    for silo, frame in frames.items():
        if set(frame.columns) - {label} != set(columns):
            odd = sorted((set(frame.columns) - {label}) ^ set(columns))
            raise DataError(f"silo {silo!r}: {split}.csv has other columns than the first silo's: {', '.join(odd)}")
    return Skew(
        label=label,
        split=split,
        silos=federation.names,
        classes=tuple((names or {}).get(text(value), text(value)) for value in values),
        counts=np.array([[int((frame[label] == value).sum()) for value in values] for frame in frames.values()]),
        rows=np.array([len(frame) for frame in frames.values()]),
        columns=columns,
        missing=np.array([frame[list(columns)].isna().mean().to_numpy(dtype=float) for frame in frames.values()]),
    )


def read(silo: Silo, split: str) -> "pd.DataFrame":
    import pandas as pd

    path = Path(silo.data) / f"{split}.csv"
    try:
        return pd.read_csv(path)
    except OSError as error:
        raise DataError(f"silo {silo.name!r}: {path} cannot be read: {error.strerror}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"silo {silo.name!r}: {path} is not a csv file: {error}") from error


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


def jensen_shannon(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Jensen–Shannon divergence of two distributions, base 2, in [0, 1] (Lin 1991, doi 10.1109/18.61115).

    JS(p, q) = KL(p ‖ m) / 2 + KL(q ‖ m) / 2 with m = (p + q) / 2.

    >>> jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    1.0
    """
    middle = (p + q) / 2
    return (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2


def kullback_leibler(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """KL(p ‖ q) in bits; classes that p lacks add nothing."""
    has = p > 0
    return float(np.sum(p[has] * np.log2(p[has] / q[has])))
