"""The block-wise kernels against the plain operations on everything at once."""

import pytest
import torch

from fl_kit.aggregators import blocks
from fl_kit.aggregators.blocks import (
    coordinate_wise,
    distances_to,
    in_order,
    inner_products,
    median,
    network,
    squared_distances,
)
from fl_kit.tensors import Tensors


def made(count: int, seed: int = 1) -> list[Tensors]:
    draws = torch.Generator().manual_seed(seed)
    return [
        {
            "matrix": torch.randn(7, 5, generator=draws),
            "scalar": torch.randn((), generator=draws, dtype=torch.float64),
            "count": torch.randint(0, 9, (), generator=draws),
        }
        for _ in range(count)
    ]


def flat(found: list[Tensors]) -> torch.Tensor:
    return torch.stack([torch.cat([value.double().reshape(-1) for value in one.values()]) for one in found])


@pytest.fixture(params=[4, 1 << 15], ids=["blocks of four", "one block"])
def _size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", request.param)


@pytest.mark.parametrize("count", range(1, 13))
def test_the_network_sorts_every_pattern_of_zeros_and_ones(count: int) -> None:
    """By the 0-1 principle it then sorts anything."""
    patterns = torch.tensor([[(number >> place) & 1 for number in range(2**count)] for place in range(count)])
    assert torch.equal(torch.stack(in_order(patterns)), patterns.sort(dim=0).values)


@pytest.mark.parametrize("count", [20, 33])
def test_the_network_sorts_many(count: int) -> None:
    block = torch.randn(count, 500, generator=torch.Generator().manual_seed(count))
    before = block.clone()
    assert torch.equal(torch.stack(in_order(block)), block.sort(dim=0).values)
    assert torch.equal(block, before)
    assert len(network(20)) == 103  # hand-drawn ones need 92; a full bubble sort needs 190


def test_the_median_by_hand() -> None:
    assert median(torch.tensor([[3.0, 0.0], [1.0, 5.0], [2.0, 9.0]])).tolist() == [2.0, 5.0]
    assert median(torch.tensor([[4.0], [1.0], [2.0], [100.0]])).tolist() == [3.0]


@pytest.mark.usefixtures("_size")
def test_coordinates_do_not_depend_on_blocks() -> None:
    found = made(5)
    middle = coordinate_wise(found, median)
    for name in found[0]:
        assert torch.equal(middle[name], torch.stack([one[name] for one in found]).double().median(dim=0).values)
    assert {name: value.dtype for name, value in middle.items()} == {
        "matrix": torch.float32,
        "scalar": torch.float64,
        "count": torch.float64,
    }


@pytest.mark.usefixtures("_size")
def test_distances_are_those_of_the_flat_vectors() -> None:
    found = made(5)
    plain = torch.cdist(flat(found), flat(found)).square()
    assert torch.allclose(squared_distances(found), plain, rtol=1e-6, atol=1e-12)
    assert torch.allclose(distances_to(found[2], found), plain[2].sqrt(), rtol=1e-6)
    assert torch.allclose(inner_products(found, found[1]), flat(found) @ flat(found)[1], rtol=1e-6)


def test_they_do_not_depend_on_the_order_of_names() -> None:
    """A message read from a file has its names in order; one in memory has the model's."""
    found = made(6)
    turned = [dict(reversed(one.items())) for one in found]
    assert torch.equal(squared_distances(found), squared_distances(turned))
    assert torch.equal(distances_to(found[0], found), distances_to(turned[0], turned))
    assert torch.equal(inner_products(found, found[0]), inner_products(turned, turned[0]))
