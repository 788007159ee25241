"""A run's figures and failures as tidy pandas frames."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fl_kit.events import STEP_FAILED, Event, is_metric, metric_name

if TYPE_CHECKING:
    import pandas as pd


def history(events: Iterable[Event]) -> "pd.DataFrame":
    """One row per round, party and metric: columns round, party, metric, value.

    A round that was run again after a resume counts once, with its last figures. Rows are in order of
    round; `party` is a silo's name or "global", the federation.
    """
    import pandas as pd

    figures = {(e.round, e.party, metric_name(e)): e.value for e in events if is_metric(e)}
    rows = [(*key, value) for key, value in sorted(figures.items(), key=lambda item: item[0][0])]
    frame = pd.DataFrame(rows, columns=["round", "party", "metric", "value"])
    return frame.astype({"round": "int64", "value": "float64"})


def failures(events: Iterable[Event]) -> "pd.DataFrame":
    """One row per failed attempt of a step: silo, round, step, kind, message, and the user's traceback."""
    import pandas as pd

    columns = ["silo", "round", "step", "kind", "message", "detail"]
    failed = [e for e in events if e.name == STEP_FAILED and isinstance(e.value, dict)]
    rows = [(e.party, e.round, *(e.value[name] for name in columns[2:])) for e in failed if isinstance(e.value, dict)]
    return pd.DataFrame(rows, columns=columns)
