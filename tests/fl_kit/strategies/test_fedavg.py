"""FedAvg against plain gradient descent, and against its own closed form on quadratics."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fl_kit.aggregators import Mean
from fl_kit.errors import IncompatibleError
from fl_kit.strategies import FedAvg
from tests.tasks import (
    BATCHNORM,
    LINEAR,
    QUADRATIC,
    digests,
    every_parameter,
    flaky,
    random_rows,
    run,
    scalar,
    silos,
    write_task,
)

UNEQUAL = {"a": random_rows(5, 4, seed=1), "b": random_rows(17, 4, seed=2) + 1, "c": random_rows(40, 4, seed=3) * 2}
LARGEST = 40
ROUNDS = 6


def centralised(start: np.ndarray, rows: np.ndarray, lr: float, steps: int) -> list[np.ndarray]:
    """Gradient descent on the mean of (x·w + b − y)², whose gradient is 2/n · Xᵀ(X·[w, b] − y), X with ones added."""
    x = np.column_stack([rows[:, :-1], np.ones(len(rows))])
    points = [start]
    for _ in range(steps):
        points.append(points[-1] - lr * 2 / len(rows) * x.T @ (x @ points[-1] - rows[:, -1]))
    return points


def largest_difference(tmp_path: Path, strategy: FedAvg, lr: float, **settings: Any) -> float:
    finished = run(LINEAR, strategy, silos(tmp_path, **UNEQUAL), ROUNDS, **settings)
    start = every_parameter(finished, 0).numpy()
    expected = centralised(start, np.concatenate(list(UNEQUAL.values())), lr, ROUNDS)
    return max(np.abs(every_parameter(finished, round).numpy() - expected[round]).max() for round in range(ROUNDS + 1))


def test_one_full_batch_step_is_centralised_sgd(tmp_path: Path) -> None:
    """Σ n_k/n · (w − lr·∇F_k(w)) = w − lr·∇F(w), for F_k is the mean over n_k rows and F over all n."""
    assert largest_difference(tmp_path, FedAvg(lr=0.05, batch_size=LARGEST), 0.05) <= 1e-12


def test_a_plain_mean_is_not(tmp_path: Path) -> None:
    plain = largest_difference(tmp_path, FedAvg(lr=0.05, batch_size=LARGEST), 0.05, aggregator=Mean(weighted=False))
    assert plain > 1e-6


def test_server_lr_stretches_the_step(tmp_path: Path) -> None:
    """w + s·Σ n_k/n · (−lr·∇F_k) = w − (s·lr)·∇F."""
    strategy = FedAvg(lr=0.1, server_lr=0.5, batch_size=LARGEST)
    assert largest_difference(tmp_path, strategy, 0.05) <= 1e-12


def test_weight_decay_is_centralised_weight_decay(tmp_path: Path) -> None:
    """Each silo adds d·w to its gradient, so their weighted mean does too: 1 step of w·(1 − lr·d) − lr·∇F."""
    finished = run(LINEAR, FedAvg(lr=0.05, batch_size=LARGEST, weight_decay=0.3), silos(tmp_path, **UNEQUAL), 1)
    start = every_parameter(finished, 0).numpy()
    _, stepped = centralised(start, np.concatenate(list(UNEQUAL.values())), 0.05, 1)
    np.testing.assert_allclose(every_parameter(finished, 1).numpy(), stepped - 0.05 * 0.3 * start, rtol=0, atol=1e-12)


def quadratic_rows(count: int, x: float, optimum: float) -> list[list[float]]:
    """`count` rows that give F(w) = x²/2 · (w − optimum)²."""
    return [[x, x * optimum]] * count


def test_many_local_steps_drift_to_the_closed_form(tmp_path: Path) -> None:
    """K steps of w ← w − η·h_k·(w − b_k) give w_k − b_k = (1 − η·h_k)^K · (w − b_k), so with
    γ_k = 1 − (1 − η·h_k)^K and p_k = n_k/n

        w_r − w* = (1 − Σ p_k·γ_k)^r · (w_0 − w*),      w* = Σ p_k·γ_k·b_k / Σ p_k·γ_k

    Here h = (1, 4), b = (3, −1), n = (2, 6), K = 5, η = 0.1, w_0 = 0. The optimum of the weighted objective is
    Σ p·h·b / Σ p·h = (0.25·3 − 0.75·4) / (0.25 + 3) = −0.6923; w* = −0.4843 is far from it: client drift.
    """
    federation = silos(tmp_path, a=quadratic_rows(2, 1.0, 3.0), b=quadratic_rows(6, 2.0, -1.0))
    finished = run(QUADRATIC, FedAvg(lr=0.1, steps=5, batch_size=6), federation, 12)
    gamma_a, gamma_b = 1 - 0.9**5, 1 - 0.6**5
    pull = 0.25 * gamma_a + 0.75 * gamma_b
    fixed = (0.25 * gamma_a * 3 - 0.75 * gamma_b * 1) / pull
    assert fixed == pytest.approx(-0.4843, abs=1e-4)
    for round in range(13):
        assert scalar(finished.state(round).params) == pytest.approx(fixed * (1 - (1 - pull) ** round), abs=1e-12)


def test_momentum_starts_afresh_each_round(tmp_path: Path) -> None:
    """One silo, h = 1, b = 1, w_0 = 0, η = 0.1, momentum 0.5, two steps a round. With e = w − 1:

    first step of a round   v = e            e ← e − 0.1·e = 0.9·e
    second step             v = 0.5·e + 0.9·e = 1.4·e      e ← 0.9·e − 0.14·e = 0.76·e

    so each round multiplies e by 0.76; carried over, v would give something else from round 2 on.
    """
    federation = silos(tmp_path, a=quadratic_rows(3, 1.0, 1.0))
    finished = run(QUADRATIC, FedAvg(lr=0.1, momentum=0.5, steps=2, batch_size=3), federation, 4)
    for round in range(5):
        assert scalar(finished.state(round).params) == pytest.approx(1 - 0.76**round, abs=1e-12)


def test_epochs_are_as_many_steps_as_batches(tmp_path: Path) -> None:
    """Five rows in batches of 2 are 3 steps an epoch: two epochs are six steps, to the bit."""
    federation = silos(tmp_path, a=quadratic_rows(5, 1.0, 1.0))
    by_epochs = run(QUADRATIC, FedAvg(lr=0.1, epochs=2, batch_size=2), federation, 2)
    by_steps = run(QUADRATIC, FedAvg(lr=0.1, steps=6, batch_size=2), federation, 2)
    assert digests(by_epochs) == digests(by_steps)
    assert scalar(by_steps.state(1).params) == pytest.approx(1 - 0.9**6, abs=1e-12)


def test_without_shuffling_rows_come_in_their_order(tmp_path: Path) -> None:
    """Batches of one row with optima 0 then 1, w_0 = 0, η = 0.5: after the first row 0, after the second 0.5."""
    federation = silos(tmp_path, a=[[1.0, 0.0], [1.0, 1.0]])
    finished = run(QUADRATIC, FedAvg(lr=0.5, batch_size=1, shuffle=False), federation, 1)
    assert scalar(finished.state(1).params) == 0.5


def test_zero_learning_rate_changes_nothing(tmp_path: Path) -> None:
    finished = run(LINEAR, FedAvg(lr=0.0, epochs=3), silos(tmp_path, **UNEQUAL), 2)
    assert len(set(digests(finished))) == 1


def test_the_seed_decides_the_bits(tmp_path: Path) -> None:
    federation = silos(tmp_path, **UNEQUAL)
    first, again, other = (run(LINEAR, FedAvg(batch_size=4), federation, 2, seed=seed) for seed in (7, 7, 8))
    assert digests(first) == digests(again)
    assert not set(digests(first)) & set(digests(other))


UNUSED = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Parameter(torch.tensor(1.0))
        self.unused = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.used * x

def model():
    return Model()

def data(folder, split):
    return torch.ones(4), torch.zeros(4)

loss = nn.MSELoss()
"""


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_parameter_that_takes_no_part_stays(tmp_path: Path, momentum: float) -> None:
    """As in torch.optim.SGD: no gradient, no weight decay. The other: w ← w − 0.1·(2w + 0.5·w) = 0.75·w."""
    task = write_task(tmp_path, UNUSED)
    federation = silos(tmp_path, a=random_rows(1, 1, 0))
    finished = run(task, FedAvg(lr=0.1, weight_decay=0.5, momentum=momentum), federation, 1)
    assert float(finished.state(1).params["unused"]) == 2.0
    assert float(finished.state(1).params["used"]) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0), ("batch_size", 0), ("lr", -0.1), ("lr", float("nan")), ("momentum", -0.1), ("momentum", 1.0),
        ("weight_decay", -1e-9), ("server_lr", -1.0), ("steps", 0), ("server_momentum", -0.1), ("server_momentum", 1.0),
        ("epochs", 1.5), ("batch_size", "32"), ("lr", "0.1"), ("lr", float("inf")),
    ],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_named(setting: str, value: Any) -> None:
    with pytest.raises(IncompatibleError, match=re.escape(f"FedAvg({setting}={value!r})")):
        FedAvg(**{setting: value})


def test_the_update_is_what_a_silo_measured(tmp_path: Path) -> None:
    """w_0 = 0, F = (w − 1)²/2, η = 0.5, two steps of 3 rows: losses 1/2 and 1/8 over 6 rows, so train_loss is 5/16.

    The update's norm is |w_2 − w_0| = 0.75; both are figures of round 1, the loss on arrival (1/2) of round 0.
    """
    federation = silos(tmp_path, a=quadratic_rows(3, 1.0, 1.0))
    finished = run(QUADRATIC, FedAvg(lr=0.5, steps=2, batch_size=3), federation, 1)
    frame = finished.history()
    figures = {(row.metric, row.round): row.value for row in frame[frame.party == "a"].itertuples()}
    assert figures == {
        ("train_loss", 1): 0.3125,
        ("update_norm", 1): 0.75,
        ("loss", 0): 0.5,
        ("loss", 1): (1 - 0.75) ** 2 / 2,
    }


def test_states_are_not_touched_by_later_rounds(tmp_path: Path) -> None:
    """A state that someone holds on to keeps its values."""
    finished = run(LINEAR, FedAvg(lr=0.1), silos(tmp_path, **UNEQUAL), 3)
    vectors = [every_parameter(finished, round) for round in range(4)]
    assert all(not torch.equal(vectors[i], vectors[i + 1]) for i in range(3))


def test_server_momentum_is_the_papers(tmp_path: Path) -> None:
    """One silo, F = (w − 1)²/2, η = 0.5, one step: delta = (1 − w)/2. From w = 0 with server_momentum 0.5, server_lr 1:

    round 1   velocity = 0.5                        w = 0.5
    round 2   velocity = 0.5·0.5 + 0.25 = 0.5       w = 1
    round 3   velocity = 0.5·0.5 + 0 = 0.25         w = 1.25
    round 4   velocity = 0.5·0.25 − 0.125 = 0       w = 1.25
    """
    federation = silos(tmp_path, a=quadratic_rows(2, 1.0, 1.0))
    finished = run(QUADRATIC, FedAvg(lr=0.5, server_momentum=0.5), federation, 4)
    assert [scalar(finished.state(round).params) for round in range(5)] == [0, 0.5, 1, 1.25, 1.25]
    velocities = [finished.state(round).memory.get("velocity") for round in range(5)]
    assert velocities[0] is None
    assert [float(velocity["w"]) for velocity in velocities[1:] if velocity] == [0.5, 0.5, 0.25, 0]


def test_server_momentum_has_its_own_learning_rate(tmp_path: Path) -> None:
    """The same silo with server_lr 0.5: w = 0.25; velocity = 0.25 + 0.375 = 0.625, so w = 0.5625."""
    federation = silos(tmp_path, a=quadratic_rows(2, 1.0, 1.0))
    finished = run(QUADRATIC, FedAvg(lr=0.5, server_momentum=0.5, server_lr=0.5), federation, 2)
    assert [scalar(finished.state(round).params) for round in range(3)] == [0, 0.25, 0.5625]


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM], ids=lambda path: path.stem)
def test_server_momentum_begins_as_fedavg_to_the_bit(tmp_path: Path, task: Path) -> None:
    """The first velocity is the mean itself; and buffers are averaged, with no momentum of their own."""
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2))
    plain = run(task, FedAvg(lr=0.05, server_momentum=0.0), federation, 2)
    heavy = run(task, FedAvg(lr=0.05, server_momentum=0.9), federation, 2)
    assert heavy.digest(1) == plain.digest(1)
    assert heavy.digest(2) != plain.digest(2)
    assert plain.state(2).memory == {}
    buffers = ("running", "num_batches")
    assert set(heavy.state(2).memory["velocity"]) == {
        name for name in plain.state(0).params if not any(word in name for word in buffers)
    }


def test_the_velocity_is_of_the_silos_that_delivered(tmp_path: Path) -> None:
    """Silos with F = (w − b)²/2, b = (1, 3), one row each, η = 0.5: delta_k = (b_k − w)/2; server_momentum 0.5.

    round 1   both      delta = (2 − 0)/2 = 1           velocity = 1                      w = 1
    round 2   only a    delta = (1 − 1)/2 = 0           velocity = 0.5·1 + 0 = 0.5        w = 1.5
    round 3   both      delta = (2 − 1.5)/2 = 0.25      velocity = 0.5·0.5 + 0.25 = 0.5   w = 2
    """
    federation = silos(tmp_path / "silos", a=[[1.0, 1.0]], b=[[1.0, 3.0]])
    task = flaky(tmp_path, target=3.0, failing={2})
    finished = run(task, FedAvg(lr=0.5, server_momentum=0.5), federation, 3, min_silos=1)
    assert finished.failures["round"].tolist() == [2]
    assert [scalar(finished.state(round).params) for round in range(4)] == [0, 1, 1.5, 2]


def test_the_velocity_is_as_wide_as_the_mean(tmp_path: Path) -> None:
    """In float16 a velocity of 2⁻¹⁴ would soon have no bits left; the mean, and so the velocity, is in float32."""
    source = QUADRATIC.read_text(encoding="utf-8").replace("dtype=torch.float64", "dtype=torch.half")
    task = write_task(tmp_path, source.replace("return x, y", "return x.half(), y.half()"))
    finished = run(
        task, FedAvg(lr=0.5, server_momentum=0.5), silos(tmp_path / "silos", a=quadratic_rows(2, 1.0, 1.0)), 2
    )
    assert finished.state().params["w"].dtype == torch.float16
    assert finished.state().memory["velocity"]["w"].dtype == torch.float32
    assert [scalar(finished.state(round).params) for round in range(3)] == [0, 0.5, 1]
