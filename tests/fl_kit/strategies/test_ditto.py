"""Ditto by hand, on F_k(w) = (w − y_k)²/2 with y = 0 and 2 and one full step of lr ½ a round.

Global: w = 0, ½, ¾ … Personal: v ← v − ½·((v − y) + lam·(v − w)).
"""

from pathlib import Path

import pytest

from fl_kit import Ditto, FedAvg, Federation
from fl_kit.errors import IncompatibleError
from tests.tasks import BATCHNORM, DROPOUT, LINEAR, QUADRATIC, digests, random_rows, run, silos


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", ash=[[1, 0]], birch=[[1, 2]])


def own(finished: object, silo: str) -> float:
    return float(finished.memories()[silo].tensors["own"]["w"])  # type: ignore[attr-defined]


def by_hand(y: float, lam: float, rounds: int) -> float:
    w, v = 0.0, 0.0
    for _ in range(rounds):
        v = v - 0.5 * ((v - y) + lam * (v - w))
        w = w + 0.5 * (1 - w)
    return v


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_the_personal_models_by_hand(federation: Federation, lam: float, rounds: int) -> None:
    finished = run(QUADRATIC, Ditto(lr=0.5, batch_size=1, lam=lam), federation, rounds)
    assert own(finished, "ash") == pytest.approx(by_hand(0, lam, rounds), abs=1e-15)
    assert own(finished, "birch") == pytest.approx(by_hand(2, lam, rounds), abs=1e-15)


@pytest.mark.parametrize("lam", [0.0, 0.5, 3.0])
def test_where_a_personal_model_comes_to_rest(federation: Federation, lam: float) -> None:
    """At ∇F_k(v) + lam·(v − w) = 0: v = (y + lam·w)/(1 + lam), with w at 1."""
    finished = run(QUADRATIC, Ditto(lr=0.25, batch_size=1, lam=lam), federation, 120)
    for silo, y in (("ash", 0.0), ("birch", 2.0)):
        assert own(finished, silo) == pytest.approx((y + lam) / (1 + lam), abs=1e-9)


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM, DROPOUT], ids=lambda path: path.stem)
def test_the_global_model_is_fedavgs_to_the_bit(task: Path, tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", ash=random_rows(10, 4, 1), birch=random_rows(6, 4, 2))
    settings = {"lr": 0.05, "batch_size": 4, "epochs": 2}
    assert digests(run(task, Ditto(**settings), federation, 3)) == digests(run(task, FedAvg(**settings), federation, 3))


def test_both_models_are_measured(federation: Federation) -> None:
    """After one round w = ½: losses 1/8 and 9/8, pooled .625. Personal, lam 0: v = 0 and 1: losses 0 and ½."""
    finished = run(QUADRATIC, Ditto(lr=0.5, batch_size=1, lam=0), federation, 1)
    frame = finished.history()
    last = frame[frame["round"] == 1].set_index(["party", "metric"]).value
    assert last["global", "loss"] == pytest.approx(0.625)
    assert last["birch", "personal_loss"] == pytest.approx(0.5)
    assert last["global", "personal_loss"] == pytest.approx(0.25)
    start = frame[frame["round"] == 0].set_index(["party", "metric"]).value
    assert start["global", "personal_loss"] == start["global", "loss"] == 1.0


def test_metrics_of_the_task_come_twice_with_their_own_formula(tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", ash=random_rows(9, 4, 1))
    frame = run(LINEAR, Ditto(lr=0.05), federation, 1).history()
    name = "mean_squared_error"
    found = frame[frame["round"] == 0].set_index(["party", "metric"]).value
    names = {metric for _, metric in found.index}
    assert {n for n in names if n.startswith("personal_")} == {
        f"personal_{n}" for n in names - {"train_loss", "update_norm"} if not n.startswith("personal_")
    }
    assert name not in names or found["global", f"personal_{name}"] == found["global", name]


def test_settings_of_its_own(federation: Federation) -> None:
    """personal_lr 1 and lam 0: one step lands on y. Two epochs of lr ½: 2·(1 − ¼) = 1.5."""
    finished = run(QUADRATIC, Ditto(lr=0.5, batch_size=1, lam=0, personal_lr=1.0), federation, 1)
    assert own(finished, "birch") == 2.0
    finished = run(QUADRATIC, Ditto(lr=0.5, batch_size=1, lam=0, personal_epochs=2), federation, 1)
    assert own(finished, "birch") == 1.5
    assert float(finished.state().params["w"]) == 0.5  # the global model still took one


@pytest.mark.parametrize(
    "wrong",
    [
        {"lam": -1},
        {"personal_lr": -0.1},
        {"personal_epochs": 0},
        {"personal_lr": True},
        {"personal_lr": float("nan")},
        {"personal_epochs": 1.5},
    ],
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(IncompatibleError, match=next(iter(wrong))):
        Ditto(**wrong)  # type: ignore[arg-type]
