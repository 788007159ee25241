"""What a notebook records: figures in a cell's output, where whoever ran the notebook finds them."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fl_kit.errors import RegressionError

if TYPE_CHECKING:
    from fl_kit.protocols import Run

MIME = "application/vnd.fl-kit.figures+json"
"""The output's own type; a front end that does not know it shows the plain text beside it."""


def record(**figures: float) -> None:
    """Record figures of this notebook, so that a regression test can hold them against their bands.

    figures  name → a finite number; each name once in a notebook

    They are kept in the cell's output, and shown as one line. Raises RegressionError for what is no finite number.

    >>> record(auc=0.87, rounds=12)
    recorded: auc 0.87, rounds 12
    """
    values = {name: checked(name, value) for name, value in figures.items()}
    line = "recorded: " + ", ".join(f"{name} {value:g}" for name, value in values.items())
    from IPython.core.getipython import get_ipython

    if get_ipython() is None:  # a plain script or a doctest has no rich outputs
        import sys

        sys.stdout.write(line + "\n")
        return
    from IPython.display import display

    display({MIME: values, "text/plain": line}, raw=True)  # type: ignore[no-untyped-call]  # IPython leaves it untyped


def record_run(run: "Run", prefix: str = "") -> None:
    """Record the usual figures of a run: each metric of the federation's final model, and the rounds done.

    prefix  put before each name, to tell several runs of one notebook apart

    >>> record_run(run)
    recorded: accuracy ..., auc ..., loss ..., rounds 3
    """
    frame = run.history()
    last = frame[frame["party"] == "global"].sort_values("round").groupby("metric").last()
    figures = {str(name): float(value) for name, value in last["value"].items() if math.isfinite(value)}
    record(**{f"{prefix}{name}": value for name, value in {**figures, "rounds": run.state(-1).round}.items()})


def checked(name: str, value: Any) -> float:
    """The figure as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise RegressionError(f"record({name}={value!r}): a figure is a number") from error
    if not math.isfinite(number):
        raise RegressionError(f"record({name}={number}): a figure must be finite, or no band could hold it")
    return number


def recorded(cells: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The figures that executed cells recorded.

    Raises RegressionError for a name that two outputs recorded, naming the cells.
    """
    found: dict[str, float] = {}
    where: dict[str, str] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            for name, value in output.get("data", {}).get(MIME, {}).items():
                if name in found:
                    raise RegressionError(
                        f"{name!r} is recorded twice, in cells {where[name]!r} and {cell.get('id', '?')!r}; "
                        "give each figure a name of its own"
                    )
                found[name], where[name] = float(value), str(cell.get("id", "?"))
    return found
