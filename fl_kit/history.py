"""A run's figures and failures as tidy pandas frames."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from fl_kit.chart.curves import Fold
from fl_kit.chart.look import look_of
from fl_kit.events import STEP_FAILED, Event, is_metric, metric_name
from fl_kit.readable import listed
from fl_kit.shown_frame import as_table, shown_frame
from fl_kit.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def history(events: Iterable[Event]) -> "pd.DataFrame":
    """One row per round, party and metric: columns round, party, metric, value.

    A round that was run again after a resume counts once, with its last figures. Rows are in order of
    round; `party` is a silo's name or "global", the federation. The frame's own `plot()` is the run's picture of
    convergence; what is derived from it, a selection or a pivot, is a plain frame with pandas' plots.
    """
    import pandas as pd

    events = list(events)
    figures = {(e.round, e.party, metric_name(e)): e.value for e in events if is_metric(e)}
    rows = [(*key, value) for key, value in sorted(figures.items(), key=lambda item: item[0][0])]
    frame = pd.DataFrame(rows, columns=["round", "party", "metric", "value"])
    found: pd.DataFrame = history_frame()(frame.astype({"round": "int64", "value": "float64"}))
    found._events = events  # type: ignore[attr-defined]  # History's own
    return found


@cache
def history_frame() -> Any:
    """The class of a whole history: what pandas derives from it is a plain DataFrame."""

    class History(shown_frame()):  # type: ignore[misc]  # made when pandas is first needed
        """A run's figures, one row per round, party and metric; `plot()` draws them as `watch` does."""

        _events: list[Event]

        def plot(self, **look: Any) -> "Figure":
            return plot(self._events, **look)

        def table(self) -> Table:
            return as_table(self, title=f"History: {what_stands_in(self)}")

    History.plot.__doc__ = plot.__doc__
    return History


def plot(
    events: Iterable[Event],
    *,
    metrics: tuple[str, ...] | None = None,
    log: bool = False,
    target: Mapping[str, float] | None = None,
    reference: Mapping[str, Mapping[str, float]] | None = None,
) -> "Figure":
    """The convergence of a run as a matplotlib figure: what `watch` leaves, without the progress above it.

    A notebook shows it; `figure.savefig("convergence.pdf")` writes it for a paper, with texts as texts.

    metrics    which to draw, two a row; by default "loss" and the first other metric of the global model
    log        logarithmic axes of values; values of 0 or less are counted, not drawn
    target     metric → the value to reach; by default that of the job's own stop rule, if it has one
    reference  metric → label → value: level lines to compare with, such as `Comparison.reference`

    Raises FlKitError for a look that makes no sense.

    >>> figure = run.history().plot(metrics=("auc",), reference={"auc": {"centralised": 0.91}})  # doctest: +SKIP
    """
    from fl_kit.chart.figure import to_figure
    from fl_kit.chart.layout import picture

    look = look_of(metrics=metrics, log=log, target=target, reference=reference, header=False)
    return to_figure(picture(Fold(events).curves(), look))


def failures(events: Iterable[Event]) -> "pd.DataFrame":
    """One row per failed attempt of a step: silo, round, step, kind, message, and the user's traceback."""
    import pandas as pd

    columns = ["silo", "round", "step", "kind", "message", "detail"]
    failed = [e for e in events if e.name == STEP_FAILED and isinstance(e.value, dict)]
    rows = [(e.party, e.round, *(e.value[name] for name in columns[2:])) for e in failed if isinstance(e.value, dict)]
    found: pd.DataFrame = failures_frame()(pd.DataFrame(rows, columns=columns))
    return found


@cache
def failures_frame() -> Any:
    """The class of all failures of a run: what pandas derives from it is a plain DataFrame."""

    class Failures(shown_frame()):  # type: ignore[misc]  # made when pandas is first needed
        """A run's failed attempts, one row each; `detail` is left out of what is shown."""

        def table(self) -> Table:
            if not len(self):
                return Table(columns=[], rows=[], title="No failures")
            many = f"{len(self)} failed attempts" if len(self) > 1 else "1 failed attempt"
            where = "run.failures.detail[0] is the traceback of the first" if "detail" in self.columns else ""
            return as_table(self, title=f"Failures: {many}", note=where, without=("detail",))

    return Failures


def what_stands_in(frame: "pd.DataFrame") -> str:
    """How many rows, of which rounds, parties and metrics."""
    if not len(frame) or not {"round", "party", "metric"} <= {*frame.columns}:
        return f"{len(frame):,} rows"
    first, last = frame["round"].min(), frame["round"].max()
    parties = frame["party"].nunique()
    rounds = f"round {first}" if first == last else f"rounds {first} to {last}"
    told = f"{parties} {'party' if parties == 1 else 'parties'}"
    return f"{rounds}, {told}, {listed(sorted(frame['metric'].unique()))}: {len(frame):,} rows"
