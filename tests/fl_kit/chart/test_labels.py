"""Labels never cover one another, and go no further than they must."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.chart.labels import cut, shorten, spread, width

heights = st.lists(st.floats(0, 200), min_size=1, max_size=12)


@given(heights)
def test_labels_are_apart_inside_and_in_order(wanted: list[float]) -> None:
    placed = spread(wanted, gap=13, low=0, high=200)
    ordered = sorted(placed)
    assert all(b - a >= 13 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert ordered[0] >= -1e-9
    assert ordered[-1] <= 200 + 1e-9
    by_wish = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert [placed[i] for i in by_wish] == pytest.approx(ordered)


@given(st.lists(st.integers(0, 14), min_size=1, max_size=9, unique=True))
def test_labels_with_room_stay_where_they_are(slots: list[int]) -> None:
    wanted = [13.5 * slot for slot in slots]
    assert spread(wanted, gap=13, low=0, high=200) == pytest.approx(wanted)


def test_a_crowd_is_centred_on_what_it_wants() -> None:
    assert spread([50, 50, 50], gap=10, low=0, high=100) == [40, 50, 60]
    assert spread([0, 0, 50], gap=10, low=0, high=100) == [0, 10, 50]
    assert spread([100, 100], gap=10, low=0, high=100) == [90, 100]


def test_too_many_labels_share_what_there_is() -> None:
    assert spread([0] * 5, gap=30, low=0, high=40) == [0, 10, 20, 30, 40]
    assert spread([], gap=30, low=0, high=40) == []


@given(st.text(), st.floats(30, 300))
def test_shortened_texts_fit(text: str, pixels: float) -> None:
    assert width(shorten(text, pixels, 10), 10) <= pixels
    assert width(cut(text, pixels, 10), 10) <= pixels


def test_a_shortened_name_keeps_both_ends() -> None:
    assert shorten("hospital-of-the-north-1", 60, 10) == "hos…rth-1"
    assert cut("a long sentence about it", 60, 10) == "a long s…"
    assert shorten("short", 60, 10) == cut("short", 60, 10) == "short"
