"""Bands: what a notebook's figures must be, in a small file that people review.

`bands.toml` stands beside the notebooks and has a table for each notebook and way to run it:

    ["00_first_federation".quick]                 # or .full
    parameters = { rounds = 3 }                   # default: the notebook's own
    seeds = [7, 8]                                # default: once, with the notebook's own seed
    budget = 60                                   # seconds for one execution; default 600
    bands.auc = { value = 0.87, absolute = 0.02 }
    bands.loss = { value = 0.41, relative = 0.05 }

With several seeds the notebook is executed once for each (as its parameter `seed`), and the mean of a figure is
held against its band.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_kit.bounded import read_text
from fl_kit.entries import nearest
from fl_kit.errors import RegressionError

FILE = "bands.toml"
BANDS_LIMIT = 1 << 20
"""Bytes: bands of some thousand figures."""
MODES = ("quick", "full")
LONGEST = 80
"""Characters of an unknown notebook's name that an error repeats."""

BUDGET = 600.0


@dataclass(frozen=True, kw_only=True)
class Band:
    """A value and how far a figure may be from it.

    absolute  distance in the figure's own unit
    relative  distance as a share of the value's size; exactly one of both is given
    """

    value: float
    absolute: float | None = None
    relative: float | None = None

    @property
    def tolerance(self) -> float:
        """The distance that is allowed."""
        return self.absolute if self.absolute is not None else abs(self.value) * (self.relative or 0.0)

    def holds(self, figure: float) -> bool:
        """Whether a figure is within the band, its edges included."""
        slack = 1e-12 * max(abs(self.value), abs(figure))  # 0.87 + 0.02 is not quite 0.89
        return abs(figure - self.value) <= self.tolerance + slack

    def __str__(self) -> str:
        return f"{self.value:g} ± {self.tolerance:g}"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a notebook is run, and what must come of it.

    parameters  name → value for the cell tagged `parameters`
    seeds       the notebook is executed once for each; empty means once as it is
    budget      seconds that one execution may take
    bands       figure → band
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    budget: float = BUDGET
    bands: Mapping[str, Band] = field(default_factory=dict)


def load_bands(folder: Path, mode: str) -> dict[str, Way]:
    """Notebook name → the way of that mode, from the folder's bands.toml; empty if there is none.

    Raises RegressionError that names the file and the entry at fault.
    """
    file = folder / FILE
    if not file.is_file():
        return {}
    try:
        found = tomllib.loads(read_text(file, limit=BANDS_LIMIT, links=True))
    except OSError as error:
        raise RegressionError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RegressionError(f"{file} is not TOML: {error}") from error
    known = sorted(path.stem for path in folder.glob("*.ipynb") if path.is_file())
    for name, modes in found.items():
        if name not in known:  # looked for among them: a path made of it might lead elsewhere, or be none
            raise RegressionError(f"{file}: there is no notebook {name[:LONGEST]}.ipynb{nearest(name, known)}")
        check_names(file, name, modes, MODES)
    return {name: way(file, f"{name}.{mode}", modes[mode]) for name, modes in found.items() if mode in modes}


def way(file: Path, place: str, entry: Any) -> Way:
    check_names(file, place, entry, ("parameters", "seeds", "budget", "bands"))
    parameters, seeds = entry.get("parameters", {}), entry.get("seeds", [])
    budget, bands = entry.get("budget", BUDGET), entry.get("bands", {})
    if not isinstance(parameters, dict):
        raise RegressionError(f"{file}, {place}: parameters must be a table of names and values")
    if not (isinstance(seeds, list) and all(type(seed) is int for seed in seeds) and len(set(seeds)) == len(seeds)):
        raise RegressionError(f"{file}, {place}: seeds must be a list of whole numbers, each once; found {seeds!r}")
    if not is_number(budget) or not budget > 0:
        raise RegressionError(f"{file}, {place}: budget must be a number of seconds above 0; found {budget!r}")
    if not isinstance(bands, dict):
        raise RegressionError(f"{file}, {place}: bands must be a table of figures")
    return Way(
        parameters=parameters,
        seeds=tuple(seeds),
        budget=float(budget),
        bands={name: band(file, f"{place}.bands.{name}", entry) for name, entry in bands.items()},
    )


def band(file: Path, place: str, entry: Any) -> Band:
    check_names(file, place, entry, ("value", "absolute", "relative"))
    odd = [name for name, value in entry.items() if not is_number(value)]
    if odd or "value" not in entry:
        raise RegressionError(f"{file}, {place}: {odd[0] if odd else 'value'} must be a number")
    if ("absolute" in entry) == ("relative" in entry):
        raise RegressionError(f"{file}, {place}: give one tolerance, absolute or relative")
    if min(entry.get("absolute", 0), entry.get("relative", 0)) < 0:
        raise RegressionError(f"{file}, {place}: a tolerance is at least 0")
    return Band(**{name: float(value) for name, value in entry.items()})


def check_names(file: Path, place: str, entry: Any, known: tuple[str, ...]) -> None:
    if not isinstance(entry, dict):
        raise RegressionError(f"{file}, {place}: expected a table with {', '.join(known)}; found {entry!r}")
    for name in entry:
        if name not in known:
            raise RegressionError(f"{file}, {place}: unknown {name!r}{nearest(name, known)}")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
