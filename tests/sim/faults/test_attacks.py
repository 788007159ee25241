"""Each attack by hand, from its paper's equation."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from fl_kit.errors import DataError, IncompatibleError
from fl_kit.messages import Update
from sim.faults import (
    ALittleIsEnough,
    Gaussian,
    InnerProduct,
    LabelFlip,
    MinMax,
    Scaled,
    SignFlip,
    SilentConstant,
)
from sim.faults.a_little_is_enough import largest_z
from sim.faults.attack import Known, UpdateAttack, told
from tests.fl_kit.aggregators.made import drawn, update

OWN = update([1.0, -2.0], weight=7.0, buffers=5.0)


def known(*values: Any, silos: int = 10, bad: int = 3, step: str = "round_001/s0/fit") -> Known:
    updates = [update(torch.as_tensor(value, dtype=torch.float64)) for value in values]
    return Known(seed=1, step=step, silos=silos, bad=bad, updates=updates)


def lie(attack: UpdateAttack, *values: Any, **settings: Any) -> list[float]:
    return attack.lie(OWN, known(*values, **settings))["w"].tolist()


def test_what_knows_only_itself_by_hand() -> None:
    assert lie(SignFlip()) == [-1.0, 2.0]
    assert lie(SignFlip(scale=3)) == [-3.0, 6.0]
    assert lie(Scaled(factor=10)) == [10.0, -20.0]
    assert lie(SilentConstant()) == [0.0, 0.0]
    assert lie(SilentConstant(value=0.5)) == [0.5, 0.5]


def test_gaussian_noise_follows_from_seed_and_step() -> None:
    large = update(torch.zeros(20_000))
    first, again, later = (Gaussian(std=3).lie(large, known(step=f"round_{r:03d}/s0/fit"))["w"] for r in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert float(first.mean()) == pytest.approx(0, abs=5 * 3 / math.sqrt(20_000))
    assert float(first.std()) == pytest.approx(3, rel=0.03)


def test_a_little_is_enough_by_hand() -> None:
    """Of 1, 3 and of 0, 4 mean 2, deviations 1 and 2: with z = 1.5 it sends 2 − 1.5 and 2 − 3."""
    assert lie(ALittleIsEnough(z=1.5), [1, 0], [3, 4]) == [0.5, -1.0]


def test_the_papers_z() -> None:
    """n = 50, m = 24 (the paper's own numbers): s = 26 − 24 = 2, and Φ(z) = (26 − 2)/26."""
    assert largest_z(50, 24) == pytest.approx(NormalDist().inv_cdf(24 / 26))
    assert largest_z(10, 4) == pytest.approx(NormalDist().inv_cdf(4 / 6))
    assert largest_z(10, 1) == 0.0  # (9 − 5)/9 < ½
    assert largest_z(3, 3) == 0.0
    assert lie(ALittleIsEnough(), [1, 0], [3, 4], silos=10, bad=4) == pytest.approx(
        [2 - NormalDist().inv_cdf(2 / 3), 2 - 2 * NormalDist().inv_cdf(2 / 3)]
    )


def test_one_colluder_has_no_spread() -> None:
    assert lie(ALittleIsEnough(z=2), [1, -2]) == [1.0, -2.0]


def test_inner_product_by_hand() -> None:
    assert lie(InnerProduct(epsilon=0.5), [1, 0], [3, 4]) == [-1.0, -1.0]


def test_from_the_stated_epsilon_on_it_turns_the_mean_round() -> None:
    """With m = 2 of n = 6: 4 honest of mean μ and 2 lies add up to (4 − 2ε)·μ, which is 0 at ε = (n − m)/m = 2."""
    honest = drawn(4, 5, seed=1)
    for epsilon, sign in ((1.9, 1), (2.1, -1)):
        (sent,) = [InnerProduct(epsilon=epsilon).lie(OWN, known(*honest))["w"]]
        mean = torch.stack(honest).mean(dim=0)
        assert sign * float((sum(honest) + 2 * sent) @ mean) > 0


def test_min_max_by_hand() -> None:
    """0, 2 and 4 on a line: mean 2, widest distance 4, direction −σ = −√(8/3). So far below 4 as 4: at 0."""
    assert lie(MinMax(), [0], [2], [4]) == pytest.approx([0.0], abs=1e-12)
    """(0,0), (2,0), (0,2), (2,2): widest √8, −σ = (−1, −1) from (1,1): ‖(2,2) − (1−γ, 1−γ)‖ = √8 at γ = 1."""
    assert lie(MinMax(), [0, 0], [2, 0], [0, 2], [2, 2]) == pytest.approx([0.0, 0.0], abs=1e-12)
    assert lie(MinMax(direction="unit"), [0, 0], [2, 0], [0, 2], [2, 2]) == pytest.approx([0.0, 0.0], abs=1e-12)
    assert lie(MinMax(direction="sign"), [0, 0], [2, 0], [0, 2], [2, 2]) == pytest.approx([0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("direction", ["std", "sign", "unit"])
def test_min_max_goes_as_far_as_it_may(direction: Any) -> None:
    honest = drawn(6, 30, seed=2)
    widest = max(float((a - b).norm()) for a in honest for b in honest)
    sent = MinMax(direction=direction).lie(OWN, known(*honest))["w"]
    assert max(float((sent - one).norm()) for one in honest) == pytest.approx(widest, rel=1e-6)
    assert float((sent - torch.stack(honest).mean(dim=0)).norm()) > 0.5


def test_min_max_of_one_or_of_equal_updates_is_that() -> None:
    assert lie(MinMax(), [1, -2]) == [1.0, -2.0]
    assert lie(MinMax(direction="unit"), [1, -2], [1, -2]) == pytest.approx([1.0, -2.0])


def test_only_the_delta_is_a_lie_and_it_has_the_models_dtype() -> None:
    half = Update(delta={"w": torch.ones(2, dtype=torch.bfloat16)}, weight=7.0, extra=OWN.extra, silo="s1")
    sent = told(half, Gaussian().lie(half, known()))
    assert sent.delta["w"].dtype == torch.bfloat16
    assert (sent.weight, sent.silo, sent.extra) == (7.0, "s1", OWN.extra)
    assert half.delta["w"].tolist() == [1.0, 1.0]


class Three(Dataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(2), place


def test_labels_are_turned_round_in_whatever_form_they_come() -> None:
    inputs, labels = torch.zeros(4, 2), torch.tensor([0, 1, 9, -100])
    flip = LabelFlip(classes=10)
    for found in ((inputs, labels), [inputs.numpy(), labels.numpy()]):
        same, turned = flip.poison(found, "s0")
        assert same is found[0]
        assert turned.tolist() == [9, 8, 0, -100]  # −100 is what torch's losses leave out
    assert flip.poison(TensorDataset(inputs, labels), "s0").tensors[1].tolist() == [9, 8, 0, -100]
    dataset = LabelFlip(classes=3).poison(Three(), "s0")
    assert [int(dataset[place][1]) for place in range(len(dataset))] == [2, 1, 0]
    binary = np.array([[0.0], [1.0]], dtype=np.float32)
    turned = LabelFlip(classes=2).poison((inputs, binary), "s0")[1]
    assert turned.tolist() == [[1.0], [0.0]]
    assert turned.dtype == torch.float32
    assert labels.tolist() == [0, 1, 9, -100]
    assert binary.tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(("labels", "seen"), [([0.0, 0.5], "0.5"), ([1, 2], "2")])
def test_what_is_no_label_is_named(labels: list[float], seen: str) -> None:
    with pytest.raises(DataError, match=rf"silo s3: LabelFlip\(classes=2\).*there is {seen}"):
        LabelFlip(classes=2).poison((torch.zeros(2), torch.tensor(labels)), "s3")
    with pytest.raises(DataError, match="silo s3: LabelFlip needs rows"):
        LabelFlip(classes=2).poison(torch.zeros(2), "s3")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (SignFlip, {"scale": "much"}),
        (Scaled, {"factor": math.inf}),
        (Gaussian, {"std": None}),
        (SilentConstant, {"value": math.nan}),
        (ALittleIsEnough, {"z": -1}),
        (ALittleIsEnough, {"knows": "own"}),
        (InnerProduct, {"epsilon": "x"}),
        (InnerProduct, {"knows": "everything"}),
        (MinMax, {"direction": "down"}),
        (MinMax, {"knows": ""}),
        (LabelFlip, {"classes": 1}),
        (LabelFlip, {"classes": 2.0}),
    ],
)
def test_a_setting_out_of_range_is_refused(kind: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleError, match=rf"{kind.__name__}\({next(iter(settings))}="):
        kind(**settings)
