import math

import pandas as pd

from fl_kit.events import Event, metric_event
from fl_kit.history import failures, history


def figure(round: int, party: str, metric: str, value: float) -> Event:
    return metric_event(round=round, party=party, metric=metric, value=value, time=0.0)


def failed(party: str, round: int, message: str) -> Event:
    value = {"step": "fit", "kind": "OSError", "message": message, "detail": ""}
    return Event(time=0.0, round=round, party=party, name="step/failed", value=value)


def test_an_empty_run_has_an_empty_frame_with_all_columns_and_types():
    frame = history([])
    assert list(frame.columns) == ["round", "party", "metric", "value"]
    assert len(frame) == 0
    assert frame.dtypes["round"] == "int64"
    assert frame.dtypes["value"] == "float64"
    assert list(failures([]).columns) == ["silo", "round", "step", "kind", "message", "detail"]


def test_only_figures_count_in_order_of_round():
    frame = history(
        [
            Event(time=0.0, round=0, party="orchestrator", name="run/started"),
            figure(1, "a", "train_loss", 3.0),
            figure(0, "a", "loss", 2),
            failed("a", 1, "away"),
            figure(0, "global", "loss", 1.5),
        ]
    )
    expected = [(0, "a", "loss", 2.0), (0, "global", "loss", 1.5), (1, "a", "train_loss", 3.0)]
    pd.testing.assert_frame_equal(frame, pd.DataFrame(expected, columns=["round", "party", "metric", "value"]))


def test_a_round_that_ran_twice_counts_once_with_its_last_figures():
    frame = history([figure(0, "a", "loss", 2.0), figure(1, "a", "loss", 9.0), figure(1, "a", "loss", 1.0)])
    assert list(frame.value) == [2.0, 1.0]


def test_a_figure_that_is_no_number_stays():
    frame = history([figure(0, "a", "loss", math.nan), figure(1, "a", "loss", math.inf)])
    assert math.isnan(frame.value[0])
    assert frame.value[1] == math.inf


def test_each_failed_attempt_is_a_row():
    frame = failures([failed("a", 1, "away"), figure(1, "a", "loss", 1.0), failed("a", 1, "away"), failed("b", 2, "x")])
    assert list(frame.itertuples(index=False, name=None)) == [
        ("a", 1, "fit", "OSError", "away", ""),
        ("a", 1, "fit", "OSError", "away", ""),
        ("b", 2, "fit", "OSError", "x", ""),
    ]
