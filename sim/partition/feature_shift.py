"""FeatureShift: every silo sees the world through its own instrument."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.silo import nearest
from sim.partition.columns import is_number
from sim.partition.onto import Onto
from sim.partition.partitioner import Change
from sim.partition.randomness import generator
from sim.partition.sources import Columns

Values = NDArray[np.float64]
IMAGES = 3
"""Dimensions from which an array is one of images: (rows, height, width) or (rows, channels, height, width)."""


@dataclass(frozen=True)
class FeatureShift(Onto):
    """The silos' inputs differ by a transform that grows from the first silo to the last; labels do not change.

    base      who deals the rows; default IID
    kind      for silo i of n, with the place t = i / (n - 1) from 0 to 1 (a single silo: 1):
              "gamma"  x^g of values in [0, 1], g = (1 + strength)^(2 t - 1): from brighter over unchanged to darker
              "noise"  x + normal noise of standard deviation strength · t · s, with s the spread of the feature over
                       all rows (for images of all pixels): Li et al. 2021 (arXiv 2102.02079), whose noise grows with i
              "blur"   a Gaussian of strength · t pixels over the last two axes of images
              "scale"  a · x + b · s, log a and b drawn for each silo and column from a normal distribution of standard
                       deviation strength: laboratories with units and offsets of their own
    strength  at least 0, default 1; 0 changes nothing
    columns   which features change; default: all numeric ones but the label (of a table), `x` (of arrays)

    Whole-number pixels stay whole numbers of their type, cut off at its ends, and their range counts as [0, 1];
    whole-number columns of a table become floats. A missing value stays missing. Both splits change.

    Raises DataError for an unknown kind or column, text columns, gamma of values outside [0, 1], blur of what is
    no image.

    >>> federation = FeatureShift(kind="noise", strength=0.5).split(frame, 4, label="ill")
    """

    kind: str = "scale"
    strength: float = 1.0
    columns: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in TRANSFORMS:
            raise DataError(f"kind must be {', '.join(TRANSFORMS)}, not {self.kind!r}")
        if not is_number(self.strength) or not 0 <= self.strength < np.inf:
            raise DataError(f"strength must be a finite number of at least 0, not {self.strength!r}")
        if isinstance(self.columns, str):
            raise DataError(f"columns must list names, not {self.columns!r}")
        object.__setattr__(self, "strength", float(self.strength))
        object.__setattr__(self, "columns", None if self.columns is None else tuple(self.columns))

    def own_change(self, columns: Columns, silos: Sequence[str], *, label: str | None, seed: int) -> Change:
        names = self.features(columns, label)
        spread = {name: spread_of(columns[name]) for name in names}
        place = {silo: i / (len(silos) - 1) if len(silos) > 1 else 1.0 for i, silo in enumerate(silos)}

        def change(part: Columns, silo: str, split: str) -> Columns:
            found = {}
            for name in names if self.strength else ():
                # noise is new in each split, an instrument's scale is not
                random = generator(seed, f"feature shift {name} {split if self.kind == 'noise' else ''}", silo)
                values = to_unit(part[name])
                shifted = TRANSFORMS[self.kind](values, self.strength, place[silo], spread[name], random)
                found[name] = from_unit(shifted, part[name])
            return found

        return change

    def features(self, columns: Columns, label: str | None) -> tuple[str, ...]:
        """The columns that change."""
        numeric = [n for n, v in columns.items() if v.dtype.kind in "iuf" and n not in (label, *self.left_out)]
        names = tuple(numeric) if self.columns is None else tuple(self.columns)
        arrays = [name for name in names if name in columns and columns[name].ndim > 1]
        if self.columns is None and arrays:
            names = tuple(arrays)
        for name in names:
            if name not in columns:
                raise DataError(f"there is no column {name!r}{nearest(name, list(columns))}")
            if name == label or name not in numeric:
                raise DataError(f"column {name!r} is no numeric feature, so it cannot be shifted")
            self.check(name, columns[name])
        if not names:
            raise DataError("there is no numeric feature to shift")
        return names

    def check(self, name: str, values: NDArray[Any]) -> None:
        if self.kind == "blur" and values.ndim < IMAGES:
            raise DataError(f"{name!r} of shape {values.shape} is no image: blur needs (rows, height, width)")
        if self.kind == "gamma":
            unit = to_unit(values)
            if np.nanmin(unit) < 0 or np.nanmax(unit) > 1:
                raise DataError(
                    f"gamma needs values in [0, 1], and {name!r} goes from {np.nanmin(unit):g} to {np.nanmax(unit):g}"
                )


def gamma(values: Values, strength: float, place: float, spread: float, random: np.random.Generator) -> Values:
    return np.asarray(values ** ((1 + strength) ** (2 * place - 1)))


def noise(values: Values, strength: float, place: float, spread: float, random: np.random.Generator) -> Values:
    return values + strength * place * spread * random.standard_normal(values.shape)


def blur(values: Values, strength: float, place: float, spread: float, random: np.random.Generator) -> Values:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(values, [0.0] * (values.ndim - 2) + [strength * place] * 2, mode="nearest"))


def scale(values: Values, strength: float, place: float, spread: float, random: np.random.Generator) -> Values:
    columns = values.shape[1] if values.ndim == 2 else 1
    factor, offset = np.exp(strength * random.standard_normal(columns)), strength * random.standard_normal(columns)
    return values * factor + offset * spread


TRANSFORMS: dict[str, Callable[[Values, float, float, float, np.random.Generator], Values]] = {
    "gamma": gamma,
    "noise": noise,
    "blur": blur,
    "scale": scale,
}


def is_pixels(values: NDArray[Any]) -> bool:
    """Whether these are grey levels in a small whole-number type."""
    return values.ndim > 1 and values.dtype.kind == "u"


def to_unit(values: NDArray[Any]) -> Values:
    """As floats; grey levels as shares of their range."""
    return values / float(np.iinfo(values.dtype).max) if is_pixels(values) else values.astype(np.float64)


def from_unit(values: Values, like: NDArray[Any]) -> NDArray[Any]:
    """In the type that they had; a table's whole numbers become floats."""
    if is_pixels(like):
        return np.rint(np.clip(values, 0, 1) * np.iinfo(like.dtype).max).astype(like.dtype)
    return values.astype(like.dtype if like.dtype.kind == "f" else np.float64)


def spread_of(values: NDArray[Any]) -> Any:
    """The standard deviation of a column, of each column of (rows, columns), of all pixels of images."""
    unit = to_unit(values)
    return np.nanstd(unit, axis=0) if unit.ndim < IMAGES else float(np.nanstd(unit))
