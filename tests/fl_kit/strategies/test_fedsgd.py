"""FedSGD: gradient descent on the pooled rows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fl_kit import FedAvg, Federation, FedSGD
from fl_kit.errors import IncompatibleError
from sim.twins import twin_job
from tests.tasks import BATCHNORM, LINEAR, QUADRATIC, digests, every_parameter, job, random_rows, run, scalar, silos


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", a=random_rows(7, 4, 1), b=random_rows(40, 4, 2))


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM], ids=lambda path: path.stem)
def test_it_is_fedavg_with_one_full_batch_to_the_bit(federation: Federation, task: Path) -> None:
    settings = {"lr": 0.05, "weight_decay": 0.1, "server_momentum": 0.5}
    fedsgd = run(task, FedSGD(**settings), federation, 4)
    fedavg = run(task, FedAvg(**settings, steps=1, batch_size=40, shuffle=False), federation, 4)
    assert digests(fedsgd) == digests(fedavg)
    assert len(set(digests(fedsgd))) == 5


def test_it_is_gradient_descent_on_the_pooled_rows(federation: Federation) -> None:
    """w ← w − lr·∇F(w) with F the mean squared error of all 47 rows: ∇F = 2/47·X'(Xw − y)."""
    finished = run(LINEAR, FedSGD(lr=0.1), federation, 10)
    rows = np.concatenate([random_rows(7, 4, 1), random_rows(40, 4, 2)])
    x, y = np.column_stack([rows[:, :3], np.ones(47)]), rows[:, 3]
    start = finished.state(0).params
    w = np.append(start["weight"].numpy()[0], start["bias"].numpy())
    for round in range(1, 11):
        w = w - 0.1 * 2 / 47 * x.T @ (x @ w - y)
        found = every_parameter(finished, round).numpy()
        np.testing.assert_allclose(found, w, rtol=0, atol=1e-12)


def test_its_rate_of_convergence_is_that_of_the_pooled_curvature(tmp_path: Path) -> None:
    """F = Σ n_k·h_k/2·(w − b_k)² / Σ n_k has curvature h = (2·1 + 6·4)/8 and rests at (2·3 − 6·4)/26 = −9/13.

    w_r − w* = (1 − lr·h)^r · (0 − w*), without any drift.
    """
    federation = silos(tmp_path, a=[[1.0, 3.0]] * 2, b=[[2.0, -2.0]] * 6)
    finished = run(QUADRATIC, FedSGD(lr=0.2), federation, 8)
    for round in range(9):
        expected = -9 / 13 + 9 / 13 * (1 - 0.2 * 26 / 8) ** round
        assert scalar(finished.state(round).params) == pytest.approx(expected, abs=1e-12)


def test_what_it_decides_is_refused(federation: Federation) -> None:
    for settings in ({"epochs": 2}, {"steps": 3}, {"batch_size": 32}, {"momentum": 0.9}, {"shuffle": True}):
        with pytest.raises(IncompatibleError, match="the strategy itself decides that; leave out"):
            FedSGD(**settings)


def test_its_twin_takes_as_many_steps(federation: Federation) -> None:
    twin = twin_job(job(LINEAR, FedSGD(lr=0.1), 3), federation).strategy
    assert isinstance(twin, FedAvg)
    assert (twin.steps, twin.shuffle) == (2, False)
    two_steps = every_parameter(run(LINEAR, twin, federation.select(["b"]), 1))
    two_rounds = every_parameter(run(LINEAR, FedSGD(lr=0.1), federation.select(["b"]), 2))
    torch.testing.assert_close(two_steps, two_rounds, rtol=0, atol=1e-12)
