"""What an update must be for the model that it is for: the orchestrator's door."""

import math
from typing import Any

import pytest
import torch

from fl_kit.errors import MessageError
from fl_kit.messages import Update
from fl_kit.tensors import Tensors
from fl_kit.update_checks import check_update

UPDATE = Update(
    delta={"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0, dtype=torch.float64)},
    weight=7.0,
    extra={"buffers": {"count": torch.tensor(5)}},
    metrics={"loss": torch.tensor([0.5, 7.0], dtype=torch.float64)},
    silo="a",
)
LIKE: Tensors = {"w": torch.zeros(2), "b": torch.zeros((), dtype=torch.float64)}
BUFFERS = {"buffers": {"count": torch.tensor(0)}}


def changed(delta: Tensors | None = None, **fields: Any) -> Update:
    values = {"delta": {**UPDATE.delta, **(delta or {})}, "weight": 7.0, "extra": UPDATE.extra, **fields}
    return Update(**values)


def test_a_good_update_gives_its_norm() -> None:
    """√(1² + 2² + 3²) = √14."""
    assert check_update(UPDATE, LIKE, BUFFERS) == pytest.approx(math.sqrt(14))


@pytest.mark.parametrize(
    ("update", "words"),
    [
        (changed({"extra": torch.ones(1)}), r"delta: missing \[\], unknown \['extra'\]"),
        (Update(delta={"w": torch.ones(2)}, weight=1.0, extra=UPDATE.extra), r"delta: missing \['b'\]"),
        (changed({"w": torch.ones(3)}), r"delta of 'w' is torch.float32 \(3,\), expected torch.float32 \(2,\)"),
        (changed({"w": torch.ones(2, 1)}), r"delta of 'w'"),
        (changed({"w": torch.ones(2).double()}), r"delta of 'w' is torch.float64"),
        (changed({"w": torch.ones(2).long()}), r"delta of 'w' is torch.int64"),
        (changed({"w": torch.tensor([1.0, math.nan])}), r"delta of 'w' is not finite"),
        (changed({"b": torch.tensor(-math.inf, dtype=torch.float64)}), r"delta of 'b' is not finite"),
        (changed({"w": torch.tensor([3e38, 3e38])}), r"delta of 'w' is not finite: NaN, Inf or far too large"),
        (changed(weight=-1.0), "weight is -1.0"),
        (changed(weight=math.nan), "weight is nan"),
        (changed(weight=math.inf), "weight is inf"),
        (changed(extra={}), r"buffers: missing \['count'\]"),
        (changed(extra={"buffers": {"count": torch.tensor(5.0)}}), "buffers of 'count'"),
        (changed(extra={"buffers": {"count": torch.tensor(5.0).double()}}), "buffers of 'count'"),
        (
            changed(extra={**UPDATE.extra, "control": {"w": torch.tensor(math.nan)}}),
            "group 'control', which the strategy",
        ),
        (changed(weight=2.0**54), "weight is 1.8"),
        (changed(metrics={"loss": torch.zeros(1).expand((1 << 20) + 1)}), "sums of one"),
        (changed(metrics={f"m{i}": torch.zeros(2) for i in range(1001)}), "more than 1,000 metrics"),
    ],
)
def test_a_malformed_update_is_refused_by_name(update: Update, words: str) -> None:
    with pytest.raises(MessageError, match=words):
        check_update(update, LIKE, BUFFERS)


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ({}, r"control: missing \['w'\]"),
        ({"w": torch.ones(3)}, r"control of 'w' is torch.float32 \(3,\), expected torch.float32 \(2,\)"),
        ({"w": torch.ones(2).long()}, "control of 'w' is torch.int64"),
        ({"w": torch.tensor([0.0, math.nan])}, "control of 'w' is not finite"),
        ({"w": torch.ones(2), "x": torch.ones(2)}, r"control: missing \[\], unknown \['x'\]"),
    ],
)
def test_every_group_is_checked_as_the_strategy_announced_it(control: Tensors, words: str) -> None:
    announced = {**BUFFERS, "control": {"w": torch.zeros(2)}}
    check_update(changed(extra={**UPDATE.extra, "control": {"w": torch.ones(2)}}), LIKE, announced)
    with pytest.raises(MessageError, match=words):
        check_update(changed(extra={**UPDATE.extra, "control": control}), LIKE, announced)


def test_a_group_may_be_as_wide_as_the_sums_that_it_comes_from() -> None:
    """A narrow model's control variates are float32 from the second round on: they are differences of means."""
    half = Update(delta={}, weight=1.0, extra={"control": {"w": torch.ones(2)}})
    check_update(half, {}, {"control": {"w": torch.zeros(2, dtype=torch.bfloat16)}})
    with pytest.raises(MessageError, match="control"):
        check_update(half, {}, {"control": {"w": torch.zeros(2, dtype=torch.float64)}})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_long_finite_update_in_a_narrow_dtype_passes(dtype: torch.dtype) -> None:
    """10,000 times 1,024 has the norm 102,400: beyond float16's 65,504, and every value is finite."""
    delta = {"w": torch.full((10_000,), 1024.0, dtype=dtype)}
    assert check_update(Update(delta=delta, weight=1.0), delta, {}) == pytest.approx(102_400, rel=1e-6)


def test_an_update_without_tensors_has_norm_zero() -> None:
    assert check_update(Update(delta={}, weight=0.0), {}, {}) == 0.0
    assert check_update(Update(delta={"w": torch.ones(0)}, weight=0.0), {"w": torch.ones(0)}, {}) == 0.0
