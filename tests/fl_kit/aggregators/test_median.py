"""The coordinate-wise median: by hand, its breakdown point, and who counts."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.aggregators import Mean, Median
from tests.fl_kit.aggregators.made import ROUND_3, combined, drawn, result, update, updates

numbers = st.floats(-1e6, 1e6, width=32)


def test_by_hand() -> None:
    assert combined(Median(), updates([1.0, 9.0], [3.0, -5.0], [2.0, 0.0])) == [2.0, 0.0]
    assert combined(Median(), updates([1.0], [2.0], [4.0], [99.0])) == [3.0]


def test_of_two_and_of_updates_around_a_centre_it_is_the_mean() -> None:
    pair = updates([1.0, 4.0], [3.0, -4.0])
    assert combined(Median(), pair) == combined(Mean(), pair) == [2.0, 0.0]
    around = updates([5.0], [6.0], [7.0], [8.0], [9.0])
    assert combined(Median(), around) == combined(Mean(), around) == [7.0]


@given(honest=st.lists(numbers, min_size=3, max_size=9), lies=st.data())
def test_with_fewer_than_half_bad_it_stays_within_the_honest(honest, lies) -> None:
    bad = lies.draw(st.lists(numbers, max_size=len(honest) - 1))
    (found,) = combined(Median(), updates(*([value] for value in [*bad, *honest])))
    assert min(honest) <= found <= max(honest)


def test_half_of_them_move_it_anywhere() -> None:
    honest = [[1.0], [1.0], [1.0]]
    assert combined(Median(), updates(*honest, [1e9], [1e9])) == [1.0]
    assert combined(Median(), updates(*honest, [1e9], [1e9], [1e9])) == [5e8]


def test_the_order_of_silos_does_not_change_a_bit() -> None:
    found = updates(*drawn(8, 50, seed=2))
    assert torch.equal(result(Median(), found), result(Median(), found[::-1]))


def test_rows_buy_nothing_but_none_count_not() -> None:
    """Whoever claims a million rows is one of three; whoever learned from none is none."""
    assert combined(Median(), [update([1.0]), update([2.0]), update([9.0], weight=1e6)]) == [2.0]
    assert combined(Median(), [update([1.0]), update([2.0]), update([9.0], weight=0.0)]) == [1.5]


def test_buffers_are_held_to_the_same_rule() -> None:
    found = [update([0.0], buffers=value) for value in (1.0, 2.0, 1e9)]
    whole = Median()(found, ROUND_3)
    assert float(whole.extra["buffers"]["b"]) == 2.0
    assert whole.weight == 3.0
