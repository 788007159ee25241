"""The weighted mean: numbers by hand, one pass, and a sum precise enough for narrow dtypes."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fl_kit.aggregators import Mean
from fl_kit.errors import QuorumLost
from fl_kit.messages import Update

NO_CONTEXT: Any = None  # the mean asks nothing of it


def update(value: Any, weight: float, **extra: Any) -> Update:
    return Update(
        delta={"w": torch.as_tensor(value)},
        weight=weight,
        extra={k: {"b": torch.as_tensor(v)} for k, v in extra.items()},
    )


def combined(*updates: Update, **settings: bool) -> Update:
    return Mean(**settings)(iter(updates), NO_CONTEXT)


def test_by_hand() -> None:
    """(1·[1, 0] + 3·[2, −4]) / 4 = [1.75, −3]; of the buffers (1·8 + 3·0)/4 = 2."""
    found = combined(update([1.0, 0.0], 1, buffers=8.0), update([2.0, -4.0], 3, buffers=0.0))
    assert found.delta["w"].tolist() == [1.75, -3.0]
    assert float(found.extra["buffers"]["b"]) == 2.0
    assert found.weight == 4.0


def test_every_silo_alike() -> None:
    """([1, 0] + [2, −4]) / 2, whatever the numbers of rows."""
    found = combined(update([1.0, 0.0], 1), update([2.0, -4.0], 3), weighted=False)
    assert found.delta["w"].tolist() == [1.5, -2.0]
    assert found.weight == 2.0


def test_one_silo_is_itself() -> None:
    assert combined(update([0.5, -8.0], 4)).delta["w"].tolist() == [0.5, -8.0]


def test_a_silo_of_no_weight_does_not_count() -> None:
    assert combined(update([1.0], 2), update([99.0], 0)).delta["w"].tolist() == [1.0]


def test_integers_are_averaged_in_float64() -> None:
    """(1·3 + 3·4)/4 = 3.75: rounding is left to whoever puts it back into an integer buffer."""
    found = combined(update([0.0], 1, buffers=torch.tensor(3)), update([0.0], 3, buffers=torch.tensor(4)))
    assert found.extra["buffers"]["b"].dtype == torch.float64
    assert float(found.extra["buffers"]["b"]) == 3.75


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_floats_are_summed_in_float32(dtype: torch.dtype) -> None:
    """One 1 and 4,095 silos of 0: the sum of weights 4,096 is beyond bfloat16's 8 bits, 1/4096 is exact in float32.

    And 4,096 silos of 1 give exactly 1, where a bfloat16 sum would stick at 256.
    """
    ones = (update(torch.ones(2, dtype=dtype), 1) for _ in range(4096))
    assert Mean()(ones, NO_CONTEXT).delta["w"].tolist() == [1.0, 1.0]
    first = [update(torch.ones(2, dtype=dtype), 1)]
    rest = [update(torch.zeros(2, dtype=dtype), 1)] * 4095
    assert combined(*first, *rest).delta["w"].tolist() == [2.0**-12, 2.0**-12]


def test_mixed_dtypes_are_kept_apart() -> None:
    def mixed(scale: float) -> Update:
        delta = {
            "half": torch.tensor([scale], dtype=torch.bfloat16),
            "single": torch.tensor([scale]),
            "double": torch.tensor([scale], dtype=torch.float64),
        }
        return Update(delta=delta, weight=1.0)

    found = combined(mixed(1.0), mixed(2.0)).delta
    assert {name: value.dtype for name, value in found.items()} == {
        "half": torch.float32,
        "single": torch.float32,
        "double": torch.float64,
    }
    assert all(float(value) == 1.5 for value in found.values())


def test_updates_are_read_once_and_left_as_they_are() -> None:
    values: list[Tensor] = [torch.tensor([1.0]), torch.tensor([3.0])]

    def once() -> Iterator[Update]:
        for value in values:
            yield update(value, 1)

    assert Mean()(once(), NO_CONTEXT).delta["w"].tolist() == [2.0]
    assert [value.tolist() for value in values] == [[1.0], [3.0]]


def test_a_group_that_only_some_send_is_averaged_over_those() -> None:
    found = combined(update([0.0], 1, only=4.0), update([0.0], 3))
    assert float(found.extra["only"]["b"]) == 4.0


@pytest.mark.parametrize("updates", [[], [update([1.0], 0), update([2.0], 0)]], ids=["none", "no weight"])
def test_nothing_to_average(updates: list[Update]) -> None:
    with pytest.raises(QuorumLost, match="nothing to average"):
        combined(*updates)
