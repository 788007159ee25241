"""The trimmed mean: by hand, its breakdown point, and how much is cut off."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.aggregators import Mean, TrimmedMean
from fl_kit.errors import IncompatibleError
from tests.fl_kit.aggregators.made import ROUND_3, combined, drawn, result, update, updates

numbers = st.floats(-1000, 1000)


def test_by_hand() -> None:
    """Of five, ⌈0.2·5⌉ = 1 goes at each end: (2 + 3 + 6)/3 in the first coordinate, (0 + 0 + 1)/3 in the second."""
    found = updates([1.0, 0.0], [2.0, -9.0], [3.0, 0.0], [6.0, 1.0], [100.0, 7.0])
    assert combined(TrimmedMean(trim=0.2), found) == pytest.approx([11 / 3, 1 / 3], rel=1e-6)


@pytest.mark.parametrize(
    ("trim", "count", "cut"),
    [
        (0.2, 10, 2),
        (0.3, 10, 3),
        (0.07, 100, 7),  # 0.07 · 100 is 7.000000000000001
        (0.2, 4, 1),  # 0.8 of a silo: one may be bad
        (0.4, 6, 2),  # three at each end would leave nothing
        (0.2, 2, 0),
        (0.2, 1, 0),
        (0.0, 10, 0),
    ],
)
def test_how_many_are_cut(trim: float, count: int, cut: int) -> None:
    assert TrimmedMean(trim=trim).cut(count) == cut


def test_without_trimming_it_is_the_mean() -> None:
    found = updates(*drawn(7, 30, seed=1))
    assert torch.allclose(result(TrimmedMean(trim=0), found), result(Mean(), found), rtol=0, atol=1e-15)


@given(honest=st.lists(numbers, min_size=7, max_size=7), bad=st.lists(numbers.map(lambda x: 1e5 * x), max_size=3))
def test_with_its_share_bad_it_stays_within_the_honest(honest, bad) -> None:
    found = updates(*(torch.tensor([value], dtype=torch.float64) for value in [*honest, *bad]))
    (value,) = combined(TrimmedMean(trim=0.3), found)
    assert min(honest) - 1e-9 <= value <= max(honest) + 1e-9


def test_one_more_moves_it_anywhere() -> None:
    """Of ten, three are cut: the fourth of four liars stays, and is a quarter of what is averaged."""
    three = updates(*[[1.0]] * 7, *[[1e9]] * 3)
    four = updates(*[[1.0]] * 6, *[[1e9]] * 4)
    assert combined(TrimmedMean(trim=0.3), three) == [1.0]
    assert combined(TrimmedMean(trim=0.3), four) == pytest.approx([(3 + 1e9) / 4])


def test_the_order_of_silos_does_not_change_a_bit() -> None:
    found = updates(*drawn(9, 50, seed=2))
    assert torch.equal(result(TrimmedMean(), found), result(TrimmedMean(), found[::-1]))


def test_buffers_are_trimmed_too() -> None:
    found = [update([0.0], buffers=value) for value in (1.0, 2.0, 1e9)]
    assert float(TrimmedMean()(found, ROUND_3).extra["buffers"]["b"]) == 2.0


@pytest.mark.parametrize("trim", [-0.1, 0.5, 3, float("nan"), "much"])
def test_a_share_out_of_range_is_refused(trim: object) -> None:
    with pytest.raises(IncompatibleError, match=r"TrimmedMean\(trim="):
        TrimmedMean(trim=trim)
