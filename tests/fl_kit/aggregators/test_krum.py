"""Krum and Multi-Krum: scores by hand, the breakdown point, ties, and too few silos."""

import pytest
import torch

from fl_kit.aggregators import Krum, Mean
from fl_kit.aggregators.krum import scores
from fl_kit.errors import IncompatibleError, QuorumLost
from tests.fl_kit.aggregators.made import ROUND_3, combined, drawn, result, update, updates

LINE = ([0.0], [1.0], [3.0], [4.0], [100.0])
"""With bad = 1, the n − bad − 2 = 2 closest count: 1 + 9, 1 + 4, 1 + 4, 1 + 9, 96² + 97²."""


def test_scores_by_hand() -> None:
    places = torch.tensor(LINE, dtype=torch.float64)
    assert scores((places - places.T).square(), 1) == [10.0, 5.0, 5.0, 10.0, 96.0**2 + 97.0**2]


def test_the_least_score_is_taken_and_of_equal_ones_the_first() -> None:
    assert combined(Krum(bad=1), updates(*LINE)) == [1.0]
    assert combined(Krum(bad=1), updates(*LINE[::-1])) == [3.0]


def test_multi_krum_averages_the_least() -> None:
    """With bad = 1 and six silos three count: 0, 1, 3, 4, 7 score 26, 14, 14, 19, 61."""
    found = updates(*LINE[:4], [7.0], [100.0])
    assert combined(Krum(bad=1, select=2), found) == [2.0]  # (1 + 3)/2
    assert combined(Krum(bad=1, select=3), found) == pytest.approx([8 / 3])  # (1 + 3 + 4)/3


def test_of_equal_updates_it_is_the_mean() -> None:
    found = updates(*[[0.5, -8.0]] * 7)
    assert combined(Krum(bad=2), found) == combined(Krum(bad=2, select=3), found) == combined(Mean(), found)


def test_the_order_of_silos_does_not_matter_without_ties() -> None:
    found = updates(*drawn(9, 40, seed=3))
    for rule in (Krum(bad=3), Krum(bad=2, select=5)):
        assert torch.allclose(result(rule, found), result(rule, found[::-1]), rtol=0, atol=1e-15)


@pytest.mark.parametrize("select", [1, 3])
@pytest.mark.parametrize("far", [3.0, 100.0, 1e15])
def test_with_its_number_bad_it_stays_near_the_honest(select: int, far: float) -> None:
    """Seven, two bad that agree: no farther from every honest one than these are from one another."""
    honest = drawn(5, 20, seed=4)
    apart = max(float((one - other).norm()) for one in honest for other in honest)
    lie = torch.full((20,), far, dtype=torch.float64)
    for found in (updates(lie, lie, *honest), updates(*honest, lie, -lie)):
        value = result(Krum(bad=2, select=select), found)
        assert min(float((value - one).norm()) for one in honest) <= apart
        assert float(value.norm()) < 10


def test_bad_plus_two_that_agree_are_each_others_closest_company() -> None:
    """Of seven with bad = 2 the three closest count: three liars have one honest among theirs, four have none."""
    honest = [[float(place)] for place in range(5)]
    assert combined(Krum(bad=2), updates(*honest[:4], *[[1e6]] * 3))[0] <= 4.0
    assert combined(Krum(bad=2), updates(*honest[:3], *[[1e6]] * 4)) == [1e6]


def test_buffers_are_combined_by_their_median_over_all() -> None:
    """The silo that is selected lies in its buffer."""
    found = [update(value, buffers=1e9 if value == [1.0] else 2.0) for value in LINE]
    whole = Krum(bad=1)(found, ROUND_3)
    assert whole.delta["w"].tolist() == [1.0]
    assert float(whole.extra["buffers"]["b"]) == 2.0


def test_rows_buy_nothing_but_none_count_not() -> None:
    honest = [update(value) for value in LINE]
    assert combined(Krum(), [*honest, update([77.0], weight=0.0)]) == [1.0]
    assert combined(Krum(), [*honest[:4], update([100.0], weight=1e9)]) == [1.0]


@pytest.mark.parametrize(
    ("rule", "inequality"),
    [
        (Krum(bad=2), r"Krum\(bad=2, select=1\) needs n ≥ 2·bad \+ 3 = 7"),
        (Krum(bad=1, select=4), r"needs n ≥ select \+ bad \+ 2 = 7"),
    ],
)
def test_too_few_say_the_round_and_the_inequality(rule: Krum, inequality: str) -> None:
    with pytest.raises(QuorumLost, match=rf"round 3: .*{inequality} updates, and 6 count"):
        combined(rule, updates(*[[1.0]] * 6))
    combined(rule, updates(*[[1.0]] * 7))


@pytest.mark.parametrize("settings", [{"bad": -1}, {"bad": 1.0}, {"select": 0}, {"select": True}])
def test_a_setting_out_of_range_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(IncompatibleError, match=rf"Krum\({next(iter(settings))}="):
        Krum(**settings)
