"""SCAFFOLD against Algorithm 1 of the paper: its controls, its first round, and where it converges to."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fl_kit.aggregators import Mean
from fl_kit.errors import IncompatibleError
from fl_kit.messages import State
from fl_kit.silo import Federation
from fl_kit.strategies import FedAvg, Scaffold
from fl_kit.strategies.scaffold import control
from fl_kit.tensors import Tensors
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.tasks import (
    BATCHNORM,
    LINEAR,
    QUADRATIC,
    digests,
    every_parameter,
    flaky,
    job,
    random_rows,
    run,
    scalar,
    silos,
)

# Two silos with F_k(w) = h/2·(w − b)²: (n, h, b). A row (x, x·b) gives h = x².
A, B = (2, 1.0, 3.0), (6, 4.0, -1.0)


def quadratics(folder: Path, **parts: tuple[int, float, float]) -> Federation:
    rows = {name: [[math.sqrt(h), math.sqrt(h) * b]] * n for name, (n, h, b) in parts.items()}
    return silos(folder, **rows)


def kept_run(
    folder: Path, task: Path, strategy: Scaffold, federation: Federation, rounds: int, **settings: Any
) -> SimulatedRun:
    """A finished run in a folder, whose silos' memories can be read back."""
    return InProcess(folder=folder / "runs").start(job(task, strategy, rounds, **settings), federation).wait()


def controls(finished: SimulatedRun, round: int) -> dict[str, Tensors]:
    """c_k of each silo after a round."""
    return {silo: memory.tensors["control"] for silo, memory in finished._store.memories(round).items()}


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM], ids=lambda path: path.stem)
def test_one_step_with_zero_controls_is_fedavg_to_the_bit(tmp_path: Path, task: Path) -> None:
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2))
    scaffold = run(task, Scaffold(lr=0.05, steps=1, batch_size=20, weight_decay=0.1), federation, 1)
    fedavg = run(task, FedAvg(lr=0.05, steps=1, batch_size=20, weight_decay=0.1), federation, 1)
    assert digests(scaffold) == digests(fedavg)
    assert scaffold.digest(0) != scaffold.digest(1)


def test_the_first_round_is_fedavg_to_the_bit_however_many_steps(tmp_path: Path) -> None:
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2))
    scaffold = run(LINEAR, Scaffold(lr=0.05, epochs=3, batch_size=4), federation, 2)
    fedavg = run(LINEAR, FedAvg(lr=0.05, epochs=3, batch_size=4), federation, 2)
    assert scaffold.digest(1) == fedavg.digest(1)
    assert scaffold.digest(2) != fedavg.digest(2)


def test_with_one_step_the_controls_cancel_in_every_round(tmp_path: Path) -> None:
    """Σ p_k·(∇F_k − c_k + c) = Σ p_k·∇F_k because c = Σ p_k·c_k: one step a round is FedAvg, up to rounding."""
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2))
    scaffold = run(LINEAR, Scaffold(lr=0.05, steps=1, batch_size=20), federation, 6)
    fedavg = run(LINEAR, FedAvg(lr=0.05, steps=1, batch_size=20), federation, 6)
    torch.testing.assert_close(every_parameter(scaffold), every_parameter(fedavg), rtol=0, atol=1e-12)


def test_controls_of_the_first_round(tmp_path: Path) -> None:
    """Option II from c = c_k = 0: c_k⁺ = (w − w_k)/(K·η), the silo's mean gradient.

    From w = 0, two steps with η = 0.1: silo a (h = 1, b = 3): 0.3, 0.57, so c_a = −0.57/0.2 = −2.85;
    silo b (h = 4, b = −1): −0.4, −0.64, so c_b = 3.2. With n = (2, 6): c = (2·(−2.85) + 6·3.2)/8 = 1.6875.
    """
    federation = quadratics(tmp_path, a=A, b=B)
    finished = kept_run(tmp_path, QUADRATIC, Scaffold(lr=0.1, steps=2, batch_size=6), federation, 1)
    own = controls(finished, 1)
    assert scalar(own["a"]) == pytest.approx(-2.85, abs=1e-12)
    assert scalar(own["b"]) == pytest.approx(3.2, abs=1e-12)
    assert scalar(control(finished.state(1))) == pytest.approx(1.6875, abs=1e-12)


def algorithm_1(parts: list[tuple[int, float, float]], lr: float, steps: int, rounds: int) -> list[tuple[float, float]]:
    """(x, c) after each round: the paper's Algorithm 1 for scalars, every silo in every round, weights n_k."""
    total = sum(n for n, _, _ in parts)
    x, c, own = 0.0, 0.0, [0.0] * len(parts)
    found = [(x, c)]
    for _ in range(rounds):
        moves, changes = [], []
        for k, (_, h, b) in enumerate(parts):
            y = x
            for _ in range(steps):
                y = y - lr * (h * (y - b) - own[k] + c)
            fresh = own[k] - c + (x - y) / (steps * lr)
            moves.append(y - x)
            changes.append(fresh - own[k])
            own[k] = fresh
        x += sum(n * move for (n, _, _), move in zip(parts, moves, strict=True)) / total
        c += sum(n * change for (n, _, _), change in zip(parts, changes, strict=True)) / total
        found.append((x, c))
    return found


@pytest.mark.parametrize("parts", [[A, B], [(3, 1.0, 3.0), (3, 4.0, -1.0)]], ids=["unequal", "equal as in the paper"])
def test_every_round_is_the_papers(tmp_path: Path, parts: list[tuple[int, float, float]]) -> None:
    """With equal n the weighted means are the paper's own: c ← c + |S|/N · mean of (c_k⁺ − c_k)."""
    federation = quadratics(tmp_path, a=parts[0], b=parts[1])
    finished = run(QUADRATIC, Scaffold(lr=0.05, steps=4, batch_size=6), federation, 8)
    for round, (x, c) in enumerate(algorithm_1(parts, 0.05, 4, 8)):
        assert scalar(finished.state(round).params) == pytest.approx(x, abs=1e-12)
        assert scalar(control(finished.state(round))) == pytest.approx(c, abs=1e-12)


def test_under_a_schedule_each_round_divides_by_its_own_rate(tmp_path: Path) -> None:
    """Round 1 alone with lr = 0.1, then round 2 with 0.05: as two calls of Algorithm 1's round.

    c_k⁺ = c_k − c + (x − y_k)/(K·lr) is silo k's mean gradient over its K steps, whatever the round's lr.
    """
    federation = quadratics(tmp_path, a=A, b=B)
    finished = kept_run(tmp_path, QUADRATIC, Scaffold(lr=(0.1, 0.05), steps=2, batch_size=6), federation, 2)
    x = scalar(finished.state(1).params)
    c, own = scalar(control(finished.state(1))), {silo: scalar(c_k) for silo, c_k in controls(finished, 1).items()}
    after = controls(finished, 2)
    for silo, (_, h, b) in {"a": A, "b": B}.items():
        first = h * (x - b)
        y = x - 0.05 * (first - own[silo] + c)
        assert scalar(after[silo]) == pytest.approx((first + h * (y - b)) / 2, abs=1e-12)


def test_where_silos_count_alike_they_do_so_in_the_control(tmp_path: Path) -> None:
    """Under a plain mean n_k = 1 throughout, however many rows: the paper's own Algorithm 1."""
    federation = quadratics(tmp_path, a=A, b=B)
    strategy = Scaffold(lr=0.05, steps=4, batch_size=6)
    finished = run(QUADRATIC, strategy, federation, 8, aggregator=Mean(weighted=False))
    for round, (x, c) in enumerate(algorithm_1([(1, *A[1:]), (1, *B[1:])], 0.05, 4, 8)):
        assert scalar(finished.state(round).params) == pytest.approx(x, abs=1e-12)
        assert scalar(control(finished.state(round))) == pytest.approx(c, abs=1e-12)


def test_it_converges_where_fedavg_is_biased(tmp_path: Path) -> None:
    """The optimum of Σ n·h/2·(w − b)² is Σ n·h·b / Σ n·h = (2·3 − 6·4)/(2 + 24) = −9/13.

    FedAvg ends at Σ n·γ·b / Σ n·γ with γ = 1 − (1 − η·h)^K (see test_fedavg): 0.40 away from it.
    """
    federation = quadratics(tmp_path, a=A, b=B)
    settings = {"lr": 0.05, "steps": 20, "batch_size": 6}
    scaffold = run(QUADRATIC, Scaffold(**settings), federation, 120)
    fedavg = run(QUADRATIC, FedAvg(**settings), federation, 120)
    gamma_a, gamma_b = 2 * (1 - 0.95**20), 6 * (1 - 0.8**20)
    biased = (gamma_a * 3 - gamma_b) / (gamma_a + gamma_b)
    assert scalar(scaffold.state().params) == pytest.approx(-9 / 13, abs=1e-9)
    assert scalar(fedavg.state().params) == pytest.approx(biased, abs=1e-9)
    assert biased - (-9 / 13) > 0.4


def test_at_the_optimum_the_controls_are_the_gradients(tmp_path: Path) -> None:
    """There c_k = ∇F_k(w*) = h·(w* − b), and their weighted mean c is 0."""
    federation = quadratics(tmp_path, a=A, b=B)
    finished = kept_run(tmp_path, QUADRATIC, Scaffold(lr=0.05, steps=20, batch_size=6), federation, 120)
    own = controls(finished, 120)
    assert scalar(own["a"]) == pytest.approx(-9 / 13 - 3, abs=1e-8)
    assert scalar(own["b"]) == pytest.approx(4 * (-9 / 13 + 1), abs=1e-8)
    assert scalar(control(finished.state())) == pytest.approx(0, abs=1e-8)


def check_controls(finished: SimulatedRun, weights: dict[str, int], rounds: int) -> None:
    """C = Σ n_k·c_k / Σ n_k over the silos heard of so far, after every round."""
    for round in range(1, rounds + 1):
        own = controls(finished, round)
        expected = sum(weights[k] * scalar(c_k) for k, c_k in own.items()) / sum(weights[k] for k in own)
        assert scalar(control(finished.state(round))) == pytest.approx(expected, abs=1e-12)


def test_the_control_is_the_weighted_mean_of_the_silos(tmp_path: Path) -> None:
    federation = quadratics(tmp_path, a=A, b=B, c=(5, 2.25, 0.5))
    finished = kept_run(tmp_path, QUADRATIC, Scaffold(lr=0.05, steps=3, batch_size=6), federation, 5)
    check_controls(finished, {"a": 2, "b": 6, "c": 5}, 5)


def test_a_silo_that_misses_a_round_leaves_the_control_exact(tmp_path: Path) -> None:
    """Silo b (targets 2·(−1) = −2) takes one step a round; its third call, in round 3, fails."""
    federation = quadratics(tmp_path, a=A, b=B, c=(5, 2.25, 0.5))
    task = flaky(tmp_path, target=-2.0, failing={3})
    strategy = Scaffold(lr=0.05, steps=1, batch_size=6)
    finished = kept_run(tmp_path, task, strategy, federation, 6, min_silos=2)
    assert finished.failures["round"].tolist() == [3]
    assert scalar(controls(finished, 3)["b"]) == scalar(controls(finished, 2)["b"])
    assert scalar(controls(finished, 4)["b"]) != scalar(controls(finished, 3)["b"])
    check_controls(finished, {"a": 2, "b": 6, "c": 5}, 6)


def test_a_silo_that_joins_late(tmp_path: Path) -> None:
    """Until it is heard of it has no part in c; its own control starts at 0."""
    federation = quadratics(tmp_path, a=A, b=B, c=(5, 2.25, 0.5))
    task = flaky(tmp_path, target=-2.0, failing={1, 2})
    finished = kept_run(tmp_path, task, Scaffold(lr=0.05, steps=1, batch_size=6), federation, 4, min_silos=2)
    assert [sorted(controls(finished, round)) for round in (1, 2, 3)] == [["a", "c"], ["a", "c"], ["a", "b", "c"]]
    check_controls(finished, {"a": 2, "b": 6, "c": 5}, 4)


def test_a_silos_control_never_leaves_it(tmp_path: Path) -> None:
    """The plan keeps `memory` private, and the state holds only the sum and each silo's number of rows."""
    federation = quadratics(tmp_path, a=A, b=B)
    finished = run(QUADRATIC, Scaffold(lr=0.1, steps=2, batch_size=6), federation, 2)
    fits = [step for step in finished.plan.steps if step.op == "fit"]
    assert all(step.outputs == {"update": "shared", "memory": "private"} for step in fits)
    state: State = finished.state(2)
    assert {group: set(tensors) for group, tensors in state.memory.items()} == {
        "control_sum": {"w"},
        "weights": {"a", "b"},
    }
    weights: dict[str, Tensor] = state.memory["weights"]
    assert {silo: float(weight) for silo, weight in weights.items()} == {"a": 2.0, "b": 6.0}


@pytest.mark.parametrize("settings", [{"momentum": 0.5}, {"lr": 0.0}])
def test_settings_that_break_the_algebra_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(IncompatibleError, match=next(iter(settings))):
        Scaffold(**settings)
