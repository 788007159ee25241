"""Named tensors: sums by hand, dtypes kept, and a digest that is equal exactly when the bits are."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fl_kit.tensors import WeightedSum, accumulator, add_scaled, cast_like, digest, norm, subtract

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
number = st.floats(-1e3, 1e3)


def test_subtract() -> None:
    left, right = {"a": torch.tensor([3.0, 1.0])}, {"a": torch.tensor([1.0, 1.0]), "b": torch.zeros(1)}
    assert {name: value.tolist() for name, value in subtract(left, right).items()} == {"a": [2.0, 0.0]}


# norm


def test_the_norm_is_over_all_tensors_together() -> None:
    """√(3² + 4² + 12²) = 13; integers do not count."""
    assert norm([torch.tensor([3.0, 4.0]), torch.tensor([[12.0]]).double(), torch.tensor([99])]) == pytest.approx(13.0)


@pytest.mark.parametrize("tensors", [[], [torch.tensor([7])], [torch.ones(0)], [torch.tensor([True])]])
def test_the_norm_of_nothing_is_zero(tensors: list[Tensor]) -> None:
    assert norm(tensors) == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_one_value_that_is_not_finite_shows(bad: float, dtype: torch.dtype) -> None:
    assert not math.isfinite(norm([torch.ones(1000), torch.tensor([1.0, bad], dtype=dtype)]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_norm_beyond_float16(dtype: torch.dtype) -> None:
    """10,000 times 1,024: √10,000 · 1,024 = 102,400."""
    assert norm([torch.full((10_000,), 1024.0, dtype=dtype)]) == pytest.approx(102_400, rel=1e-6)


@given(st.lists(number, min_size=1, max_size=20), st.integers(0, 20))
def test_the_norm_does_not_depend_on_how_values_are_cut(values: list[float], cut: int) -> None:
    whole = torch.tensor(values, dtype=torch.float64)
    expected = math.sqrt(math.fsum(value * value for value in values))
    assert norm([whole[:cut], whole[cut:]]) == pytest.approx(expected, rel=1e-12, abs=1e-300)


# WeightedSum


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.float64, torch.float64), (torch.float32, torch.float32), (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32), (torch.int64, torch.float64), (torch.uint8, torch.float64),
    ],
)  # fmt: skip
def test_sums_are_at_least_float32(dtype: torch.dtype, kept: torch.dtype) -> None:
    total = WeightedSum()
    for _ in range(2):
        total.add({"a": torch.ones(2, dtype=dtype)}, 1.0)
    assert accumulator(torch.ones(1, dtype=dtype)) == kept
    assert total.mean()["a"].dtype == kept


def test_a_weighted_sum_by_hand() -> None:
    """(2·1 + 3·4 + 5·(−1)) / 10 = 0.9."""
    total = WeightedSum()
    for value, weight in ((1.0, 2.0), (4.0, 3.0), (-1.0, 5.0)):
        total.add({"a": torch.tensor([value], dtype=torch.float64)}, weight)
    assert total.weight == 10.0
    assert total.sums["a"].tolist() == [9.0]
    assert total.mean()["a"].tolist() == pytest.approx([0.9], abs=1e-15)


@given(st.lists(st.tuples(number, st.floats(0.1, 100)), min_size=1, max_size=12))
def test_the_mean_is_the_exact_one(parts: list[tuple[float, float]]) -> None:
    total = WeightedSum()
    for value, weight in parts:
        total.add({"a": torch.tensor([value], dtype=torch.float64)}, weight)
    expected = math.fsum(v * w for v, w in parts) / math.fsum(w for _, w in parts)
    assert float(total.mean()["a"]) == pytest.approx(expected, rel=1e-12, abs=1e-11)


def test_what_is_added_is_left_alone_and_later_changes_do_not_show() -> None:
    first = torch.tensor([1.0])
    total = WeightedSum()
    total.add({"a": first}, 1.0)
    total.add({"a": torch.tensor([5.0])}, 1.0)
    assert first.tolist() == [1.0]
    first.fill_(99.0)
    assert total.mean()["a"].tolist() == [3.0]


def test_names_may_come_in_another_order() -> None:
    total = WeightedSum()
    total.add({"a": torch.tensor([1.0]), "b": torch.tensor([10.0])}, 1.0)
    total.add({"b": torch.tensor([20.0]), "a": torch.tensor([3.0])}, 1.0)
    assert {name: float(value) for name, value in total.mean().items()} == {"a": 2.0, "b": 15.0}


# add_scaled, cast_like


@pytest.mark.parametrize("dtype", FLOATS)
def test_steps_keep_the_dtype_and_the_rest(dtype: torch.dtype) -> None:
    start = {"a": torch.tensor([1.0, 2.0], dtype=dtype), "b": torch.tensor([7])}
    moved = add_scaled(start, {"a": torch.tensor([2.0, -4.0])}, 0.5)
    assert moved["a"].dtype == dtype
    assert moved["a"].tolist() == [2.0, 0.0]
    assert moved["b"] is start["b"]
    assert start["a"].tolist() == [1.0, 2.0]


def test_a_narrow_start_is_widened_before_the_step_and_not_after() -> None:
    """256 + 1.5 in bfloat16 (8 bits: even numbers from 256 on): 257.5 → 258; the step rounded first, 2, gives 258 too;
    256 + 0.75 = 256.75 → 256, but 0.75 added twice at once is 257.5 → 258."""
    start = {"a": torch.tensor([256.0], dtype=torch.bfloat16)}
    assert add_scaled(start, {"a": torch.tensor([0.75])})["a"].tolist() == [256.0]
    assert add_scaled(start, {"a": torch.tensor([0.75])}, 2.0)["a"].tolist() == [258.0]


@pytest.mark.parametrize(("step", "expected"), [(2.4, 7), (2.6, 8), (-5.2, 0), (0.0, 5)])
def test_integers_are_rounded_to_the_nearest(step: float, expected: int) -> None:
    moved = add_scaled({"n": torch.tensor(5)}, {"n": torch.tensor(step, dtype=torch.float64)})
    assert moved["n"].dtype == torch.int64
    assert int(moved["n"]) == expected


def test_casting_to_the_same_dtype_costs_nothing() -> None:
    value = torch.ones(2)
    assert cast_like(value, torch.zeros(9)) is value


# digest


def test_the_digest_is_pinned() -> None:
    """By hand: name, dtype, shape and little-endian bytes; saved digests of old runs must stay comparable."""
    import hashlib
    import struct

    expected = hashlib.sha256(b"w\0torch.float32\0(2,)\0" + struct.pack("<2f", 1.5, -2.0)).hexdigest()
    assert digest({"w": torch.tensor([1.5, -2.0])}) == expected


BASE = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([[2, 3]])}


def test_equal_bits_give_equal_digests() -> None:
    again = {"b": torch.tensor([[2, 9], [3, 9]]).T[:1], "a": torch.nn.Parameter(torch.tensor([1.0, 0.0]))}
    assert digest(again) == digest(BASE)


@pytest.mark.parametrize(
    "other",
    [
        {**BASE, "a": torch.tensor([1.0, -0.0])},
        {**BASE, "a": torch.tensor([1.0, 1e-45])},
        {**BASE, "a": torch.tensor([1.0, 0.0], dtype=torch.float64)},
        {**BASE, "a": torch.tensor([[1.0, 0.0]])},
        {**BASE, "b": torch.tensor([[2], [3]])},
        {**BASE, "b": torch.tensor([[2, 3]], dtype=torch.int32)},
        {**BASE, "c": torch.ones(0)},
        {"a": BASE["a"]},
        {"a": BASE["a"], "c": BASE["b"]},
        {"a": BASE["b"], "b": BASE["a"]},
        {},
    ],
    ids=range(11),
)
def test_anything_else_gives_another_digest(other: dict[str, Any]) -> None:
    assert digest(other) != digest(BASE)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int8, torch.bool, torch.complex64])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_dtype_and_shape_has_a_digest(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    assert len(digest({"a": torch.zeros(shape, dtype=dtype)})) == 64
