"""Ticks, ranges and thinning."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.chart.scale import POINTS, Scale, log_ticks, round_ticks, thin, tick_text, tick_texts, ticks, value_range

anything = st.floats(-1e290, 1e290)


@given(anything, anything)
def test_ticks_enclose_the_range_evenly(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = ticks(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-290)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 8
    steps = [y - x for x, y in itertools.pairwise(found)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.5, 0.5), (-3.0, -3.0), (1e6, 1e6), (0.69, 0.6901)])
def test_a_flat_line_has_ticks_that_differ(low: float, high: float) -> None:
    found = ticks(low, high)
    texts = [tick_text(value, found[1] - found[0]) for value in found]
    assert len(set(texts)) == len(texts)


def test_ticks_by_hand() -> None:
    assert ticks(0.28, 2.27) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert ticks(0.5, 1.0) == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert ticks(-7.0, 12.0) == [-10.0, -5.0, 0.0, 5.0, 10.0, 15.0]


@given(st.integers(0, 1), st.integers(1, 5000), st.integers(2, 20))
def test_round_ticks_have_both_ends_and_room(first: int, rounds: int, most: int) -> None:
    last = first + rounds
    found = round_ticks(first, last, most)
    assert found[0] == first
    assert found[-1] == last
    assert found == sorted(set(found))
    assert len(found) <= most + 2


def test_a_scale_keeps_values_inside() -> None:
    scale = Scale(low=0, high=10, start=100, end=0)
    assert [scale(v) for v in (0, 5, 10, 11, -1)] == [100, 50, 0, 0, 100]


def test_one_diverging_silo_does_not_flatten_the_rest() -> None:
    calm = [0.4 + 0.01 * i for i in range(30)]
    assert value_range([*calm, 1e9], calm) == (0.4, 0.69)


def test_the_federation_is_never_cut_off() -> None:
    calm = [0.5] * 30
    assert value_range(calm, [0.5, 40.0]) == (0.5, 40.0)


def test_few_values_are_all_shown() -> None:
    assert value_range([1.0, 900.0], [1.0]) == (1.0, 900.0)
    assert value_range([], [2.0, 1.0]) == (1.0, 2.0)
    assert value_range([2.0, 1.0], []) == (1.0, 2.0)


series_of = st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=1500)


@given(series_of, st.integers(0, 3000))
def test_thinning_keeps_the_extremes_and_the_last(series: list[float], rounds: int) -> None:
    points = thin(series, rounds)
    assert len(points) <= POINTS
    assert [r for r, _ in points] == sorted({r for r, _ in points})
    assert all(v == series[r] or math.isnan(v) for r, v in points)
    held = [v for v in series if not math.isnan(v)]
    drawn = [v for _, v in points if not math.isnan(v)]
    if held:
        assert (min(drawn), max(drawn)) == (min(held), max(held))
    if not math.isnan(series[-1]):
        assert points[-1] == (len(series) - 1, series[-1])


def test_a_short_series_is_not_touched_and_a_wide_gap_survives_thinning() -> None:
    assert thin([1.0, math.nan], 100)[0] == (0, 1.0)
    gap = [1.0] * 400 + [math.nan] * 200 + [2.0] * 400
    assert any(math.isnan(v) for _, v in thin(gap, 1000))


def test_thinned_points_do_not_move_as_the_run_goes_on() -> None:
    series = [math.sin(r) for r in range(1000)]
    early, late = thin(series[:500], 1000), thin(series, 1000)
    assert late[: len(early) - 3] == early[:-3]


positive = st.floats(1e-250, 1e250)


@given(positive, positive)
def test_log_ticks_enclose_the_range_and_are_few(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = log_ticks(low, high)
    assert 0 < found[0] <= low * (1 + 1e-6)
    assert found[-1] >= high * (1 - 1e-6)
    assert found == sorted(set(found))
    assert 2 <= len(found) <= 9
    texts = tick_texts(found, log=True)
    assert len(set(texts)) == len(texts)


def test_log_ticks_by_hand() -> None:
    assert tick_texts(log_ticks(0.0004, 3.0), log=True) == ["0.0001", "0.001", "0.01", "0.1", "1", "10"]
    assert tick_texts(log_ticks(0.02, 1.5), log=True) == ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]
    assert Scale(low=0.01, high=100, start=0, end=40, log=True)(1) == pytest.approx(20)
