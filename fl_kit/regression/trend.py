"""The history of recorded figures, kept in MLflow: one run for each notebook and commit."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_kit.entries import nearest
from fl_kit.errors import RegressionError
from fl_kit.regression.outcome import Outcome
from fl_kit.table import Cell, Shown, Table
from fl_kit.tracking.server import check_alive, experiment_id

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENT = "fl-kit notebooks"
COMMIT, NOTEBOOK, MODE, PASSED = "fl_kit.commit", "fl_kit.notebook", "fl_kit.mode", "fl_kit.passed"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A figure at a commit: when it was recorded, its value, and whether its notebook passed."""

    time: datetime
    commit: str
    value: float
    passed: bool


@dataclass(frozen=True, kw_only=True, repr=False)
class Trend(Shown):
    """One figure of one notebook over commits, the oldest first.

    >>> figure = trend("00_first_federation.ipynb", "auc", "full", "sqlite:///mlflow.db").plot()  # doctest: +SKIP
    """

    notebook: str
    figure: str
    points: tuple[Point, ...]

    def table(self) -> Table:
        """One row for each commit."""
        rows: list[list[Cell]] = [
            [point.commit[:12], f"{point.time:%Y-%m-%d %H:%M}", point.value, "passed" if point.passed else "failed"]
            for point in self.points
        ]
        return Table(
            columns=["commit", "when", self.figure, "notebook"], rows=rows, title=f"{self.figure} of {self.notebook}"
        )

    def plot(self) -> "Figure":
        """A picture: the figure at each commit, a cross where its notebook failed."""
        from fl_kit.picture import INK, PALETTE, new_figure

        blue, red = PALETTE[0], PALETTE[5]
        figure = new_figure(8.0, 3.4, layout="constrained")
        axes = figure.subplots()
        values = [point.value for point in self.points]
        axes.plot(range(len(values)), values, color=blue, linewidth=1.4)
        for place, point in enumerate(self.points):
            axes.plot([place], [point.value], "o" if point.passed else "X", color=blue if point.passed else red)
        axes.set_xticks(range(len(values)), [point.commit[:7] for point in self.points], rotation=45, ha="right")
        axes.set_title(f"{self.figure} of {self.notebook}", loc="left", fontsize=10, color=INK)
        axes.tick_params(colors=INK, labelsize=8.5)
        axes.grid(color=(0.5, 0.5, 0.5, 0.25))
        axes.patch.set_alpha(0)
        axes.spines[:].set_color(INK)
        return figure


def keep(outcomes: Sequence[Outcome], mode: str, uri: str, commit: str) -> None:
    """Log each notebook's figures to MLflow; raises TrackingError if the server is not there."""
    client = connect(uri)
    experiment = experiment_id(client, EXPERIMENT)
    for outcome in outcomes:
        tags = {
            COMMIT: commit,
            NOTEBOOK: outcome.notebook,
            MODE: mode,
            PASSED: str(outcome.passed).lower(),
            "mlflow.runName": outcome.notebook,
        }
        run = client.create_run(experiment, tags=tags)
        for name, value in {**outcome.figures, "seconds": outcome.seconds}.items():
            client.log_metric(run.info.run_id, name, value)
        client.set_terminated(run.info.run_id, "FINISHED" if outcome.passed else "FAILED")


def trend(notebook: str, figure: str, mode: str, uri: str) -> Trend:
    """What MLflow knows of a figure; raises RegressionError, with the names there are, if that is nothing.

    >>> found = trend("00_first_federation.ipynb", "auc", "full", "sqlite:///mlflow.db")  # doctest: +SKIP
    """
    client = connect(uri)
    found = client.get_experiment_by_name(EXPERIMENT)
    runs = [] if found is None else pages(client, found.experiment_id)
    runs = [run for run in runs if run.data.tags.get(MODE) == mode]
    notebooks = sorted({str(run.data.tags.get(NOTEBOOK)) for run in runs})
    if notebook not in notebooks:
        raise RegressionError(f"nothing was kept of notebook {notebook!r} ({mode}){nearest(notebook, notebooks)}")
    runs = [run for run in runs if run.data.tags[NOTEBOOK] == notebook]
    names = sorted({name for run in runs for name in run.data.metrics})
    if figure not in names:
        raise RegressionError(f"{notebook} recorded no {figure!r}{nearest(figure, names)}")
    points = [
        Point(
            time=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
            commit=run.data.tags.get(COMMIT, "?"),
            value=float(run.data.metrics[figure]),
            passed=run.data.tags.get(PASSED) == "true",
        )
        for run in runs
        if figure in run.data.metrics
    ]
    return Trend(notebook=notebook, figure=figure, points=tuple(sorted(points, key=lambda point: point.time)))


def pages(client: Any, experiment: str) -> list[Any]:
    """Every run of an experiment."""
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def connect(uri: str) -> Any:
    from mlflow import MlflowClient

    check_alive(uri)
    return MlflowClient(tracking_uri=uri)


def commit_of(folder: Path) -> str:
    """The commit that a folder is at, with `-dirty` for changed files; "unknown" outside of git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
