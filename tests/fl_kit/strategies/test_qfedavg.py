"""QFedAvg against Algorithm 2 of the paper: a round by hand, its fixed point in closed form, and FedAvg at q = 0."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fl_kit.aggregators import Mean
from fl_kit.errors import IncompatibleError, StepFailed
from fl_kit.strategies import FedAvg, QFedAvg
from sim.in_process import InProcess
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


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM, DROPOUT], ids=lambda path: path.stem)
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9, "server_lr": 0.5, "server_momentum": 0.5}])
def test_q_zero_is_fedavg_to_the_bit(tmp_path: Path, task: Path, settings: dict[str, Any]) -> None:
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2), c=random_rows(48, 4, 3))
    common = {"lr": 0.05, "batch_size": 4, "epochs": 2, **settings}
    fair, plain = run(task, QFedAvg(q=0, **common), federation, 3), run(task, FedAvg(**common), federation, 3)
    assert digests(fair) == digests(plain)
    assert len(set(digests(plain))) == 4


@pytest.mark.parametrize(
    ("q", "weighted", "expected"),
    [
        (1, True, (3 * 2 * 1 + 8 * 2) / (3 * 4 + 16)),
        (1, False, (2 * 1 + 8 * 2) / (4 + 16)),
        (2, True, (3 * 4 * 1 + 64 * 2) / (3 * 12 + 192)),
    ],
    ids=["q=1", "q=1, every silo alike", "q=2"],
)
def test_a_round_by_hand(tmp_path: Path, q: float, weighted: bool, expected: float) -> None:
    """F = (w − b)²/2, b = (2, 4), n = (3, 1), lr = 1/2, one step from w = 0: F = (2, 8) and w_k − w = (1, 2).

    q = 1   delta = F·(w_k − w)      bound = F + ‖w_k − w‖²/lr = (2 + 2, 8 + 8)
    q = 2   delta = F²·(w_k − w)     bound = F² + 2·F·‖w_k − w‖²/lr = (4 + 8, 64 + 128)
    """
    federation = silos(tmp_path, a=[[1.0, 2.0]] * 3, b=[[1.0, 4.0]])
    finished = run(QUADRATIC, QFedAvg(lr=0.5, q=q), federation, 1, aggregator=Mean(weighted=weighted))
    assert scalar(finished.state().params) == pytest.approx(expected, abs=1e-14)


def test_a_second_round_with_a_silo_away(tmp_path: Path) -> None:
    """As above with q = 1; in round 2 silo b is away and a's own step counts: (F·d) / (F + d²/lr), d = lr·(2 − w)."""
    federation = silos(tmp_path / "silos", a=[[1.0, 2.0]] * 3, b=[[1.0, 4.0]])
    task = flaky(tmp_path, target=4.0, failing={2})
    finished = run(task, QFedAvg(lr=0.5, q=1), federation, 2, min_silos=1)
    assert finished.failures["round"].tolist() == [2]
    w = 22 / 28
    loss, d = (w - 2) ** 2 / 2, (2 - w) / 2
    assert scalar(finished.state(1).params) == pytest.approx(w, abs=1e-14)
    assert scalar(finished.state(2).params) == pytest.approx(w + loss * d / (loss + 2 * d * d), abs=1e-14)


@pytest.mark.parametrize("q", [0, 0.5, 1, 5])
def test_the_worst_served_silo_is_served_better_as_q_grows(tmp_path: Path, q: float) -> None:
    """F = (w − b)²/2 with b = (0, 8), p = (3/4, 1/4), one step a round. The minimum of Σ p·F^(q+1) is where
    Σ p·F^q·(w − b) = 0, that is p_a·w^(2q+1) = p_b·(8 − w)^(2q+1), so

        w* = 8 / (1 + 3^(1/(2q+1)))       2 at q = 0, and towards the middle, 4, as q → ∞
    """
    federation = silos(tmp_path, a=[[1.0, 0.0]] * 3, b=[[1.0, 8.0]])
    finished = run(QUADRATIC, QFedAvg(lr=0.5, q=q), federation, 120)
    fixed = 8 / (1 + 3 ** (1 / (2 * q + 1)))
    assert scalar(finished.state().params) == pytest.approx(fixed, abs=1e-9)
    assert (8 - fixed) ** 2 <= (8 - 2) ** 2
    history = finished.history()
    worst = history[(history.metric == "loss") & (history["round"] == 120) & (history.party == "b")].value.item()
    assert worst == pytest.approx((8 - fixed) ** 2 / 2, abs=1e-7)


def test_the_loss_is_of_the_training_rows_on_arrival(tmp_path: Path) -> None:
    """Train rows give F = 2 at w = 0, test rows 8; dropout or batches have no part in it."""
    federation = silos(tmp_path, a={"train": [[1.0, 2.0]], "test": [[1.0, 4.0]]}, b=[[1.0, 4.0]])
    finished = run(QUADRATIC, QFedAvg(lr=0.5, q=1), federation, 1)
    assert scalar(finished.state().params) == pytest.approx((2 * 1 + 8 * 2) / (4 + 16), abs=1e-14)


COUNTED = """
from tests.tasks.quadratic import Weight, data, model  # noqa: F401
import torch

PASSES = {"train": 0, "measured": 0}

def loss(outputs, targets):
    PASSES["train" if torch.is_grad_enabled() else "measured"] += 1
    return ((outputs - targets) ** 2).mean() / 2
"""


@pytest.mark.parametrize(("q", "extra"), [(0, 0), (1, 1)])
def test_the_extra_pass_is_made_only_where_it_counts(tmp_path: Path, q: float, extra: int) -> None:
    """A silo with one batch: each round one step, one measurement of test rows on arrival, one at the end."""
    asked = job(write_task(tmp_path, COUNTED), QFedAvg(lr=0.5, q=q), 3)
    passes = asked.task.module.PASSES
    passes.update(train=0, measured=0)
    InProcess(folder=None).start(asked, silos(tmp_path / "silos", a=[[1.0, 2.0]])).wait()
    assert passes == {"train": 3, "measured": 3 + 1 + 3 * extra}


def test_buffers_are_averaged_by_rows(tmp_path: Path) -> None:
    federation = silos(tmp_path, a=random_rows(4, 4, 1), b=random_rows(12, 4, 2))
    fair, plain = (run(BATCHNORM, kind(lr=0.05), federation, 1).state(1) for kind in (QFedAvg, FedAvg))
    buffers = [name for name in plain.params if "running" in name or "num_batches" in name]
    assert len(buffers) == 3
    assert all(torch.equal(fair.params[name], plain.params[name]) for name in buffers)
    assert not torch.equal(fair.params["1.weight"], plain.params["1.weight"])


def test_in_float16_what_is_sent_is_the_models_kind(tmp_path: Path) -> None:
    """As in the round by hand with q = 1: every number there is one of float16, but the last."""
    source = QUADRATIC.read_text(encoding="utf-8").replace("dtype=torch.float64", "dtype=torch.half")
    task = write_task(tmp_path, source.replace("return x, y", "return x.half(), y.half()"))
    federation = silos(tmp_path / "silos", a=[[1.0, 2.0]] * 3, b=[[1.0, 4.0]])
    finished = run(task, QFedAvg(lr=0.5, q=1), federation, 1)
    assert finished.state().params["w"].dtype == torch.float16
    assert scalar(finished.state().params) == float(torch.tensor(22 / 28, dtype=torch.half))


@pytest.mark.parametrize("q", [0.5, 1, 2])
def test_a_silo_that_is_served_perfectly_does_not_break_it(tmp_path: Path, q: float) -> None:
    """F_a = 0 at w = 0: it asks for nothing and b's step counts, divided by b's bound (a's is next to nothing).

    b: F = 2, d = 1, n = (1, 1): F^q·d / (F^q + q·F^(q−1)·2).
    """
    federation = silos(tmp_path, a=[[1.0, 0.0]], b=[[1.0, 2.0]])
    finished = run(QUADRATIC, QFedAvg(lr=0.5, q=q), federation, 1)
    expected = 2**q / (2**q + q * 2 ** (q - 1) * 2)
    assert scalar(finished.state().params) == pytest.approx(expected, abs=1e-4)


def test_a_negative_loss_is_refused(tmp_path: Path) -> None:
    source = QUADRATIC.read_text(encoding="utf-8").replace(".mean() / 2", ".mean() / 2 - 5")
    with pytest.raises(StepFailed, match=r"a.*the loss is -3 before training.*power q=1.*never negative"):
        run(write_task(tmp_path, source), QFedAvg(lr=0.5), silos(tmp_path / "silos", a=[[1.0, 2.0]]), 1)


def test_a_loss_beyond_its_power_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"2e\+100 to the power q=8 is no number.*smaller q"):
        run(QUADRATIC, QFedAvg(lr=0.5, q=8), silos(tmp_path / "silos", a=[[1.0, 2e50]]), 1)


@pytest.mark.parametrize(("setting", "value"), [("q", -1), ("q", float("nan"))])
def test_a_q_out_of_its_range_is_named(setting: str, value: float) -> None:
    with pytest.raises(IncompatibleError, match=rf"QFedAvg\({setting}={value}\)"):
        QFedAvg(**{setting: value})


def test_without_lr_there_is_no_bound() -> None:
    with pytest.raises(IncompatibleError, match="divides by lr"):
        QFedAvg(lr=0)
