"""Silos trained as one tensor program, beside each alone: the same up to rounding, whatever their sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fl_kit import Ditto, FedAvg, FedDyn, FedProx, FedSGD, Moon, Scaffold
from fl_kit.events import ENGINE
from fl_kit.silo import Federation
from sim.engines.stacked import engine
from sim.in_process import InProcess
from tests.sim.engines.beside_exact import both, off, said
from tests.tasks import LINEAR, QUADRATIC, SMOOTH, digests, job, silos

SETTINGS = {
    "plain": FedAvg(lr=0.05, batch_size=4, epochs=2),
    "in order": FedAvg(lr=0.05, batch_size=4, epochs=2, shuffle=False),
    "steps": FedAvg(lr=0.05, batch_size=4, steps=7),
    "fewer steps than an epoch": FedAvg(lr=0.05, batch_size=4, steps=2),
    "a schedule": FedAvg(lr=(0.1, 0.02), batch_size=4),
    "momentum": FedAvg(lr=0.05, batch_size=4, epochs=3, momentum=0.9),
    "weight decay": FedAvg(lr=0.05, batch_size=4, epochs=3, weight_decay=0.3),
    "momentum and weight decay": FedAvg(lr=0.05, batch_size=4, epochs=3, momentum=0.9, weight_decay=0.3),
    "AdamW": FedAvg(lr=0.01, batch_size=4, epochs=3, optimizer="AdamW", optimizer_settings={"weight_decay": 0.3}),
    "Adam": FedAvg(lr=0.01, batch_size=4, epochs=3, optimizer="Adam", optimizer_settings={"amsgrad": True}),
    "Nesterov": FedAvg(lr=0.02, batch_size=4, optimizer_settings={"momentum": 0.9, "nesterov": True}),
    "FedProx": FedProx(lr=0.05, batch_size=4, epochs=3, mu=1.0),
    "Scaffold": Scaffold(lr=0.05, batch_size=4, epochs=3),
    "FedDyn": FedDyn(lr=0.05, batch_size=4, epochs=3, alpha=0.5, momentum=0.5),
    "Ditto": Ditto(lr=0.05, batch_size=4, epochs=2, lam=0.5, personal_epochs=3),
    "FedSGD": FedSGD(lr=0.1),
}


@pytest.mark.parametrize("strategy", SETTINGS.values(), ids=SETTINGS)
def test_ragged_silos_train_as_each_alone(strategy: Any, federation: Federation, together: list[int]) -> None:
    """In float64, where rounding is 1e-16: a row too many, or a silo that moves after its last step, is far above.

    A schedule of steps, the state of each optimiser and each correction would show in the second round at the latest.
    """
    stacked, exact = both(LINEAR, strategy, federation)
    assert off(stacked, exact) < 1e-12
    assert together == [5] * len(together)
    assert len(together) == (4 if isinstance(strategy, Ditto) else 2)
    ours, theirs = (run.history().value for run in (stacked, exact))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    for silo, memory in exact.memories().items():
        for group, tensors in memory.tensors.items():
            for name, value in tensors.items():
                torch.testing.assert_close(stacked.memories()[silo].tensors[group][name], value, rtol=1e-9, atol=1e-12)


def test_a_silo_without_steps_left_does_not_move(tmp_path: Path, together: list[int]) -> None:
    """Weight decay 1 and momentum 0.9 would go on by themselves: one row takes 1 step, its neighbour 6.

    w starts at 0 with x = 1, y = 2: one step of lr 0.1 gives w = 0.2 and v = −2. Were the silo to go on with a
    gradient of 0 and its velocity alone, w would become 0.2 + 0.1·1.8 = 0.38.
    """
    federation = silos(tmp_path / "silos", one=[[1.0, 2.0]], six=[[1.0, 2.0]] * 6)
    strategy = FedAvg(lr=0.1, batch_size=1, momentum=0.9, weight_decay=1.0, shuffle=False)
    place = InProcess(folder=tmp_path / "runs", engine="stacked", keep_updates=True)
    run = place.start(job(QUADRATIC, strategy, 1), federation).wait()
    assert together == [2]
    deltas = {update.silo: float(update.delta["w"]) for update in run.updates(1)}
    assert deltas["one"] == pytest.approx(0.2, abs=1e-15)
    w, velocity = 0.0, 0.0
    for _ in range(6):
        velocity = 0.9 * velocity + (w - 2.0) + 1.0 * w
        w -= 0.1 * velocity
    assert deltas["six"] == pytest.approx(w, abs=1e-15)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_any_size_of_chunks_gives_close_results(
    most: int, federation: Federation, together: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST", most)
    stacked, exact = both(SMOOTH, FedProx(lr=0.05, batch_size=4, mu=0.1), federation)
    assert together[: -(-5 // most)] == [most] * (5 // most) + ([5 % most] if 5 % most else [])
    assert off(stacked, exact) < 1e-6


def test_the_budget_says_how_many_silos_make_a_chunk(
    federation: Federation, together: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUDGET", 2**13)
    both(SMOOTH, FedAvg(lr=0.05, batch_size=4), federation, rounds=1)
    (first, *_), total = together, sum(together)
    assert first in (2, 4)
    assert total == 5


def test_a_model_beyond_the_budget_is_computed_exactly(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUDGET", 500)
    stacked, exact = both(SMOOTH, FedAvg(lr=0.05, batch_size=4), federation)
    assert digests(stacked) == digests(exact)
    assert "two silos take" in said(stacked)
    assert "its budget is" in said(stacked)


def test_silos_that_are_drawn_train_together(federation: Federation, together: list[int]) -> None:
    stacked, exact = both(LINEAR, Scaffold(lr=0.05, batch_size=4), federation, rounds=4, per_round=3)
    assert together == [3] * 4
    assert off(stacked, exact) < 1e-12


def test_run_again_it_gives_its_own_bits(federation: Federation) -> None:
    strategy = FedAvg(lr=0.05, batch_size=4, momentum=0.5)
    first, again = (both(SMOOTH, strategy, federation)[0] for _ in range(2))
    assert digests(first) == digests(again)


@pytest.mark.parametrize(
    "strategy", [Scaffold(lr=0.05, batch_size=4), FedAvg(lr=0.05, batch_size=4)], ids=["Scaffold", "FedAvg"]
)
def test_resumed_it_goes_on_with_its_own_bits(strategy: Any, federation: Federation, tmp_path: Path) -> None:
    """On the engine that it was begun with, whatever the backend that resumes it says."""
    asked = job(SMOOTH, strategy, 4)
    whole = InProcess(folder=tmp_path / "runs", engine="stacked").start(asked, federation).wait()
    place = InProcess(folder=tmp_path / "runs", engine="exact")
    again = place.undo(whole.id, 2)
    assert said(again).startswith("stacked: ")
    again.resume()
    assert digests(again.wait())[2:] == digests(whole)[2:]


def test_a_change_to_what_it_cannot_honour_is_said(federation: Federation, together: list[int]) -> None:
    place = InProcess(folder=None, keep="all", engine="stacked")
    run = place.start(job(SMOOTH, Moon(mu=0.0, lr=0.05, batch_size=4), 3), federation, paused=True)
    run.step().step(mu=1.0)
    assert together == [5]
    assert "Moon adds a term of its own to the loss" in said(run)
    assert [event.name for event in run.events()].count(ENGINE) == 2
    run.stop()
