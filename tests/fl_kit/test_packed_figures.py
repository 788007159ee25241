"""Rows come back as they were put in, whatever they hold, and a figure takes few bytes."""

import math
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from fl_kit.packed_figures import PackedFigures

values = st.floats() | st.integers() | st.text(max_size=3) | st.none() | st.booleans() | st.just({"step": "fit"})
rows = st.tuples(st.floats(allow_nan=False), st.integers(0, 2**40), st.text(max_size=3), st.text(max_size=3), values)


@given(st.lists(rows, max_size=20), st.integers(-25, 25))
def test_it_is_a_list_of_rows(given_rows, start):
    packed = PackedFigures()
    for row in given_rows:
        packed.append(row)
    assert len(packed) == len(given_rows)
    assert [repr(row) for row in packed.since(start)] == [repr(row) for row in given_rows[start:]]


def test_a_value_that_is_no_number_is_the_very_same_one():
    """NaN is equal to nothing, so that rows which are read twice are equal only if it is."""
    packed = PackedFigures()
    packed.append((1.0, 1, "ash", "metric/auc", math.nan))
    assert list(packed.since(0)) == list(packed.since(0))


def test_a_figure_takes_few_bytes():
    packed = PackedFigures()
    tracemalloc.start()
    try:
        for number in range(10_000):
            packed.append((number / 7, number // 100, f"silo-{number % 100}", "metric/loss", number / 3))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 10_000 * 28 * 1.2 + 30_000  # arrays have room for an eighth more; the texts are there once
