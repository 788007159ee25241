"""The run in words."""

import math

import pytest
from scripted_run import SECONDS, START, story

from fl_kit.chart.curves import Fold
from fl_kit.chart.words import description, duration, figure, progress_line, summary_line, trouble_line
from fl_kit.events import NOTE, RUN_FAILED, RUN_STOPPED, Event


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.71449, "0.714"), (-12.0, "-12.0"), (999.9, "1,000"), (1234.5, "1,234"), (2.5e7, "2.5e+07"),
     (1.5e-9, "1.5e-09"), (math.nan, "nan"), (math.inf, "inf")],
)  # fmt: skip
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.024, "0.02 s"), (3.14, "3.1 s"), (42.2, "42 s"), (59.7, "1 min 0 s"), (61.0, "1 min 1 s"), (7380, "2 h 3 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_progress_line_of_a_run_under_way() -> None:
    curves = Fold(story(silos=3, rounds=25, until=11)).curves()
    line = progress_line(curves, ("loss", "auc"), START + 11 * SECONDS)
    loss, auc = (figure(curves.of(metric)[11]) for metric in ("loss", "auc"))
    # 14 rounds are left, of 0.2 s each
    assert line == f"FedAvg · round 11 of 25 · loss {loss} · auc {auc} · 3 silos · 0.20 s/round · about 2.8 s left"


def test_the_time_left_counts_down_within_a_round_but_not_below_the_rounds_left() -> None:
    curves = Fold(story(silos=1, rounds=25, until=10)).curves()
    since = START + 10 * SECONDS
    assert "about 2.9 s left" in progress_line(curves, (), since + 0.1)
    assert "about 2.8 s left" in progress_line(curves, (), since + 3600)
    assert "about 3.0 s left" in progress_line(curves, (), since - 3600)


def test_before_the_first_round() -> None:
    assert progress_line(Fold().curves(), ("loss",), 0.0) == "waiting for round 1"
    assert progress_line(Fold(story(until=-1)).curves(), ("loss",), 0.0) == "FedAvg · waiting for round 1 · 3 silos"


def test_the_end() -> None:
    curves = Fold(story(silos=1, rounds=5, metrics=())).curves()
    assert (
        summary_line("7f3a", curves, ("loss",), 0.0) == "run 7f3a: FedAvg · completed after 5 rounds · 1 silo · 1.0 s"
    )
    early = Fold([*story(silos=1, rounds=5, until=1, metrics=()), event(RUN_STOPPED)]).curves()
    assert summary_line("7f3a", early, (), 0.0) == "run 7f3a: FedAvg · stopped after 1 of 5 rounds · 1 silo · 0.20 s"
    once = Fold(story(silos=1, rounds=1, metrics=())).curves()
    assert "completed after 1 round ·" in summary_line("7f3a", once, (), 0.0)


def event(name: str, value: str | None = None) -> Event:
    return Event(time=START, round=1, party="global", name=name, value=value)


def test_trouble_in_words_is_one_line() -> None:
    curves = Fold(story(fails=(1, 2))).curves()
    assert trouble_line(curves) == "round 2, hospital-002: left out: no column <age> (and 1 more)"
    failed = Fold([*story(until=1), event(RUN_FAILED, "disk\nfull\x1b[0m")]).curves()
    assert trouble_line(failed) == "failed: disk full�[0m"
    assert summary_line("7f3a", failed, (), 0.0).endswith("· failed: disk full�[0m")
    assert "2 failures" in summary_line("7f3a", curves, (), 0.0)


def test_a_note_is_said_where_nothing_is_wrong() -> None:
    assert trouble_line(Fold([event(NOTE, "no GPU")]).curves()) == "no GPU"
    assert trouble_line(Fold([event(NOTE, "no GPU"), *story(fails=(1, 2))]).curves()).startswith("round 2")


def test_the_description_says_the_result() -> None:
    told = description(Fold(story(silos=3, rounds=5)).curves(), ("loss", "auc"))
    assert told.startswith("Convergence of FedAvg: completed after 5 rounds, 3 silos. The federation's loss fell from")
    assert "in round 5; highest silo hospital-003" in told
    assert "The federation's auc rose from 0.500 to" in told


def test_a_silo_that_left_is_not_the_highest() -> None:
    told = description(Fold(story(silos=3, rounds=5, fails=(2, 2))).curves(), ("loss",))
    assert "highest silo hospital-002" in told
