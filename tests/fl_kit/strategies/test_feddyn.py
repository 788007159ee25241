"""FedDyn against Algorithm 1 of the paper: rounds by hand with a silo away, where it rests, and its two limits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fl_kit.aggregators import Mean
from fl_kit.errors import IncompatibleError
from fl_kit.silo import Federation
from fl_kit.strategies import FedAvg, FedDyn
from fl_kit.strategies.feddyn import own_gradient
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.tasks import (
    LINEAR,
    QUADRATIC,
    every_parameter,
    flaky,
    job,
    random_rows,
    run,
    scalar,
    silos,
    write_task,
)

Part = tuple[int, float, float]
# F_k(w) = h/2·(w − b)² on n rows (√h, √h·b) each: (n, h, b).
A, B = (2, 1.0, 3.0), (6, 4.0, -1.0)


def quadratics(folder: Path, **parts: Part) -> Federation:
    return silos(folder, **{name: [[h**0.5, h**0.5 * b]] * n for name, (n, h, b) in parts.items()})


def gradients(finished: SimulatedRun, round: int) -> dict[str, float]:
    """g_k of each silo after a round."""
    return {silo: scalar(memory.tensors["gradient"]) for silo, memory in finished._store.memories(round).items()}


def test_three_rounds_by_hand_with_a_silo_away(tmp_path: Path) -> None:
    """One row each, F = (w − b)²/2 with b = (1, 3), lr = 1/2, alpha = 1, one step, in which w_k − w is still 0.

    round 1   delta = −1/2·(0 − b − 0) = (1/2, 3/2)            g = (−1/2, −3/2)    h = −1
              w = 0 + 1 + 1 = 2
    round 2   only a: delta = −1/2·(2 − 1 + 1/2) = −3/4        g = (1/4, −3/2)     h = −5/8, the paper's −1 + 1/2·3/4
              w = 2 − 3/4 + 5/8 = 15/8
    round 3   delta = (−1/2·(7/8 − 1/4), −1/2·(−9/8 + 3/2)) = (−5/16, −3/16)
              g = (9/16, −21/16)                               h = −3/8            w = 15/8 − 1/4 + 3/8 = 2
    """
    federation = quadratics(tmp_path / "silos", a=(1, 1.0, 1.0), b=(1, 1.0, 3.0))
    asked = job(flaky(tmp_path, target=3.0, failing={2}), FedDyn(lr=0.5, alpha=1.0), 3, min_silos=1)
    finished = InProcess(folder=tmp_path / "runs").start(asked, federation).wait()
    assert finished.failures["round"].tolist() == [2]
    assert [scalar(finished.state(round).params) for round in range(4)] == [0, 2, 15 / 8, 2]
    assert [gradients(finished, round) for round in (1, 2, 3)] == [
        {"a": -1 / 2, "b": -3 / 2}, {"a": 1 / 4, "b": -3 / 2}, {"a": 9 / 16, "b": -21 / 16}
    ]  # fmt: skip
    sums = [scalar(finished.state(round).memory["gradient_sum"]) for round in range(4)]
    assert sums == [0, 2 * -1, 2 * -5 / 8, 2 * -3 / 8]


def algorithm_1(parts: list[Part], lr: float, alpha: float, steps: int, rounds: int) -> list[float]:
    """The parameter after each round: the paper's Algorithm 1 for scalars, every silo in every round, weights n_k."""
    total = sum(n for n, _, _ in parts)
    theta, h, own = 0.0, 0.0, [0.0] * len(parts)
    found = [theta]
    for _ in range(rounds):
        local = []
        for k, (_, curvature, optimum) in enumerate(parts):
            w = theta
            for _ in range(steps):
                w -= lr * (curvature * (w - optimum) - own[k] + alpha * (w - theta))
            own[k] -= alpha * (w - theta)
            local.append(w)
        h -= alpha / total * sum(n * (w - theta) for (n, _, _), w in zip(parts, local, strict=True))
        theta = sum(n * w for (n, _, _), w in zip(parts, local, strict=True)) / total - h / alpha
        found.append(theta)
    return found


@pytest.mark.parametrize("weighted", [True, False], ids=["by rows", "alike as in the paper"])
def test_every_round_is_the_papers(tmp_path: Path, weighted: bool) -> None:
    """With every silo alike the weighted sums are the paper's own."""
    strategy = FedDyn(lr=0.05, alpha=0.5, steps=4, batch_size=6)
    aggregator = Mean(weighted=weighted)
    finished = run(QUADRATIC, strategy, quadratics(tmp_path, a=A, b=B), 8, aggregator=aggregator)
    parts = [A, B] if weighted else [(1, *A[1:]), (1, *B[1:])]
    for round, theta in enumerate(algorithm_1(parts, 0.05, 0.5, 4, 8)):
        assert scalar(finished.state(round).params) == pytest.approx(theta, abs=1e-12)


@pytest.mark.parametrize(("weighted", "optimum"), [(True, -9 / 13), (False, -1 / 5)], ids=["by rows", "alike"])
def test_it_rests_at_the_minimum_where_fedavg_is_biased(tmp_path: Path, weighted: bool, optimum: float) -> None:
    """The minimum of Σ n·h/2·(w − b)² is Σ n·h·b / Σ n·h: (2·3 − 6·4)/(2 + 24) = −9/13, with n = 1 (3 − 4)/5.

    FedAvg ends at Σ n·γ·b / Σ n·γ with γ = 1 − (1 − lr·h)^K (see test_fedavg). Five steps are far from each
    silo's own minimum, so it is not exact local solutions that FedDyn owes this to.
    """
    federation = quadratics(tmp_path, a=A, b=B)
    settings = {"lr": 0.05, "steps": 5, "batch_size": 6}
    aggregator = Mean(weighted=weighted)
    feddyn = run(QUADRATIC, FedDyn(alpha=2.0, **settings), federation, 150, aggregator=aggregator)
    fedavg = run(QUADRATIC, FedAvg(**settings), federation, 150, aggregator=aggregator)
    n_a, n_b = (2, 6) if weighted else (1, 1)
    gamma_a, gamma_b = n_a * (1 - 0.95**5), n_b * (1 - 0.8**5)
    biased = (gamma_a * 3 - gamma_b) / (gamma_a + gamma_b)
    assert scalar(feddyn.state().params) == pytest.approx(optimum, abs=1e-9)
    assert scalar(fedavg.state().params) == pytest.approx(biased, abs=1e-9)
    assert abs(biased - optimum) > 0.05


def test_at_rest_the_memories_are_the_gradients(tmp_path: Path) -> None:
    """There g_k = ∇F_k(w*) = h·(w* − b), and h = 0."""
    strategy = FedDyn(lr=0.05, alpha=2.0, steps=5, batch_size=6)
    finished = run(QUADRATIC, strategy, quadratics(tmp_path, a=A, b=B), 150)
    found = gradients(finished, 150)
    assert found == pytest.approx({"a": -9 / 13 - 3, "b": 4 * (-9 / 13 + 1)}, abs=1e-8)
    assert scalar(finished.state().memory["gradient_sum"]) == pytest.approx(0, abs=1e-8)


def test_a_silo_that_is_often_away_does_not_move_the_minimum(tmp_path: Path) -> None:
    """Silo b, with targets of −2, misses every third round of the first 90 (one training step a round)."""
    federation = quadratics(tmp_path / "silos", a=A, b=B)
    task = flaky(tmp_path, target=-2.0, failing=set(range(1, 90, 3)))
    finished = run(task, FedDyn(lr=0.1, alpha=2.0, batch_size=6), federation, 300, min_silos=1)
    assert len(finished.failures) == 30
    assert scalar(finished.state().params) == pytest.approx(-9 / 13, abs=1e-9)


def test_two_of_four_silos_a_round(tmp_path: Path) -> None:
    """Algorithm 1 for scalars over the silos that the plan drew, h over those drawn so far; it rests at the minimum."""
    parts = {"a": A, "b": B, "c": (5, 2.25, 0.5), "d": (3, 1.0, -4.0)}
    strategy = FedDyn(lr=0.1, alpha=2.0, steps=3, batch_size=6)
    finished = run(QUADRATIC, strategy, quadratics(tmp_path, **parts), 80, per_round=2, seed=3)
    drawn = [list(step.updates) for step in finished.plan.steps if step.op == "aggregate"]
    theta, own, heard = 0.0, dict.fromkeys(parts, 0.0), set[str]()
    for round, present in enumerate(drawn, 1):
        heard |= set(present)
        deltas = {}
        for k in present:
            _, curvature, optimum = parts[k]
            w = theta
            for _ in range(3):
                w -= 0.1 * (curvature * (w - optimum) - own[k] + 2 * (w - theta))
            deltas[k] = w - theta
            own[k] -= 2 * deltas[k]
        h = sum(parts[k][0] * own[k] for k in heard) / sum(parts[k][0] for k in heard)
        mean = sum(parts[k][0] * delta for k, delta in deltas.items()) / sum(parts[k][0] for k in present)
        theta += mean - h / 2
        assert scalar(finished.state(round).params) == pytest.approx(theta, abs=1e-12)
    assert {len(present) for present in drawn} == {2}
    assert len({tuple(present) for present in drawn}) > 3
    # (2·3 − 6·4 + 5·2.25·0.5 − 3·4) / (2 + 24 + 11.25 + 3)
    assert theta == pytest.approx(-24.375 / 40.25, abs=1e-3)


@pytest.mark.parametrize("weighted", [True, False], ids=["by rows", "alike"])
def test_what_the_orchestrator_keeps_is_the_sum_of_the_silos(tmp_path: Path, weighted: bool) -> None:
    """Σ n_k·g_k, though it never saw a g_k; silo b joins in round 3 and stays away in round 5."""
    federation = quadratics(tmp_path / "silos", a=A, b=B, c=(5, 2.25, 0.5))
    task, strategy = flaky(tmp_path, target=-2.0, failing={1, 2, 5}), FedDyn(lr=0.1, alpha=0.7, batch_size=6)
    asked = job(task, strategy, 6, min_silos=2, aggregator=Mean(weighted=weighted))
    finished = InProcess(folder=tmp_path / "runs").start(asked, federation).wait()
    assert [sorted(gradients(finished, round)) for round in (2, 3)] == [["a", "c"], ["a", "b", "c"]]
    counts = {"a": 2, "b": 6, "c": 5} if weighted else dict.fromkeys("abc", 1)
    for round in range(1, 7):
        found = sum(counts[silo] * g for silo, g in gradients(finished, round).items())
        assert scalar(finished.state(round).memory["gradient_sum"]) == pytest.approx(found, abs=1e-12)


def test_a_vanishing_alpha_starts_as_fedavg_of_twice_the_step_to_the_bit(tmp_path: Path) -> None:
    """Neither term reaches the gradients' last bit then; and −h/alpha is the mean delta once more, as n = 8 and alpha
    are powers of two.
    """
    federation = silos(tmp_path, a=random_rows(2, 4, 1), b=random_rows(6, 4, 2))
    settings = {"lr": 0.05, "batch_size": 2, "epochs": 3}
    feddyn = run(LINEAR, FedDyn(alpha=2.0**-200, **settings), federation, 1)
    assert feddyn.digest(1) == run(LINEAR, FedAvg(server_lr=2.0, **settings), federation, 1).digest(1)
    assert feddyn.digest(1) != feddyn.digest(0)


def test_one_step_with_alpha_1_over_lr_is_optimistic_gradient_descent(tmp_path: Path) -> None:
    """Then delta_k = −lr·(∇F_k(w) − g_k) and g_k ← ∇F_k(w), so

        w_{t+1} = w_t − lr·(2·∇F(w_t) − ∇F(w_{t−1})),    ∇F(w_{−1}) = 0

    on all rows together: alpha → ∞ is this too, with lr = 1/alpha, since exact local solutions are then that near.
    """
    rows = [random_rows(7, 4, 1), random_rows(20, 4, 2)]
    lr = 1 / 16
    strategy = FedDyn(lr=lr, alpha=16.0, steps=1, batch_size=20)
    finished = run(LINEAR, strategy, silos(tmp_path, a=rows[0], b=rows[1]), 6)
    together = np.concatenate(rows)
    x, y = np.column_stack([together[:, :-1], np.ones(len(together))]), together[:, -1]
    w, last = every_parameter(finished, 0).numpy(), np.zeros(4)
    for round in range(1, 7):
        gradient = 2 / len(y) * x.T @ (x @ w - y)
        w, last = w - lr * (2 * gradient - last), gradient
        np.testing.assert_allclose(every_parameter(finished, round).numpy(), w, rtol=0, atol=1e-12)


def test_a_silos_gradient_never_leaves_it(tmp_path: Path) -> None:
    finished = run(QUADRATIC, FedDyn(lr=0.1, steps=2), quadratics(tmp_path, a=A, b=B), 2)
    fits = [step for step in finished.plan.steps if step.op == "fit"]
    assert all(step.outputs == {"update": "shared", "memory": "private"} for step in fits)
    state = finished.state(2)
    assert {group: set(tensors) for group, tensors in state.memory.items()} == {
        "gradient_sum": {"w"},
        "weights": {"a", "b"},
    }
    assert {silo: float(weight) for silo, weight in state.memory["weights"].items()} == {"a": 2, "b": 6}


def test_narrow_parameters_have_wide_gradients(tmp_path: Path) -> None:
    """In float16, alpha·delta = 1e-5·2⁻¹⁴ would be 0."""
    source = QUADRATIC.read_text(encoding="utf-8").replace("dtype=torch.float64", "dtype=torch.half")
    task = write_task(tmp_path, source.replace("return x, y", "return x.half(), y.half()"))
    asked = job(task, FedDyn(lr=2.0**-14, alpha=1e-5), 2)
    finished = InProcess(folder=tmp_path / "runs").start(asked, silos(tmp_path / "silos", a=[[1.0, 1.0]])).wait()
    assert finished.state().params["w"].dtype == torch.float16
    kept = finished._store.memories(1)["a"]
    assert kept.tensors["gradient"]["w"].dtype == torch.float32
    assert scalar(kept.tensors["gradient"]) == pytest.approx(-1e-5 * 2.0**-14, rel=1e-6)
    assert own_gradient(finished.state(0), None)["w"].dtype == torch.float32


@pytest.mark.parametrize("alpha", [0, -1, float("nan")])
def test_an_alpha_out_of_its_range_is_named(alpha: float) -> None:
    with pytest.raises(IncompatibleError, match=rf"FedDyn\(alpha={alpha}\)"):
        FedDyn(alpha=alpha)
