"""New bands, proposed as a diff for a person to read: never written over the old ones."""

import difflib
import math
import statistics
from collections.abc import Mapping
from pathlib import Path

from fl_kit.errors import RegressionError
from fl_kit.regression.bands import FILE, Band
from fl_kit.regression.outcome import Outcome

WIDTH = 4.0
"""Half a proposed band, in standard deviations over the seeds: a Gaussian leaves it once in 16,000 times."""
DIGITS = 2
"""Significant digits of a proposed tolerance, which is rounded up; the value has as many decimals."""
SAME = 1e-6
"""Relative tolerance proposed where there is no spread to go by."""


def propose(outcome: Outcome) -> dict[str, Band]:
    """A band for each recorded figure: its mean over the executions, and four standard deviations around it.

    With a single execution an old band keeps its tolerance, and a new one gets a relative one of 1e-6.
    """
    found = {}
    for name, mean in outcome.figures.items():
        values = [execution.figures[name] for execution in outcome.executions]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        old = outcome.bands.get(name)
        if deviation:
            absolute = rounded_up(WIDTH * deviation)
            found[name] = Band(value=round(mean, decimals(absolute)), absolute=absolute)
        elif old is not None:
            found[name] = Band(value=mean, absolute=old.absolute, relative=old.relative)
        else:
            found[name] = Band(value=mean, relative=SAME)
    return found


def diff(folder: Path, mode: str, proposed: Mapping[str, Mapping[str, Band]]) -> str:
    """A unified diff of the folder's bands.toml; comments and order stay. Empty if nothing would change."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    file = folder / FILE
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    try:
        document = tomlkit.parse(before)
    except TOMLKitError as error:
        raise RegressionError(f"{file} is not TOML: {error}") from error
    for name, bands in proposed.items():
        table = document.setdefault(name, tomlkit.table(is_super_table=True)).setdefault(mode, tomlkit.table())
        held = table.setdefault("bands", tomlkit.table())
        for figure, band in bands.items():
            entry = tomlkit.inline_table()
            entry.update({key: value for key, value in vars(band).items() if value is not None})
            held[figure] = entry
    after = tomlkit.dumps(document)
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{FILE}", f"b/{FILE}"
    )
    return "".join(lines)


def rounded_up(value: float) -> float:
    """A positive value with DIGITS significant digits, never less than it is."""
    places = decimals(value)
    return round(math.ceil(value * 10.0**places - 1e-9) / 10.0**places, max(places, 0))


def decimals(value: float) -> int:
    """How many decimals show DIGITS significant digits of a positive value."""
    return DIGITS - 1 - math.floor(math.log10(value))
