"""Stop rules: when they stop, by hand; and what a job refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import FedAvg, Job, Plateau, Target
from fl_kit.errors import IncompatibleError
from tests.tasks import LINEAR, QUADRATIC, job

HIGHER, LOWER = 1.0, -1.0


@pytest.mark.parametrize(
    ("values", "sign", "stops"),
    [
        ([0.5, 0.89], HIGHER, False),
        ([0.5, 0.9], HIGHER, True),
        ([0.95, 0.89], HIGHER, False),  # the last one counts: it is the model that would be kept
        ([0.91], LOWER, False),
        ([0.9], LOWER, True),
        ([], HIGHER, False),
    ],
)
def test_a_target(values: list[float], sign: float, stops: bool) -> None:
    assert bool(Target(metric="auc", value=0.9).why(values, sign)) == stops


def test_a_target_in_words() -> None:
    said = Target(metric="auc", value=0.9).why([0.5, 0.9125], HIGHER)
    assert said == "auc of the federation reached 0.9125, and 0.9 was asked for"


@pytest.mark.parametrize(
    ("values", "stops"),
    [
        ([3.0, 2.0, 2.0], False),  # one round without an improvement
        ([3.0, 2.0, 2.5, 2.0], True),
        ([3.0, 2.0, 2.5, 1.9], False),
        ([3.0, 2.0, 2.5, 1.9, 2.0, 1.9], True),
        ([3.0], False),
        ([], False),
    ],
)
def test_a_plateau_of_two_rounds(values: list[float], stops: bool) -> None:
    rule = Plateau(metric="loss", patience=2)
    assert bool(rule.why(values, LOWER)) == stops
    assert bool(rule.why([-value for value in values], HIGHER)) == stops


def test_a_small_gain_does_not_count() -> None:
    """From 2.0 on, 1.9 and 1.8 gain .1 and .2 on the best that counted: only the second is at least .2."""
    rule = Plateau(metric="loss", patience=1, least_gain=0.2)
    assert rule.why([2.0, 1.9], LOWER) == "loss of the federation has not improved on 2 for 1 measured rounds"
    assert rule.why([2.0, 1.75], LOWER) == ""


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.integers(1, 5))
def test_a_plateau_stops_when_the_best_is_old_enough(values: list[float], patience: int) -> None:
    age = len(values) - 1 - values.index(max(values))
    assert bool(Plateau(metric="auc", patience=patience).why(values, HIGHER)) == (age >= patience)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Target(metric="loss", value=float("nan")), "finite number"),
        (lambda: Target(metric="loss", value=True), "finite number"),
        (lambda: Target(metric="", value=1), "metric's name"),
        (lambda: Plateau(metric="loss", patience=0), "at least 1"),
        (lambda: Plateau(metric="loss", patience=1.5), "whole number"),  # type: ignore[arg-type]
        (lambda: Plateau(metric="loss", least_gain=-1), "at least 0"),
        (lambda: job(LINEAR, FedAvg(), 1, stop=Target(metric="mean_squared_eror", value=1)), "did you mean 'mean_sq"),
        (lambda: job(QUADRATIC, FedAvg(), 1, stop=Target(metric="auc", value=1)), "does not measure; known: loss"),
        (lambda: job(QUADRATIC, FedAvg(), 1, stop=Plateau(metric="loss"), evaluate_every=0), "evaluate_every=0"),
    ],
)  # fmt: skip
def test_what_is_refused(make: object, said: str) -> None:
    with pytest.raises(IncompatibleError, match=said):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("rule", [None, Target(metric="loss", value=0.5), Plateau(metric="loss", patience=3)])
def test_a_job_with_a_rule_survives_json(rule: object) -> None:
    asked = job(QUADRATIC, FedAvg(), 3, stop=rule)
    assert Job.from_json(asked.to_json(), asked.task.source) == asked
