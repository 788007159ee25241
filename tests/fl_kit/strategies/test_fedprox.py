"""FedProx: the penalty in closed form, and FedAvg to the bit without it."""

from pathlib import Path
from typing import Any

import pytest

from fl_kit.errors import IncompatibleError
from fl_kit.strategies import FedAvg, FedProx
from tests.tasks import BATCHNORM, DROPOUT, LINEAR, QUADRATIC, digests, random_rows, run, scalar, silos, write_task


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM, DROPOUT], ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "settings", [{}, {"momentum": 0.9, "weight_decay": 0.01}, {"steps": 3, "server_lr": 0.5, "shuffle": False}]
)
def test_mu_zero_is_fedavg_to_the_bit(tmp_path: Path, task: Path, settings: dict[str, Any]) -> None:
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2))
    common = {"lr": 0.05, "batch_size": 4, "epochs": 2, **settings}
    fedprox = run(task, FedProx(mu=0.0, **common), federation, 3, seed=5)
    fedavg = run(task, FedAvg(**common), federation, 3, seed=5)
    assert digests(fedprox) == digests(fedavg)
    assert len(set(digests(fedavg))) == 4


def test_mu_zero_is_fedavg_where_a_parameter_takes_no_part(tmp_path: Path) -> None:
    source = LINEAR.read_text(encoding="utf-8") + (
        "\nclass Wide(nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(WIDTH, 1, dtype=torch.float64)\n"
        "        self.unused = nn.Parameter(torch.ones(2))\n\n"
        "def model():\n    return Wide()\n"
    )
    federation = silos(tmp_path, a=random_rows(7, 4, 1), b=random_rows(20, 4, 2))
    common = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.5}
    task = write_task(tmp_path, source)
    fedprox = run(task, FedProx(mu=0.0, **common), federation, 2)
    assert digests(fedprox) == digests(run(task, FedAvg(**common), federation, 2))
    assert fedprox.state().params["unused"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("mu", [0.01, 0.5, 3.0])
def test_the_closed_form_on_quadratics(tmp_path: Path, mu: float) -> None:
    """F_k = h/2·(w − b)², so each step is w ← w − η·(h·(w − b) + μ·(w − s)) from s, the round's start.

    With H = h + μ that is w ← w − η·H·(w − v), v = (h·b + μ·s)/H, so after K steps

        w_K − s = (1 − (1 − η·H)^K)·(v − s) = γ·(b − s),      γ = (1 − (1 − η·H)^K)·h/H

    and over rounds  s_r = s* + (1 − Σ p·γ)^r·(s_0 − s*),  s* = Σ p·γ·b / Σ p·γ  with s_0 = 0.
    Here h = (1, 4), b = (3, −1), p = (2/5, 3/5), K = 7, η = 0.05.
    """
    federation = silos(tmp_path, a=[[1.0, 3.0]] * 2, b=[[2.0, -2.0]] * 3)
    finished = run(QUADRATIC, FedProx(mu=mu, lr=0.05, steps=7, batch_size=3), federation, 10)
    weighted = [(p * (1 - (1 - 0.05 * (h + mu)) ** 7) * h / (h + mu), b) for p, h, b in ((0.4, 1, 3), (0.6, 4, -1))]
    pull = sum(gamma for gamma, _ in weighted)
    fixed = sum(gamma * b for gamma, b in weighted) / pull
    for round in range(11):
        assert scalar(finished.state(round).params) == pytest.approx(fixed * (1 - (1 - pull) ** round), abs=1e-12)


def test_a_strong_penalty_holds_the_model_near_the_global_one(tmp_path: Path) -> None:
    """As K·η·H grows, w_K − s → h/(h + μ)·(b − s): with h = 1, b = 1, s = 0, μ = 9 that is 0.1, without μ it is 1."""
    federation = silos(tmp_path, a=[[1.0, 1.0]])
    held = run(QUADRATIC, FedProx(mu=9.0, lr=0.05, steps=400), federation, 1)
    free = run(QUADRATIC, FedProx(mu=0.0, lr=0.05, steps=800), federation, 1)
    assert scalar(held.state(1).params) == pytest.approx(0.1, abs=1e-12)
    assert scalar(free.state(1).params) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("mu", [-0.1, float("nan"), float("inf")])
def test_a_penalty_that_rewards_drift_is_refused(mu: float) -> None:
    with pytest.raises(IncompatibleError, match=rf"FedProx\(mu={mu}\)"):
        FedProx(mu=mu)
