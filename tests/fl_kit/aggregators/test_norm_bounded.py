"""The mean of bounded updates: by hand, what a liar can do, and whose rows count."""

import pytest
import torch

from fl_kit.aggregators import Mean, NormBounded
from fl_kit.errors import IncompatibleError
from tests.fl_kit.aggregators.made import ROUND_3, combined, drawn, result, update, updates


def test_by_hand() -> None:
    """[3, 4] of norm 5 is cut to [1.5, 2]; [1, 0] stays: the mean is [1.25, 1]."""
    assert combined(NormBounded(bound=2.5), updates([3.0, 4.0], [1.0, 0.0])) == [1.25, 1.0]


def test_the_median_norm_is_the_bound_where_none_is_given() -> None:
    """Norms 1, 2 and 10: the last is cut to 2, so (1 + 2 + 2)/3."""
    assert combined(NormBounded(), updates([1.0], [2.0], [10.0])) == pytest.approx([5 / 3])


def test_where_nothing_is_cut_it_is_the_mean() -> None:
    found = [update(value, weight=place + 1) for place, value in enumerate(drawn(5, 30, seed=1))]
    equal, weighted = NormBounded(bound=1e9), NormBounded(bound=1e9, weighted=True)
    assert torch.allclose(result(equal, found), result(Mean(weighted=False), found), rtol=0, atol=1e-15)
    assert torch.allclose(result(weighted, found), result(Mean(), found), rtol=0, atol=1e-15)
    assert weighted(found, ROUND_3).weight == 15.0


def test_whatever_all_send_it_is_no_longer_than_the_bound() -> None:
    found = updates(*(1e12 * lie for lie in drawn(4, 20, seed=2)))
    assert float(result(NormBounded(bound=3.0), found).norm()) <= 3.0 + 1e-9


def test_one_of_ten_moves_it_by_a_fifth_of_the_bound_at_most() -> None:
    honest = drawn(9, 20, seed=3)
    lie = torch.full((20,), 1e6, dtype=torch.float64)
    one, other = (result(NormBounded(bound=2.0), updates(*honest, sent)) for sent in (lie, -lie))
    assert float((one - other).norm()) == pytest.approx(2 * 2.0 / 10)


def test_half_of_them_set_the_median_norm() -> None:
    honest = [[1.0]] * 6
    assert combined(NormBounded(), updates(*honest, *[[1e9]] * 5)) == pytest.approx([1.0])
    assert combined(NormBounded(), updates(*honest, *[[1e9]] * 6))[0] > 1e8


def test_an_update_of_length_0_stays_so() -> None:
    assert combined(NormBounded(bound=1.0), updates([0.0, 0.0], [0.0, 1.0])) == [0.0, 0.5]
    assert combined(NormBounded(), updates([0.0], [0.0], [7.0])) == [0.0]


def test_buffers_are_combined_by_their_median() -> None:
    found = [update([1.0], buffers=value) for value in (1.0, 2.0, 1e9)]
    assert float(NormBounded()(found, ROUND_3).extra["buffers"]["b"]) == 2.0


@pytest.mark.parametrize("bound", [0, -1.0, float("inf"), "far"])
def test_a_bound_out_of_range_is_refused(bound: object) -> None:
    with pytest.raises(IncompatibleError, match=r"NormBounded\(bound="):
        NormBounded(bound=bound)
