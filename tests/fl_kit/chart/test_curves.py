"""The fold: what the picture knows after each event."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_run import SECONDS, START, story, value

from fl_kit.chart.curves import Curves, Fold, best, latest, lower_is_better
from fl_kit.events import (
    NOTE,
    ROUND_COMPLETED,
    RUN_COMPLETED,
    RUN_FAILED,
    RUN_RESUMED,
    RUN_STARTED,
    Event,
    metric_event,
)


def test_nothing_is_known_before_the_first_event() -> None:
    curves = Fold().curves()
    assert curves == Curves()
    assert curves.metrics == ("loss",)
    assert math.isnan(curves.pace)


def test_a_whole_run() -> None:
    curves = Fold(story(silos=2, rounds=3)).curves()
    assert (curves.strategy, curves.total, curves.done, curves.status) == ("FedAvg", 3, 3, "completed")
    assert curves.silos == ("hospital-001", "hospital-002")
    assert curves.of("loss", "hospital-002") == tuple(value("loss", 1, r) for r in range(4))
    assert curves.seconds == (SECONDS,) * 3
    assert curves.since == START + 3 * SECONDS
    assert curves.metrics == ("loss", "auc")
    assert curves.ended


@given(st.integers(0, 60))
def test_the_fold_does_not_care_how_events_come_in(cut: int) -> None:
    events = list(story(silos=3, rounds=4, fails=(1, 2)))
    fold = Fold()
    fold.add(events[:cut])
    fold.curves()
    fold.add(events[cut:])
    assert fold.curves() == Fold(events).curves()
    assert fold.count == len(events)


def test_a_snapshot_does_not_change_afterwards() -> None:
    fold = Fold(story(silos=2, rounds=4, until=1))
    before = fold.curves()
    fold.add([metric_event(round=2, party="global", metric="loss", value=9.0)])
    assert len(before.of("loss")) == 2
    assert len(fold.curves().of("loss")) == 3


def test_a_missing_round_is_nan_and_a_repeated_one_counts_once() -> None:
    fold = Fold()
    for r, loss in ((1, 5.0), (3, 4.0), (3, 3.0)):
        fold.add([metric_event(round=r, party="global", metric="loss", value=loss)])
    series = fold.curves().of("loss")
    assert [math.isnan(x) for x in series] == [True, False, True, False]
    assert series[3] == 3.0
    assert fold.curves().first_round("loss") == 1


def test_hidden_metrics_are_drawn_only_on_request() -> None:
    fold = Fold()
    for metric in ("train_loss", "update_norm", "loss", "f1", "auc"):
        fold.add([metric_event(round=1, party="global", metric=metric, value=1.0)])
    assert fold.curves().metrics == ("loss", "f1")


def test_failures_are_words_and_the_silo_counts_as_gone_until_it_is_back() -> None:
    fold = Fold(story(silos=3, rounds=6, until=4, fails=(1, 3)))
    curves = fold.curves()
    assert [(f.round, f.silo) for f in curves.failures] == [(3, "hospital-002")] * 2
    assert curves.failures[0].words.startswith("fit failed: TaskError: no column <age>")
    assert curves.failures[1].words == "left out: no column <age>"
    assert curves.has_left("loss", "hospital-002")
    assert not curves.has_left("loss", "hospital-001")
    fold.add([metric_event(round=5, party="hospital-002", metric="loss", value=1.0)])
    assert not fold.curves().has_left("loss", "hospital-002")


def lifecycle(name: str, value: object = None) -> Event:
    return Event(time=START, round=0, party="global", name=name, value=value)  # type: ignore[arg-type]


def test_a_resumed_run_runs_again() -> None:
    fold = Fold([lifecycle(RUN_STARTED, {"rounds": 5}), lifecycle(RUN_FAILED, "disk full")])
    assert (fold.curves().status, fold.curves().message) == ("failed", "disk full")
    fold.add([lifecycle(RUN_RESUMED)])
    assert (fold.curves().status, fold.curves().total) == ("running", 5)
    fold.add([lifecycle(RUN_COMPLETED)])
    assert fold.curves().status == "completed"


def test_the_resumed_run_forgets_why_it_failed() -> None:
    fold = Fold([lifecycle(RUN_FAILED, "disk full"), lifecycle(RUN_RESUMED)])
    assert fold.curves().message == ""
    fold.add([lifecycle(NOTE, "no GPU")])
    assert fold.curves().message == "no GPU"


@pytest.mark.parametrize(
    "metric", ["loss", "train_loss", "log_loss", "logloss", "mae", "rmse", "val/error", "bce-loss"]
)
def test_errors_fall(metric: str) -> None:
    assert lower_is_better(metric)


@pytest.mark.parametrize("metric", ["auc", "accuracy", "f1", "precision", "recall", "glossary", "mean"])
def test_scores_rise(metric: str) -> None:
    assert not lower_is_better(metric)


def test_best_and_latest_pass_over_what_is_not_finite() -> None:
    series = (3.0, math.nan, 1.0, 1.0, 2.0, math.inf)
    assert latest(series) == (4, 2.0)
    assert best("loss", series) == (2, 1.0)
    assert best("auc", series) == (0, 3.0)
    assert latest((math.nan,))[0] == best("loss", ())[0] == -1


def test_metrics_come_in_the_tasks_order_whatever_the_order_of_the_figures() -> None:
    """A run elsewhere hears of them in the order of their names."""
    started = Event(
        time=0.0,
        round=0,
        party="orchestrator",
        name=RUN_STARTED,
        value={"rounds": 2, "metrics": ["loss", "auc", "accuracy"]},
    )
    figures = [
        metric_event(round=0, party="global", metric=m, value=0.5, time=1.0) for m in ("accuracy", "auc", "loss")
    ]
    assert Fold([started, *figures]).curves().metrics == ("loss", "auc")


def test_what_comes_before_round_1_is_no_round() -> None:
    done = [
        Event(time=START + r, round=r, party="orchestrator", name=ROUND_COMPLETED, value={"seconds": 0.001 + 2 * r})
        for r in (0, 1)
    ]
    assert math.isnan(Fold(done[:1]).curves().pace)
    assert Fold(done).curves().pace == 2.001
