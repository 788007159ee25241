"""The geometric median: points known from geometry, its breakdown point, and the paper's weights."""

import math

import pytest
import torch

from fl_kit.aggregators import GeometricMedian, Mean
from fl_kit.errors import IncompatibleError
from tests.fl_kit.aggregators.made import ROUND_3, combined, drawn, result, update, updates

EXACT = GeometricMedian(tolerance=1e-12, iterations=2000)


def test_the_fermat_point_of_a_triangle() -> None:
    """Of (0,0), (1,0), (½, ½√3), all angles 60°, it is the centre; the sides are seen under 120°."""
    corners = updates(*(torch.tensor(c, dtype=torch.float64) for c in ([0, 0], [1, 0], [0.5, math.sqrt(0.75)])))
    assert combined(EXACT, corners) == pytest.approx([0.5, math.sqrt(0.75) / 3], abs=1e-9)


def test_a_corner_of_more_than_120_degrees_is_the_point_itself() -> None:
    flat = updates(*(torch.tensor(c, dtype=torch.float64) for c in ([-1, 0.1], [0, 0], [1, 0.1])))
    assert combined(EXACT, flat) == pytest.approx([0, 0], abs=1e-5)


def test_of_four_corners_it_is_where_the_diagonals_cross() -> None:
    """(0,0)–(4,4) and (3,0)–(0,3) cross at (1½, 1½), whatever the lengths."""
    corners = updates(*(torch.tensor(c, dtype=torch.float64) for c in ([0, 0], [4, 4], [3, 0], [0, 3])))
    assert combined(EXACT, corners) == pytest.approx([1.5, 1.5], abs=1e-9)


def test_on_a_line_it_is_the_median() -> None:
    """An update with most of the weight is the point itself, where rows count."""
    line = [update(torch.tensor([x], dtype=torch.float64), w) for x, w in ((0.0, 1), (1.0, 2), (5.0, 4))]
    assert combined(EXACT, line) == pytest.approx([1.0], abs=1e-4)
    weighted = GeometricMedian(weighted=True, tolerance=1e-12, iterations=2000)
    assert combined(weighted, line) == pytest.approx([5.0], abs=1e-4)


def test_around_a_centre_it_is_the_mean() -> None:
    centre = torch.ones(6, dtype=torch.float64)
    spread = drawn(4, 6, seed=1)
    found = updates(*(centre + s for s in spread), *(centre - s for s in spread))
    assert torch.allclose(result(EXACT, found), result(Mean(), found), atol=1e-9)


def test_it_is_the_least_sum_of_distances() -> None:
    points = drawn(9, 12, seed=2)

    def total(z: torch.Tensor) -> float:
        return sum(float((z - point).norm()) for point in points)

    found = result(EXACT, updates(*points))
    assert all(total(found) <= total(found + 1e-3 * step) for step in drawn(20, 12, seed=3))
    assert total(result(GeometricMedian(), updates(*points))) <= total(found) * (1 + 1e-6)


@pytest.mark.parametrize("far", [10.0, 1e3, 1e9, 1e17])
@pytest.mark.parametrize("bad", [1, 4])
def test_with_fewer_than_half_bad_it_stays_near_the_honest(bad: int, far: float) -> None:
    """With a share a bad, no farther than 2r(1 − a)/(1 − 2a) from a point that has all honest within r."""
    honest = drawn(10 - bad, 20, seed=4)
    lie = torch.full((20,), far, dtype=torch.float64)
    middle = torch.stack(honest).mean(dim=0)
    r, a = max(float((one - middle).norm()) for one in honest), bad / 10
    found = result(GeometricMedian(), updates(*[lie] * bad, *honest))
    assert float((found - middle).norm()) <= 2 * r * (1 - a) / (1 - 2 * a)


def test_half_of_them_move_it_anywhere() -> None:
    """Six of ten at one far point: that point; of five against five any point between is as good, and it goes far."""
    honest = drawn(5, 3, seed=5)
    far = torch.full((3,), 1e6, dtype=torch.float64)
    assert float(result(GeometricMedian(), updates(*honest, *[far] * 5)).norm()) > 1e5
    assert float(result(GeometricMedian(), updates(*honest[:4], *[far] * 6))[0]) == pytest.approx(1e6)


def test_the_order_of_silos_matters_in_rounding_only() -> None:
    found = updates(*drawn(8, 50, seed=6))
    assert torch.allclose(result(EXACT, found), result(EXACT, found[::-1]), rtol=0, atol=1e-9)


def test_buffers_are_combined_by_their_median() -> None:
    found = [update([1.0], buffers=value) for value in (1.0, 2.0, 1e9)]
    assert float(GeometricMedian()(found, ROUND_3).extra["buffers"]["b"]) == 2.0


@pytest.mark.parametrize("settings", [{"smoothing": 0}, {"tolerance": -1}, {"tolerance": math.nan}, {"iterations": 0}])
def test_a_setting_out_of_range_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(IncompatibleError, match=rf"GeometricMedian\({next(iter(settings))}="):
        GeometricMedian(**settings)
