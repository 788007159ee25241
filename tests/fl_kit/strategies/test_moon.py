"""MOON: the contrastive term by hand, its gradient by autograd, and when it is left out."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from fl_kit import FedAvg, Federation, Moon
from fl_kit.errors import IncompatibleError, StepFailed
from fl_kit.strategies.moon import Features, contrast
from tests.tasks import BATCHNORM, DROPOUT, digests, job, random_rows, run, silos, write_task

NET = """
from pathlib import Path
import numpy as np
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()

def data(folder, split):
    rows = torch.from_numpy(np.load(Path(folder) / f"{split}.npy", allow_pickle=False))
    return rows[:, :3], rows[:, 3:]

loss = nn.MSELoss()
"""
ROWS = random_rows(8, 4, 5)
MU, TEMPERATURE, LR = 2.0, 0.5, 0.1


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return write_task(tmp_path, NET, "net")


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", ash=ROWS, birch=random_rows(5, 4, 6))


def row(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize(
    ("z", "z_w", "z_k", "expected"),
    [
        (row(1, 0), row(0, 1), row(1, 0), math.log(1 + math.exp(1 / 0.5))),  # as near as can be to the earlier model
        (row(1, 0), row(3, 0), row(0, 2), math.log(1 + math.exp(-1 / 0.5))),  # lengths do not count
        (row(1, 1), row(1, 0), row(0, 1), math.log(2)),  # the same cosine to both
    ],
)
def test_the_contrast_by_hand(z: torch.Tensor, z_w: torch.Tensor, z_k: torch.Tensor, expected: float) -> None:
    """−log(e^{c_w/τ} / (e^{c_w/τ} + e^{c_k/τ})) = log(1 + e^{(c_k − c_w)/τ})."""
    assert float(contrast(z, z_w, z_k, 0.5)) == pytest.approx(expected, rel=1e-12)


def test_the_contrast_is_the_mean_over_rows() -> None:
    pairs = [(row(1, 0), row(0, 1), row(1, 0)), (row(1, 0), row(3, 0), row(0, 2))]
    together = contrast(*(torch.cat(parts) for parts in zip(*pairs, strict=True)), 0.5)  # type: ignore[call-arg]
    assert float(together) == pytest.approx(sum(float(contrast(*pair, 0.5)) for pair in pairs) / 2)


def test_the_second_round_by_autograd(net: Path, tmp_path: Path) -> None:
    """One silo, one full step a round. Round 1 is FedAvg's; in round 2 the earlier model is the one sent in round 1."""
    one = silos(tmp_path / "one", ash=ROWS)
    finished = run(net, Moon(lr=LR, batch_size=8, mu=MU, temperature=TEMPERATURE), one, 2)
    inputs, targets = torch.from_numpy(ROWS[:, :3]), torch.from_numpy(ROWS[:, 3:])
    module: nn.Sequential = job(net, FedAvg(), 1).fresh_model()  # type: ignore[assignment]
    params = {name: value.clone().requires_grad_() for name, value in finished.state(1).params.items()}

    def features(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh(F.linear(inputs, values["0.weight"], values["0.bias"]))

    arrived = finished.state(1).params  # the earlier model and the global one are the same at a silo that is alone
    z, z_w = features(params), features(arrived)
    nearer = (F.cosine_similarity(z, z_w) - F.cosine_similarity(z, z_w)) / TEMPERATURE
    value = F.mse_loss(functional_call(module, params, inputs), targets) + MU * torch.log1p(torch.exp(-nearer)).mean()
    grads = torch.autograd.grad(value, list(params.values()))
    for (name, before), grad in zip(params.items(), grads, strict=True):
        torch.testing.assert_close(finished.state(2).params[name], (before - LR * grad).detach(), rtol=1e-9, atol=1e-12)


def test_the_term_pulls_where_its_gradient_points(net: Path, federation: Federation) -> None:
    """Ash in round 2, with its earlier model apart from the global one; the step by autograd, from the states kept."""
    strategy = Moon(lr=LR, batch_size=8, mu=MU, temperature=TEMPERATURE)
    finished = run(net, strategy, federation, 2)
    start = finished.state(0).params
    inputs, targets = torch.from_numpy(ROWS[:, :3]), torch.from_numpy(ROWS[:, 3:])
    module: nn.Sequential = job(net, FedAvg(), 1).fresh_model()  # type: ignore[assignment]

    def step(params: dict[str, torch.Tensor], more: object = None) -> dict[str, torch.Tensor]:
        own = {name: value.clone().requires_grad_() for name, value in params.items()}
        value = F.mse_loss(functional_call(module, own, inputs), targets)
        if more is not None:
            value = value + more(own)  # type: ignore[operator]
        grads = torch.autograd.grad(value, list(own.values()))
        return {name: (own[name] - LR * g).detach() for name, g in zip(own, grads, strict=True)}

    def features(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh(F.linear(inputs, values["0.weight"], values["0.bias"]))

    earlier = step(start)
    arrived = finished.state(1).params
    expected = step(
        arrived, lambda own: MU * contrast(features(own), features(arrived), features(earlier), TEMPERATURE)
    )
    kept = finished.memories(2)["ash"].tensors["earlier"]
    for name, value in expected.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-9, atol=1e-12)
    plain = step(arrived)
    assert any(not torch.allclose(kept[name], plain[name], rtol=1e-6) for name in plain)


@pytest.mark.parametrize("task", [BATCHNORM, DROPOUT], ids=lambda path: path.stem)
def test_without_weight_it_is_fedavg_to_the_bit(task: Path, tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", ash=random_rows(10, 4, 1), birch=random_rows(6, 4, 2))
    plain = digests(run(task, FedAvg(lr=0.05, batch_size=4), federation, 3))
    assert digests(run(task, Moon(lr=0.05, batch_size=4, mu=0), federation, 3)) == plain
    moved = digests(run(task, Moon(lr=0.05, batch_size=4, mu=5), federation, 3))
    assert moved[:2] == plain[:2]  # in the first round there is no earlier model


def test_the_training_loss_is_told_without_the_term(net: Path, federation: Federation) -> None:
    """With lr 0 nothing moves, so the training loss is the task's own in every round."""
    frame = run(net, Moon(lr=0.0, mu=5), federation, 2).history()
    for _, losses in frame[frame.metric == "train_loss"].groupby("party"):
        first, second = losses.sort_values("round").value
        assert second == pytest.approx(first, rel=1e-12)  # the rows are added up in another order


def test_no_hook_is_left_behind(net: Path, federation: Federation) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    features = Features(module, "")
    module(torch.ones(1, 3))
    assert features.last().shape == (1, 2)
    features.close()
    assert not module[1]._forward_pre_hooks


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(net: Path) -> None:
    with pytest.raises(IncompatibleError, match=r"Moon\(layer='fc'\): the model has no such layer; it has 0, 1, 2"):
        job(net, Moon(layer="fc"), 1)
    job(net, Moon(layer="1"), 1)


IDLE = """
class Idle(nn.Sequential):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.spare = nn.Linear(1, 1)

    def forward(self, rows):
        return self[2](self[1](self[0](rows)))
"""


def test_a_layer_that_is_never_called(tmp_path: Path) -> None:
    source = NET.replace("nn.Sequential(nn.Linear(3, 2)", "Idle(nn.Linear(3, 2)") + IDLE
    one = silos(tmp_path / "silos", ash=ROWS)
    with pytest.raises(StepFailed, match=r"ash, round 2.*input of layer 'spare', which had none"):
        run(write_task(tmp_path, source, "idle"), Moon(lr=0.1), one, 2)


@pytest.mark.parametrize("wrong", [{"mu": -1}, {"temperature": 0}, {"temperature": -1}])
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(IncompatibleError, match=next(iter(wrong))):
        Moon(**wrong)  # type: ignore[arg-type]
