"""FedNova: its normalisation where it is exact, the objective that it restores, and FedAvg to the bit."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.aggregators import Mean
from fl_kit.errors import IncompatibleError, MessageError
from fl_kit.messages import State, Update
from fl_kit.strategies import FedAvg, FedNova, FedProx
from fl_kit.strategies.fednova import normalised
from tests.tasks import (
    BATCHNORM,
    DROPOUT,
    LINEAR,
    QUADRATIC,
    digests,
    flaky,
    job,
    random_rows,
    run,
    scalar,
    silos,
    write_task,
)

# Batches of two rows: a takes one step an epoch, b three.
A, B = 2, 6


def constant_gradients(folder: Path) -> Path:
    """The quadratic task with F(w) = mean x·w, whose gradient is the same everywhere."""
    source = QUADRATIC.read_text(encoding="utf-8").replace("((outputs - targets) ** 2).mean() / 2", "outputs.mean()")
    return write_task(folder, source)


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM, DROPOUT], ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "settings",
    [{"steps": 3}, {"steps": 7, "momentum": 0.9, "weight_decay": 0.01}, {"steps": 3, "mu": 0.5, "server_lr": 0.5}],
    ids=["plain", "momentum", "mu"],
)
def test_equal_steps_are_fedavg_to_the_bit(tmp_path: Path, task: Path, settings: dict[str, Any]) -> None:
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2), c=random_rows(49, 4, 3))
    common = {"lr": 0.05, "batch_size": 4, **settings}
    plain = run(task, FedProx(**{"mu": 0.0, **common}), federation, 3)
    assert digests(run(task, FedNova(**common), federation, 3)) == digests(plain)
    assert len(set(digests(plain))) == 4


def test_equal_numbers_of_batches_are_equal_steps(tmp_path: Path) -> None:
    """13 and 16 rows in batches of 4 are 4 steps an epoch."""
    federation = silos(tmp_path, a=random_rows(13, 4, 1), b=random_rows(16, 4, 2))
    common = {"lr": 0.05, "batch_size": 4, "epochs": 3}
    nova, plain = (run(LINEAR, kind(**common), federation, 3) for kind in (FedNova, FedAvg))
    assert digests(nova) == digests(plain)


def test_without_mu_no_gradient_is_touched() -> None:
    assert FedNova().correction([], None, None, None) is None  # type: ignore[arg-type]
    assert FedNova(mu=0.1).correction([], None, None, None) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "length_b"),
    [({}, 1 + 1 + 1), ({"momentum": 0.5}, 1 + 1.5 + 1.75), ({"mu": 5.0}, 1 + 0.5 + 0.25)],
    ids=["plain", "momentum", "mu"],
)
def test_the_normalisation_is_exact(tmp_path: Path, settings: dict[str, float], length_b: float) -> None:
    """Constant gradients g_a = 1, g_b = −2, lr = 0.1, so delta_k = −0.1·g_k·length_k with no drift:

        plain      a_b = (1, 1, 1)                       each step moves once
        momentum   a_b = (1.75, 1.5, 1)                  the first gradient goes on with 1 + 0.5 + 0.25, and so on
        mu = 5     a_b = (0.25, 0.5, 1)                  each step takes back lr·mu = 0.5 of the way so far

    and length_a = 1. With n = (2, 6): length = (2·1 + 6·length_b)/8, w = 0.1·length·(−2·1 + 6·2)/8.
    """
    task = constant_gradients(tmp_path)
    federation = silos(tmp_path / "silos", a=[[1.0, 0.0]] * A, b=[[-2.0, 0.0]] * B)
    finished = run(task, FedNova(lr=0.1, batch_size=2, **settings), federation, 3)
    length = (2 + 6 * length_b) / 8
    for round in range(4):
        assert scalar(finished.state(round).params) == pytest.approx(round * 0.1 * length * 1.25, abs=1e-14)


def test_every_silo_alike_weighs_the_lengths_alike(tmp_path: Path) -> None:
    """With a plain mean p_k = 1/2: length = (1 + 3)/2, w = 0.1·2·(−1 + 2)/2."""
    task = constant_gradients(tmp_path)
    federation = silos(tmp_path / "silos", a=[[1.0, 0.0]] * A, b=[[-2.0, 0.0]] * B)
    finished = run(task, FedNova(lr=0.1, batch_size=2), federation, 1, aggregator=Mean(weighted=False))
    assert scalar(finished.state().params) == pytest.approx(0.1, abs=1e-14)


@pytest.mark.parametrize("lr", [0.1, 0.001])
def test_where_fedavg_minimises_another_objective(tmp_path: Path, lr: float) -> None:
    """F_k = h_k/2·(w − b_k)², τ = (2, 6) steps; γ_k = 1 − (1 − lr·h_k)^τ_k, delta_k = γ_k·(b_k − w). Fixed points:

        FedAvg    Σ n·γ·b / Σ n·γ             →  Σ n·τ·h·b / Σ n·τ·h        as lr → 0
        FedNova   Σ n·(γ/τ)·b / Σ n·(γ/τ)     →  Σ n·h·b / Σ n·h            the optimum

    With n = (2, 6), h = (1, 4), b = (3, −1): the optimum is (6 − 24)/(2 + 24) = −9/13, FedAvg's limit
    (6 − 72)/(2 + 72) = −33/37. From the fixed point a round leads back to it, so w_r = w*·(1 − (1 − pull)^r).
    """
    federation = silos(tmp_path, a=[[1.0, 3.0]] * A, b=[[2.0, -2.0]] * B)
    gamma_a, gamma_b = 1 - (1 - lr) ** 2, 1 - (1 - 4 * lr) ** 6
    fixed = {
        FedAvg: (2 * gamma_a * 3 - 6 * gamma_b) / (2 * gamma_a + 6 * gamma_b),
        FedNova: (2 * gamma_a / 2 * 3 - 6 * gamma_b / 6) / (2 * gamma_a / 2 + 6 * gamma_b / 6),
    }
    length = (2 * 2 + 6 * 6) / 8
    pull = {FedAvg: (2 * gamma_a + 6 * gamma_b) / 8, FedNova: length * (gamma_a + gamma_b) / 8}
    for kind, point in fixed.items():
        finished = run(QUADRATIC, kind(lr=lr, epochs=2, batch_size=2), federation, 20)
        for round in (1, 2, 20):
            expected = point * (1 - (1 - pull[kind]) ** round)
            assert scalar(finished.state(round).params) == pytest.approx(expected, abs=1e-12)
    if lr == 0.001:
        assert fixed[FedNova] == pytest.approx(-9 / 13, abs=0.01)
        assert fixed[FedAvg] == pytest.approx(-33 / 37, abs=0.01)


def test_the_lengths_are_of_the_silos_that_delivered(tmp_path: Path) -> None:
    """In round 2 silo b, with its targets of −2, is away: then length = length_a and the step is a's own, as FedAvg's.

    h = (1, 4), b = (3, −1), lr = 0.1, τ = (1, 3): γ_a = 0.1, γ_b = 1 − 0.6³ = 0.784; length = (2·1 + 6·3)/8 = 2.5.
    """
    federation = silos(tmp_path / "silos", a=[[1.0, 3.0]] * A, b=[[2.0, -2.0]] * B)
    task = flaky(tmp_path, target=-2.0, failing={4})
    finished = run(task, FedNova(lr=0.1, batch_size=2), federation, 3, min_silos=1)
    assert finished.failures["round"].tolist() == [2]

    def both(w: float) -> float:
        return w + 2.5 * (2 * 0.1 * (3 - w) + 6 * 0.784 / 3 * (-1 - w)) / 8

    first = both(0.0)
    second = first + 0.1 * (3 - first)
    expected = [0.0, first, second, both(second)]
    found = [scalar(finished.state(round).params) for round in range(4)]
    assert found == pytest.approx(expected, abs=1e-13)


def test_buffers_are_averaged_by_rows(tmp_path: Path) -> None:
    """One step on all rows and three on batches leave other statistics; they count n_k, as in FedAvg."""
    federation = silos(tmp_path, a=random_rows(4, 4, 1), b=random_rows(12, 4, 2))
    nova, plain = (run(BATCHNORM, kind(lr=0.05, batch_size=4), federation, 1).state(1) for kind in (FedNova, FedAvg))
    buffers = [name for name in plain.params if "running" in name or "num_batches" in name]
    assert len(buffers) == 3
    assert all(torch.equal(nova.params[name], plain.params[name]) for name in buffers)
    assert not torch.equal(nova.params["1.weight"], plain.params["1.weight"])


def lasting(length: float, delta: float, dtype: torch.dtype = torch.float64) -> Update:
    """An update that rests on steps of that length."""
    extra = {"steps": {"length": torch.tensor(length, dtype=torch.float64)}}
    return Update(delta={"w": torch.tensor(delta, dtype=dtype)}, weight=1.0, extra=extra, silo="birch")


def test_narrow_deltas_are_normalised_in_float32() -> None:
    """A third of 2⁻²⁴, the smallest number of float16, would be 0 there."""
    _, update = normalised([lasting(1, 0.0, torch.float16), lasting(3, 2.0**-24, torch.float16)])
    assert scalar(update.delta) == pytest.approx(2.0**-24 / 3)


def step_from_0(updates: list[Update]) -> torch.Tensor:
    """Where the orchestrator goes from w = 0."""
    ctx: Any = SimpleNamespace(combine=lambda arriving: Mean()(arriving, ctx))
    state = State(round=0, params={"w": torch.zeros((), dtype=torch.float64)})
    return FedNova().aggregate(state, updates, ctx).params["w"]


silos_heard = st.lists(
    st.tuples(st.floats(-10, 10), st.integers(1, 10_000), st.floats(1e-3, 1e6)), min_size=1, max_size=8
)


@given(silos_heard)
def test_the_step_is_the_papers_for_any_silos(heard: list[tuple[float, int, float]]) -> None:
    """Σ p_k·length_k · Σ p_k·delta_k/length_k, whichever silo is heard first."""
    updates = [replace(lasting(length, delta), weight=float(rows)) for delta, rows, length in heard]
    total = math.fsum(rows for _, rows, _ in heard)
    mean_length = math.fsum(rows * length for _, rows, length in heard) / total
    terms = [rows * delta / length * mean_length / total for delta, rows, length in heard]
    scale = math.fsum(map(abs, terms))
    assert float(step_from_0(updates)) == pytest.approx(math.fsum(terms), rel=0, abs=1e-12 * scale + 1e-300)


@given(silos_heard, st.floats(1e-3, 1e6))
def test_equal_lengths_change_no_bit(heard: list[tuple[float, int, float]], length: float) -> None:
    updates = [replace(lasting(length, delta), weight=float(rows)) for delta, rows, _ in heard]
    assert torch.equal(step_from_0(updates), Mean()(updates, None).delta["w"])  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan")])
def test_an_update_without_steps_is_refused(length: float) -> None:
    with pytest.raises(MessageError, match=r"birch rests on steps of length"):
        list(normalised([lasting(length, 1.0)]))


def test_nothing_may_hide_single_updates(tmp_path: Path) -> None:
    """They are scaled before they are added up, which a secure sum would not survive."""

    @dataclass(frozen=True, kw_only=True)
    class Masked:
        hides_individuals: ClassVar[bool] = True

    with pytest.raises(IncompatibleError, match=r"FedNova changes single updates .* Masked hides them"):
        job(LINEAR, FedNova(), 1, transforms=(Masked(),))


@pytest.mark.parametrize(
    "settings", [{"momentum": 0.5, "mu": 0.1}, {"mu": 20.0}, {"mu": -0.1}], ids=["both", "large mu", "negative mu"]
)
def test_what_the_paper_does_not_normalise_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(IncompatibleError, match=r"FedNova\(.*mu="):
        FedNova(lr=0.1, **settings)
