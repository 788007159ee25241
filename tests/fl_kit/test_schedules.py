"""Schedules against numbers worked out by hand."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import FedAvg, FedNova, QFedAvg, Scaffold, constant, cosine, exponential, step_decay, warmup
from fl_kit.errors import FlKitError, IncompatibleError
from tests.tasks import QUADRATIC, job, run, scalar, silos

ROUNDS = st.integers(1, 60)
RATES = st.floats(1e-6, 10)


def test_by_hand() -> None:
    assert constant(0.5, rounds=2) == (0.5, 0.5)
    assert step_decay(8.0, rounds=7, every=3, factor=0.5) == (8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 2.0)
    assert exponential(8.0, rounds=4, factor=0.25) == (8.0, 2.0, 0.5, 0.125)
    half = math.sqrt(2) / 2
    expected = (3.0, 2 + half, 2.0, 2 - half)  # 1 + (3 − 1)/2 · (1 + cos(0, π/4, π/2, 3π/4))
    assert cosine(3.0, rounds=4, end=1.0) == pytest.approx(expected, abs=1e-12)
    assert warmup((4.0, 4.0, 2.0, 1.0), over=1) == (2.0, 4.0, 2.0, 1.0)


@given(lr=RATES, rounds=ROUNDS, factor=st.floats(0.1, 1), every=st.integers(1, 9))
def test_each_starts_at_lr_and_never_rises(lr: float, rounds: int, factor: float, every: int) -> None:
    for schedule in (
        constant(lr, rounds=rounds),
        step_decay(lr, rounds=rounds, every=every, factor=factor),
        exponential(lr, rounds=rounds, factor=factor),
        cosine(lr, rounds=rounds),
    ):
        assert len(schedule) == rounds
        assert schedule[0] == pytest.approx(lr)
        assert all(after <= before for before, after in itertools.pairwise(schedule))
        assert schedule[-1] > 0


@given(lr=RATES, rounds=st.integers(2, 60), data=st.data())
def test_a_warm_up_climbs_in_even_steps_and_then_leaves_the_rest(lr: float, rounds: int, data: st.DataObject) -> None:
    over = data.draw(st.integers(1, rounds - 1))
    warm = warmup(constant(lr, rounds=rounds), over=over)
    assert warm[over:] == (lr,) * (rounds - over)
    climb = [after - before for before, after in zip((0.0, *warm), warm[: over + 1], strict=False)]
    assert climb == pytest.approx([lr / (over + 1)] * (over + 1))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: constant(-1, rounds=3), "constant\\(-1\\): the learning rate must be"),
        (lambda: constant("0.1", rounds=3), "constant\\('0.1'\\)"),
        (lambda: exponential(math.nan, rounds=3, factor=0.5), "exponential\\(nan\\)"),
        (lambda: cosine(0.1, rounds=0), "cosine\\(rounds=0\\): must be a whole number of at least 1"),
        (lambda: cosine(0.1, rounds=3, end=0.2), "cosine\\(end=0.2\\): must lie between 0 and lr=0.1"),
        (lambda: step_decay(0.1, rounds=3, every=0), "step_decay\\(every=0\\)"),
        (lambda: step_decay(0.1, rounds=3, every=1, factor=0), "step_decay\\(factor=0\\): must be above 0"),
        (lambda: exponential(0.1, rounds=3, factor=1.5), "exponential\\(factor=1.5\\)"),
        (lambda: warmup((0.1, 0.1), over=2), "warmup\\(over=2\\) of a schedule of 2 rounds: it would never end"),
        (lambda: warmup(0.1, over=2), "give it a schedule, such as constant\\(0.1, rounds="),
    ],
)
def test_bad_input(made: Any, message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        made()


def test_a_round_trains_with_its_own_rate(tmp_path: Path) -> None:
    """(w − 3)²/2 from w = 0, one step a round: w ← w + lr_r·(3 − w). With 1/2, 1/4, 1/8: 1.5, 1.875, 2.015625."""
    federation = silos(tmp_path, a=[[1.0, 3.0]])
    finished = run(QUADRATIC, FedAvg(lr=exponential(0.5, rounds=3, factor=0.5)), federation, 3)
    assert [scalar(finished.state(round).params) for round in range(4)] == [0.0, 1.5, 1.875, 2.015625]


def test_a_longer_schedule_is_cut_short(tmp_path: Path) -> None:
    federation = silos(tmp_path, a=[[1.0, 3.0]])
    finished = run(QUADRATIC, FedAvg(lr=exponential(0.5, rounds=9, factor=0.5)), federation, 1)
    assert scalar(finished.state().params) == 1.5


def test_each_value_is_checked() -> None:
    with pytest.raises(IncompatibleError, match=r"FedAvg\(lr=\(0.1, -0.1\)\): must be a number of at least 0"):
        FedAvg(lr=(0.1, -0.1))
    with pytest.raises(IncompatibleError, match=r"FedAvg\(lr=\(\)\): a schedule needs one value a round"):
        FedAvg(lr=())
    with pytest.raises(IncompatibleError, match="lr="):
        FedAvg(lr="fast")  # type: ignore[arg-type]  # what a user may write
    for kind in (Scaffold, QFedAvg):
        with pytest.raises(IncompatibleError, match="divides by lr"):
            kind(lr=(0.1, 0.0))
    with pytest.raises(IncompatibleError, match="at most 1/lr = 2,"):
        FedNova(lr=(0.1, 0.5), mu=3.0)


def test_a_review_shows_the_ends_of_a_long_schedule(tmp_path: Path) -> None:
    federation = silos(tmp_path, a=[[1.0, 3.0]])
    review = job(QUADRATIC, FedAvg(lr=constant(0.5, rounds=90)), 90).review(federation)
    assert "lr=(0.5, …, 0.5: 90 values)" in review.algorithm
    assert "lr=(0.5, 0.25)" in job(QUADRATIC, FedAvg(lr=(0.5, 0.25)), 2).review(federation).algorithm


def test_a_round_after_the_last_is_refused() -> None:
    with pytest.raises(FlKitError, match="a schedule of 2 rounds has no rate for round 3"):
        FedAvg(lr=(0.1, 0.1)).rate(3)
