"""FedAdagrad, FedAdam and FedYogi against Algorithm 2 of the paper: two rounds by hand, and FedAvg as their limit."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fl_kit.errors import IncompatibleError
from fl_kit.strategies import FedAdagrad, FedAdam, FedAvg, FedYogi
from fl_kit.strategies.adaptive import Adaptive
from tests.tasks import BATCHNORM, LINEAR, QUADRATIC, digests, flaky, random_rows, run, scalar, silos, write_task

KINDS = [FedAdagrad, FedAdam, FedYogi]
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
# One silo with F = (w − b)²/2 and one step of lr = 0.5 a round: delta = (b − w)/2, from w = 0.
HALVING: dict[str, Any] = {"lr": 0.5, "beta_1": 0.5}


def two_rounds(folder: Path, optimum: float, strategy: Adaptive) -> list[tuple[float, float, float]]:
    """(w, m, v) after rounds 0 to 2."""
    finished = run(QUADRATIC, strategy, silos(folder, a=[[1.0, optimum]]), 2)
    states = [finished.state(round) for round in range(3)]
    return [(scalar(s.params), scalar(s.memory["first_moment"]), scalar(s.memory["second_moment"])) for s in states]


def test_two_rounds_of_fedadagrad_by_hand(tmp_path: Path) -> None:
    """b = 4, tau = 1.5, server_lr = 1.

    start     w = 0       m = 0        v = 1.5² = 2.25
    round 1   delta = 2       m = 0.5·0 + 0.5·2 = 1              v = 2.25 + 4 = 6.25 = 2.5²
              w = 1/(2.5 + 1.5) = 0.25
    round 2   delta = 1.875   m = 0.5·1 + 0.5·1.875 = 1.4375     v = 6.25 + 1.875² = 3.125²
              w = 0.25 + 1.4375/(3.125 + 1.5)
    """
    found = two_rounds(tmp_path, 4.0, FedAdagrad(tau=1.5, server_lr=1.0, **HALVING))
    assert found[:2] == [(0, 0, 2.25), (0.25, 1, 6.25)]
    assert found[2] == pytest.approx((0.25 + 1.4375 / 4.625, 1.4375, 3.125**2), abs=1e-14)


def test_two_rounds_of_fedadam_by_hand(tmp_path: Path) -> None:
    """b = 14, tau = 1, beta_2 = 0.5, server_lr = 6; nothing is divided by 1 − beta^t.

    start     w = 0       m = 0        v = 1
    round 1   delta = 7      m = 3.5                            v = (1 + 49)/2 = 25
              w = 6·3.5/(5 + 1) = 3.5
    round 2   delta = 5.25   m = 1.75 + 2.625 = 4.375           v = (25 + 5.25²)/2 = 26.28125
              w = 3.5 + 6·4.375/(√26.28125 + 1)
    """
    found = two_rounds(tmp_path, 14.0, FedAdam(tau=1.0, beta_2=0.5, server_lr=6.0, **HALVING))
    assert found[:2] == [(0, 0, 1), (3.5, 3.5, 25)]
    assert found[2] == pytest.approx((3.5 + 26.25 / (math.sqrt(26.28125) + 1), 4.375, 26.28125), abs=1e-14)


def test_two_rounds_of_fedyogi_by_hand(tmp_path: Path) -> None:
    """b = 8, tau = 1, beta_2 = 0.5, server_lr = 8: v first grows towards delta², then falls towards it.

    start     w = 0       m = 0        v = 1
    round 1   delta = 4   m = 2        v < delta², so v = 1 + 0.5·16 = 9      w = 8·2/(3 + 1) = 4
    round 2   delta = 2   m = 1 + 1    v > delta², so v = 9 − 0.5·4 = 7       w = 4 + 8·2/(√7 + 1)
    """
    found = two_rounds(tmp_path, 8.0, FedYogi(tau=1.0, beta_2=0.5, server_lr=8.0, **HALVING))
    assert found[:2] == [(0, 0, 1), (4, 2, 9)]
    assert found[2] == pytest.approx((4 + 16 / (math.sqrt(7) + 1), 2, 7), abs=1e-14)


def test_yogi_rests_where_v_is_the_squared_delta(tmp_path: Path) -> None:
    """As above with server_lr = 4: w = 2, so delta = 3 and delta² = 9 = v, whose sign(0) is 0."""
    assert two_rounds(tmp_path, 8.0, FedYogi(tau=1.0, beta_2=0.5, server_lr=4.0, **HALVING))[2][2] == 9


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM], ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "strategy",
    [
        FedAdagrad(lr=0.05, batch_size=4, tau=2.0**60, server_lr=2.0**61),
        FedYogi(lr=0.05, batch_size=4, beta_1=0, beta_2=0.9, tau=2.0**60, server_lr=2.0**61),
        FedAdam(lr=0.05, batch_size=4, beta_1=0, beta_2=0, tau=2.0**60, server_lr=2.0**60),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_a_large_tau_is_fedavg_to_the_bit(tmp_path: Path, task: Path, strategy: Adaptive) -> None:
    """Beside tau² a delta² is lost, so √v + tau = 2·tau always, a power of two; Adam with beta_2 = 0 forgets tau²."""
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2))
    fedavg = run(task, FedAvg(lr=0.05, batch_size=4), federation, 3)
    assert digests(run(task, strategy, federation, 3)) == digests(fedavg)
    assert len(set(digests(fedavg))) == 4


def grow(v: float, squared: float) -> float:
    return v + squared


def average(v: float, squared: float) -> float:
    return 0.75 * v + 0.25 * squared


def yogi(v: float, squared: float) -> float:
    return v - 0.25 * squared * ((v > squared) - (v < squared))


@pytest.mark.parametrize(
    ("strategy", "second_moment"),
    [
        (FedAdagrad(tau=0.1, server_lr=0.2, **HALVING), grow),
        (FedAdam(tau=0.1, beta_2=0.75, server_lr=0.2, **HALVING), average),
        (FedYogi(tau=0.1, beta_2=0.75, server_lr=0.2, **HALVING), yogi),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_the_moments_are_of_the_silos_that_delivered(
    tmp_path: Path, strategy: Adaptive, second_moment: Callable[[float, float], float]
) -> None:
    """Silos with b = (1, 3) and n = (1, 3) rows; b is away in round 2: there the mean delta is a's alone."""
    federation = silos(tmp_path / "silos", a=[[1.0, 1.0]], b=[[1.0, 3.0]] * 3)
    finished = run(flaky(tmp_path, target=3.0, failing={2}), strategy, federation, 4, min_silos=1)
    w, m, v = 0.0, 0.0, 0.1**2
    for round in range(1, 5):
        mean_optimum = 1.0 if round == 2 else (1 * 1 + 3 * 3) / 4
        delta = (mean_optimum - w) / 2
        m, v = (m + delta) / 2, second_moment(v, delta**2)
        w += 0.2 * m / (math.sqrt(v) + 0.1)
        assert scalar(finished.state(round).params) == pytest.approx(w, abs=1e-13)


@every
def test_buffers_are_averaged(tmp_path: Path, kind: Any) -> None:
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2))
    adaptive = run(BATCHNORM, kind(lr=0.05, server_lr=3.0), federation, 1)
    fedavg = run(BATCHNORM, FedAvg(lr=0.05), federation, 1)
    buffers = [name for name in fedavg.state(1).params if "running" in name or "num_batches" in name]
    assert len(buffers) == 3
    assert all(torch.equal(adaptive.state(1).params[name], fedavg.state(1).params[name]) for name in buffers)


@every
def test_narrow_parameters_have_wide_moments(tmp_path: Path, kind: Any) -> None:
    """In float16 tau² = 1e-10 would be 0, and v would start below the paper's tau²."""
    source = LINEAR.read_text(encoding="utf-8").replace("dtype=torch.float64", "dtype=torch.float16")
    task = write_task(tmp_path, source.replace("return rows[:, :WIDTH]", "rows = rows.half(); return rows[:, :WIDTH]"))
    rows = random_rows(8, 4, 1)
    rows[:, 0] = 0  # this feature's weight never moves
    finished = run(task, kind(lr=0.05, tau=1e-5, steps=1), silos(tmp_path / "silos", a=rows), 2)
    state = finished.state(2)
    assert {value.dtype for value in state.params.values()} == {torch.float16}
    assert {value.dtype for group in state.memory.values() for value in group.values()} == {torch.float32}
    assert finished.state(0).memory["second_moment"]["bias"].tolist() == pytest.approx([1e-10], rel=1e-6)
    assert torch.equal(state.params["weight"][0, 0], finished.state(0).params["weight"][0, 0])
    assert not torch.equal(state.params["weight"], finished.state(0).params["weight"])


@every
@pytest.mark.parametrize(
    ("setting", "value"),
    [("tau", 0), ("tau", -1), ("beta_1", 1), ("beta_1", -0.1), ("server_momentum", 0.5), ("tau", float("nan"))],
)
def test_a_setting_out_of_its_range_is_named(kind: Any, setting: str, value: float) -> None:
    with pytest.raises(IncompatibleError, match=rf"{kind.__name__}\({setting}={value}\)"):
        kind(**{setting: value})


@pytest.mark.parametrize("kind", [FedAdam, FedYogi])
@pytest.mark.parametrize("value", [-0.1, 1])
def test_beta_2_out_of_its_range_is_named(kind: Any, value: float) -> None:
    with pytest.raises(IncompatibleError, match=rf"{kind.__name__}\(beta_2={value}\)"):
        kind(beta_2=value)
