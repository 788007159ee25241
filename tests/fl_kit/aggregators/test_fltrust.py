"""FLTrust: by hand, what any number of liars can do, and the trusted silo that is missing."""

import pytest
import torch

from fl_kit.aggregators import FLTrust, Mean
from fl_kit.errors import IncompatibleError, QuorumLost
from tests.fl_kit.aggregators.made import ROUND_3, combined, drawn, result, update, updates

RULE = FLTrust(trusted="s0")


def test_by_hand() -> None:
    """Trusted [2, 0]. [6, 8] has cosine 0.6 and becomes [1.2, 1.6]; [−1, 0] counts not; [0, 5] neither.

    ([2, 0] + 0.6·[1.2, 1.6]) / 1.6 = [1.7, 0.6].
    """
    found = updates([2.0, 0.0], [6.0, 8.0], [-1.0, 0.0], [0.0, 5.0])
    assert combined(RULE, found) == pytest.approx([1.7, 0.6], rel=1e-6)
    assert RULE(found, ROUND_3).weight == pytest.approx(1.6)


def test_of_equal_updates_it_is_the_mean() -> None:
    found = updates(*[[0.5, -8.0]] * 4)
    assert combined(RULE, found) == pytest.approx(combined(Mean(), found), rel=1e-6)


@pytest.mark.parametrize("far", [1.0, 1e3, 1e12])
def test_whatever_all_others_send_it_is_no_longer_than_the_trusted_and_not_against_it(far: float) -> None:
    trusted, *others = drawn(8, 20, seed=1)
    lies = [far * other for other in others[:3]] + [far * (trusted + other) for other in others[3:]]
    found = result(RULE, updates(trusted, *lies, -far * trusted))
    assert float(found.norm()) <= float(trusted.norm()) * (1 + 1e-9)
    assert float(found @ trusted) > 0


def test_the_trusted_silo_alone_moves_it_anywhere() -> None:
    honest = [[1.0, 0.0]] * 9
    assert combined(RULE, updates([-1e9, 0.0], *honest)) == [-1e9, 0.0]


def test_a_trusted_update_of_length_0_gives_none() -> None:
    assert combined(RULE, updates([0.0, 0.0], [5.0, 5.0])) == [0.0, 0.0]
    assert combined(RULE, updates([1.0, 0.0], [0.0, 0.0])) == [1.0, 0.0]


def test_the_order_of_silos_matters_in_rounding_only() -> None:
    found = updates(*drawn(6, 30, seed=2))
    assert torch.allclose(result(RULE, found), result(RULE, found[::-1]), rtol=0, atol=1e-15)


def test_buffers_are_combined_by_their_median() -> None:
    found = [update([1.0], silo=f"s{i}", buffers=value) for i, value in enumerate((1.0, 2.0, 1e9))]
    assert float(RULE(found, ROUND_3).extra["buffers"]["b"]) == 2.0


def test_a_round_without_it_says_so() -> None:
    with pytest.raises(QuorumLost, match=r"round 3: FLTrust\(trusted='s0'\) needs the update of 's0'"):
        combined(RULE, updates([1.0], [2.0])[1:])
    with pytest.raises(QuorumLost, match="one that counts"):
        combined(RULE, [update([1.0], weight=0.0, silo="s0"), update([1.0], silo="s1")])


@pytest.mark.parametrize("trusted", ["", 3, None])
def test_no_name_is_refused(trusted: object) -> None:
    with pytest.raises(IncompatibleError, match=r"FLTrust\(trusted="):
        FLTrust(trusted=trusted)
