"""A notebook's executions held against its bands: the outcome, in words."""

import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fl_kit.entries import nearest
from fl_kit.errors import RegressionError
from fl_kit.regression.bands import Band, Way
from fl_kit.regression.execution import Execution, check_parameters, execute


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a notebook.

    notebook    its name, without .ipynb
    executions  one, or one for each seed
    figures     figure → its mean over the executions
    bands       figure → its band
    faults      what went wrong, a line each; none means that it passed
    """

    notebook: str
    executions: tuple[Execution, ...]
    figures: dict[str, float]
    bands: dict[str, Band]
    faults: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """How long its executions took together."""
        return sum(execution.seconds for execution in self.executions)

    @property
    def passed(self) -> bool:
        """Whether it ran and every band holds."""
        return not self.faults


def try_notebook(
    notebook: Path,
    way: Way,
    folder: Path,
    *,
    tell: Callable[[Execution], None] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Execute a notebook in that way and compare. Never raises for what the notebook does.

    folder  where executed notebooks go
    tell    hears of each execution when it is done
    stop    ends what is running when it is set
    """
    stop = stop or threading.Event()
    given = {**way.parameters, **({"seed": 0} if way.seeds else {})}
    executions: list[Execution] = []
    try:
        check_parameters(notebook, given)
        for seed in way.seeds or (None,):
            executions.append(execute(notebook, way.parameters, seed=seed, budget=way.budget, folder=folder, stop=stop))
            if tell is not None:
                tell(executions[-1])
            if executions[-1].fault:
                break
    except RegressionError as error:
        return outcome(notebook.stem, way, executions, [str(error)])
    faults = [fault for execution in executions if (fault := blamed(execution))]
    return outcome(notebook.stem, way, executions, faults)


def blamed(execution: Execution) -> str:
    """The execution's fault, with its seed."""
    where = "" if execution.seed is None else f"seed {execution.seed}: "
    return f"{where}{execution.fault}" if execution.fault else ""


def outcome(name: str, way: Way, executions: Sequence[Execution], faults: Sequence[str]) -> Outcome:
    figures = means(executions) if executions and not faults else {}
    broken = [] if faults else [*missing(way, figures), *outside(way, figures)]
    return Outcome(
        notebook=name,
        executions=tuple(executions),
        figures=figures,
        bands=dict(way.bands),
        faults=(*faults, *broken),
    )


def means(executions: Sequence[Execution]) -> dict[str, float]:
    """The mean of each figure that every execution recorded."""
    names = [name for name in executions[0].figures if all(name in e.figures for e in executions)]
    return {name: statistics.fmean(e.figures[name] for e in executions) for name in names}


def missing(way: Way, figures: dict[str, float]) -> list[str]:
    return [
        f"{name} has a band and was never recorded{nearest(name, figures) if figures else '; nothing was'}"
        for name in way.bands
        if name not in figures
    ]


def outside(way: Way, figures: dict[str, float]) -> list[str]:
    many = f" (mean over {len(way.seeds)} seeds)" if len(way.seeds) > 1 else ""
    return [
        f"{name} is {figures[name]:.6g}{many}, outside its band {band} by "
        f"{abs(figures[name] - band.value) - band.tolerance:.3g}"
        for name, band in way.bands.items()
        if name in figures and not band.holds(figures[name])
    ]
