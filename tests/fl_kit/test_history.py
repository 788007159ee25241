import math

import pandas as pd
import pytest

from fl_kit.errors import FlKitError
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


# --- its picture ------------------------------------------------------------------------------------------------


def run_of_two_rounds() -> list[Event]:
    begun = {"rounds": 9, "silos": ["a"], "strategy": "FedAvg", "metrics": ["loss", "auc"]}
    return [
        Event(time=0.0, round=0, party="orchestrator", name="run/started", value=begun),
        *(figure(r, party, "loss", 3.0 - r) for r in (0, 1, 2) for party in ("a", "global")),
        *(figure(r, "global", "auc", 0.6 + r / 10) for r in (0, 1, 2)),
        Event(time=1.0, round=2, party="orchestrator", name="round/completed", value={"seconds": 1.0}),
        Event(time=1.0, round=2, party="orchestrator", name="run/stopped"),
    ]


def said(picture) -> set[str]:
    return {text.get_text() for text in picture.axes[0].texts}


def test_the_frame_draws_the_run_as_a_figure_for_a_paper(tmp_path):
    picture = history(run_of_two_rounds()).plot()
    assert {"loss", "auc", "federation 1.00", "best 0.800 in round 2"} <= said(picture)
    assert not any("stopped after" in text for text in said(picture)), "a paper needs no progress"
    assert not {"9"} & said(picture), "rounds that did not come take no room"
    assert picture._repr_png_()[0].startswith(b"\x89PNG")
    picture.savefig(tmp_path / "convergence.pdf")
    assert (tmp_path / "convergence.pdf").read_bytes().startswith(b"%PDF")


def test_the_picture_takes_what_watch_takes():
    frame = history(run_of_two_rounds())
    picture = frame.plot(metrics=("auc",), log=True, target={"auc": 0.75}, reference={"auc": {"centralised": 0.9}})
    assert {"target 0.750", "centralised 0.900"} <= said(picture)
    assert "loss" not in said(picture)
    with pytest.raises(FlKitError, match="metrics is a tuple of names"):
        frame.plot(metrics="auc")


def test_what_pandas_derives_is_a_plain_frame():
    frame = history(run_of_two_rounds())
    derived = [
        frame[frame.party == "global"],
        frame.copy(),
        frame.head(),
        frame.pivot_table("value", "round", "metric"),
    ]
    assert {type(each) for each in derived} == {pd.DataFrame}
    make, arguments = frame.__reduce_ex__(2)  # what travels to a user's own worker process
    assert [type(each) for each in (make(*arguments), *arguments)] == [pd.DataFrame] * 2
    pd.testing.assert_frame_equal(frame, pd.DataFrame(frame))
    frame["seed"] = 3
    assert list(frame.columns) == ["round", "party", "metric", "value", "seed"]
    assert said(frame.plot())


# --- how they show themselves -------------------------------------------------------------------------------------


def test_a_history_shows_its_rows_and_says_what_stands_in_it():
    frame = history(run_of_two_rounds())
    assert repr(frame).splitlines()[:4] == [
        "History: rounds 0 to 2, 2 parties, auc, loss: 9 rows",
        "round  party   metric  value",
        "─────  ──────  ──────  ─────",
        "    0  a       loss    3.000",
    ]
    assert "<style" not in frame._repr_html_()
    assert frame._repr_html_().count("text-align:right") == 2 * 10
    assert repr(frame[frame.party == "a"]).startswith("   round"), "a selection is a plain frame"
    assert repr(history([])) == "History: 0 rows\nround  party  metric  value\n─────  ─────  ──────  ─────"


def test_a_history_that_its_user_changed_still_shows_itself():
    frame = history(run_of_two_rounds())
    frame["when"] = pd.Timestamp("2026-01-02")
    del frame["metric"]
    assert repr(frame).splitlines()[0] == "History: 9 rows"
    assert repr(frame).splitlines()[3].split() == ["0", "a", "3.000", "2026-01-02", "00:00:00"]


def test_failures_show_the_message_and_not_the_traceback():
    shown = repr(failures([failed("ash", 3, "no rows"), failed("birch", 4, "away")]))
    assert shown.splitlines() == [
        "Failures: 2 failed attempts",
        "silo   round  step  kind     message",
        "─────  ─────  ────  ───────  ───────",
        "ash        3  fit   OSError  no rows",
        "birch      4  fit   OSError  away",
        "run.failures.detail[0] is the traceback of the first",
    ]
    assert repr(failures([])) == "No failures"
    assert type(failures([failed("ash", 3, "x")]).head()) is pd.DataFrame


def test_of_a_long_history_only_what_is_shown_is_looked_at():
    frame = history([figure(r, "global", "loss", 1.0 + r) for r in range(1000)])
    lines = repr(frame).splitlines()
    assert len(lines) == 3 + 31
    assert lines[3 + 25].split() == ["…", "…", "970", "more", "…", "…"]
    assert lines[-1].split() == ["999", "global", "loss", "1,000"]
    assert len(frame.table().rows) == 30
