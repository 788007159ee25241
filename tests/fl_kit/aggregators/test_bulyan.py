"""Bulyan: who is chosen, which values count, the breakdown point."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_kit.aggregators import Bulyan, Krum, Mean
from fl_kit.errors import IncompatibleError, QuorumLost
from tests.fl_kit.aggregators.made import ROUND_3, combined, drawn, result, update, updates

numbers = st.floats(-100, 100)


def block(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_what_lies_close_to_the_median_by_hand() -> None:
    """Of θ = 5 chosen, θ − 2·bad = 3 count. Median 4: 4, 5 and 2 are closest."""
    assert float(Bulyan(bad=1).middle(block(9, 2, 5, 0, 4))) == pytest.approx(11 / 3)
    assert float(Bulyan(bad=1).middle(block(0, 1, 4, 5, 6))) == 5.0  # the window ends at the top
    assert float(Bulyan(bad=1).middle(block(0, 2, 3, 9, 9))) == pytest.approx(5 / 3)  # … or at the bottom
    assert float(Bulyan(bad=1).middle(block(1, 3, 3, 3, 5))) == 3.0
    assert float(Bulyan(bad=1).middle(block(0, 1, 2, 3, 9))) == 2.0


def test_of_two_values_as_far_the_smaller_counts() -> None:
    """Median 2: of 0, 0, 4 and 4, all at 2 from it, two count beside it; with bad = 2 nothing does."""
    assert float(Bulyan(bad=1).middle(block(0, 0, 2, 4, 4))) == pytest.approx(2 / 3)
    assert float(Bulyan(bad=2).middle(block(0, 0, 2, 4, 4))) == 2.0


@given(values=st.lists(st.integers(-6, 6), min_size=5, max_size=11), bad=st.integers(1, 2))
def test_the_middle_is_the_mean_of_the_closest(values, bad) -> None:
    """Against the plain way: sort by distance from the median, the smaller first."""
    count = len(values) - 2 * bad
    centre = float(torch.tensor(values, dtype=torch.float64).quantile(0.5))
    closest = sorted(values, key=lambda value: (abs(value - centre), value))[:count]
    assert float(Bulyan(bad=bad).middle(block(*values))) == pytest.approx(sum(closest) / count)


def test_a_lie_in_one_coordinate_that_krum_overlooks() -> None:
    """The liar sends the very middle of the honest ones, but for one coordinate of 400: Krum selects it."""
    honest = drawn(6, 400, seed=5)
    lie = torch.stack(honest).mean(dim=0)
    lie[7] += 5
    found = updates(*honest, lie)
    assert torch.equal(result(Krum(bad=1), found), lie)
    seventh = [float(one[7]) for one in honest]
    assert min(seventh) <= float(result(Bulyan(bad=1), found)[7]) <= max(seventh) < float(lie[7])


def test_none_bad_is_the_mean() -> None:
    found = updates(*drawn(5, 30, seed=6))
    assert torch.allclose(result(Bulyan(bad=0), found), result(Mean(), found), rtol=0, atol=1e-15)


@settings(max_examples=50)
@given(honest=st.lists(st.tuples(numbers, numbers), min_size=6, max_size=8), lie=st.tuples(numbers, numbers))
def test_with_its_number_bad_no_coordinate_goes_far(honest, lie) -> None:
    """Within the honest range, widened by its width at either end."""
    found = updates(*(torch.tensor(one, dtype=torch.float64) * s for one, s in [(lie, 1e6), *((h, 1) for h in honest)]))
    for value, column in zip(combined(Bulyan(bad=1), found), zip(*honest, strict=True), strict=True):
        low, high = min(column), max(column)
        assert 2 * low - high - 1e-9 <= value <= 2 * high - low + 1e-9


def test_most_of_them_move_it_anywhere() -> None:
    honest = [[float(place)] for place in range(6)]
    assert abs(combined(Bulyan(bad=1), updates(*honest, [1e6]))[0]) <= 5
    assert combined(Bulyan(bad=1), updates(*honest[:3], *[[1e6]] * 4)) == [1e6]


def test_the_order_of_silos_does_not_matter_without_ties() -> None:
    """With bad = 3 always two others count; where one does, as at the end with bad = 2, the closest pair is a tie."""
    found = updates(*drawn(15, 40, seed=3))
    assert torch.equal(result(Bulyan(bad=3), found), result(Bulyan(bad=3), found[::-1]))


def test_buffers_are_combined_by_their_median() -> None:
    found = [update([float(place)], buffers=1e9 if place == 3 else 2.0) for place in range(7)]
    assert float(Bulyan(bad=1)(found, ROUND_3).extra["buffers"]["b"]) == 2.0


def test_too_few_say_the_round_and_the_inequality() -> None:
    with pytest.raises(QuorumLost, match=r"round 3: Bulyan\(bad=1\) needs n ≥ 4·bad \+ 3 = 7 updates, and 6 count"):
        combined(Bulyan(bad=1), updates(*[[1.0]] * 6))


@pytest.mark.parametrize("bad", [-1, 0.5, None])
def test_a_setting_out_of_range_is_refused(bad: object) -> None:
    with pytest.raises(IncompatibleError, match=r"Bulyan\(bad="):
        Bulyan(bad=bad)
