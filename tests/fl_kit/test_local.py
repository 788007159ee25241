"""The local loop: torch's own SGD to the bit, a task's own fit, and what evaluation measures."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fl_kit.errors import StepFailed
from fl_kit.local import descend, measuring
from fl_kit.optimizers import SGD
from fl_kit.randomness import seeded
from fl_kit.strategies import FedAvg
from fl_kit.tensors import digest
from tests.tasks import (
    BATCHNORM,
    LINEAR,
    QUADRATIC,
    digests,
    every_parameter,
    random_rows,
    run,
    scalar,
    silos,
    write_task,
)

# SGD


class Branching(nn.Module):
    """Uses `sometimes` only if asked to, and `never` not at all."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        with seeded(1, "branching"):
            self.always = nn.Linear(4, 3, dtype=dtype)
            self.sometimes = nn.Linear(3, 3, dtype=dtype)
            self.never = nn.Linear(3, 3, dtype=dtype)
            self.last = nn.Linear(3, 1, dtype=dtype)

    def forward(self, x: Tensor, whole: bool) -> Tensor:
        hidden = self.always(x)
        return self.last(self.sometimes(hidden) if whole else hidden)  # type: ignore[no-any-return]


def batches(dtype: torch.dtype) -> Iterator[tuple[Tensor, bool]]:
    rows = torch.from_numpy(random_rows(12 * 5, 4, 3)).to(dtype)
    yield from ((part, step in (2, 3, 6, 9)) for step, part in enumerate(rows.split(5)))


def bits(module: nn.Module) -> str:
    return digest({name: p.detach() for name, p in module.named_parameters()})


rates = st.sampled_from([0.0, 0.01, 0.1, 0.37]), st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.0, 1e-4, 0.3])


def check_sgd(lr: float, momentum: float, decay: float, dtype: torch.dtype, *, always: bool, foreach: bool) -> None:
    ours, theirs = Branching(dtype), Branching(dtype)
    params = list(ours.parameters())
    views = [p.detach() for p in params]
    optimizer = SGD(FedAvg(lr=lr, momentum=momentum, weight_decay=decay))
    reference = torch.optim.SGD(theirs.parameters(), lr=lr, momentum=momentum, weight_decay=decay, foreach=foreach)
    for x, whole in batches(dtype):
        ours(x, whole or always).square().mean().backward()
        descend(optimizer, params, views, None)
        reference.zero_grad()
        theirs(x, whole or always).square().mean().backward()
        reference.step()
        assert bits(ours) == bits(theirs)
        assert all(p.grad is None for p in params)


@settings(max_examples=40)
@given(*rates, st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_sgd_is_torchs_to_the_bit(lr: float, momentum: float, decay: float, dtype: torch.dtype, foreach: bool) -> None:
    """Also where a parameter has a gradient in some steps only, or never: no decay, no momentum, no move."""
    check_sgd(lr, momentum, decay, dtype, always=False, foreach=foreach)


@settings(max_examples=30)
@given(*rates, st.sampled_from([torch.bfloat16, torch.float16]))
def test_sgd_in_narrow_floats_is_torchs_to_the_bit(
    lr: float, momentum: float, decay: float, dtype: torch.dtype
) -> None:
    """There torch's two forms differ from one another in momentum·v; ours is foreach, its default on devices."""
    check_sgd(lr, momentum, decay, dtype, always=True, foreach=True)


def test_a_run_trains_as_a_plain_torch_loop_would(tmp_path: Path) -> None:
    """One silo, unshuffled: two rounds of two epochs, against nn.Module, torch.optim.SGD and slices of the rows."""
    rows = random_rows(23, 4, 1)
    strategy = FedAvg(lr=0.05, momentum=0.9, weight_decay=0.01, epochs=2, batch_size=5, shuffle=False)
    finished = run(LINEAR, strategy, silos(tmp_path, a=rows), 2)
    model = nn.Linear(3, 1, dtype=torch.float64)
    model.load_state_dict(finished.state(0).params)
    data = torch.from_numpy(rows)
    for round in (1, 2):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
        for _ in range(2):
            for part in data.split(5):
                optimizer.zero_grad()
                nn.functional.mse_loss(model(part[:, :3]), part[:, 3:]).backward()
                optimizer.step()
        expected = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        # start + (trained − start) rounds once more than trained itself
        torch.testing.assert_close(every_parameter(finished, round), expected, rtol=0, atol=1e-14)


# a task's own fit

OWN = LINEAR.read_text(encoding="utf-8") + "\n\ndef fit(model, data, context):\n"


def own(folder: Path, body: str) -> Path:
    return write_task(folder, OWN + "".join(f"    {line}\n" for line in body.strip().splitlines()))


def test_own_fit_as_a_plain_loop_is_fl_kits_loop(tmp_path: Path) -> None:
    body = """
inputs, targets = data
optimizer = torch.optim.SGD(model.parameters(), lr=context.settings.lr)
for _ in range(context.settings.epochs):
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
return float(value.detach())
"""
    federation = silos(tmp_path, a=random_rows(9, 4, 1), b=random_rows(20, 4, 2))
    strategy = FedAvg(lr=0.1, epochs=3, batch_size=20, shuffle=False)
    mine = run(own(tmp_path, body), strategy, federation, 2)
    theirs = run(LINEAR, strategy, federation, 2)
    torch.testing.assert_close(every_parameter(mine), every_parameter(theirs), rtol=0, atol=1e-12)
    assert {"train_loss", "loss"} <= set(mine.history().metric)


def test_own_fit_gets_its_context(tmp_path: Path) -> None:
    body = """
assert model.training
assert context.silo in ("a", "b") and context.round in (1, 2)
assert context.device == torch.device("cpu") and context.settings.batch_size == 4
context.check()
with torch.no_grad():
    model.bias += torch.rand(1, generator=context.generator, dtype=torch.float64)
"""
    federation = silos(tmp_path, a=random_rows(9, 4, 1), b=random_rows(20, 4, 2))
    task = own(tmp_path, body)
    first = run(task, FedAvg(batch_size=4), federation, 2)
    assert digests(run(task, FedAvg(batch_size=4), federation, 2)) == digests(first)
    assert len(set(digests(first))) == 3
    assert "train_loss" not in set(first.history().dropna().metric)


@pytest.mark.parametrize("body", ["return torch.tensor(1.0)", "return {'loss': 1.0}", "return model", "return '0.5'"])
def test_own_fit_that_returns_something_else(tmp_path: Path, body: str) -> None:
    with pytest.raises(StepFailed, match=r"fit\(\) returned \w+; return the mean training loss as a float, or nothing"):
        run(own(tmp_path, body), FedAvg(), silos(tmp_path, a=random_rows(3, 4, 1)), 1)


@pytest.mark.parametrize(
    "line",
    [
        "for p in model.parameters(): p.data += 1.0",
        "for p in model.parameters(): p.data = p.data + 1.0",
        "model.load_state_dict({k: v + 1.0 for k, v in model.state_dict().items()})",
        "model.load_state_dict({k: v + 1.0 for k, v in model.state_dict().items()}, assign=True)",
        "nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()) + 1.0, model.parameters())",
    ],
    ids=["in place", "data", "load_state_dict", "assign", "vector_to_parameters"],
)
def test_however_own_fit_changes_the_model(tmp_path: Path, line: str) -> None:
    """Every parameter moves by 1 in each silo and round; the second silo starts from the global model again."""
    federation = silos(tmp_path, a=random_rows(3, 4, 1), b=random_rows(5, 4, 1))
    finished = run(own(tmp_path, line), FedAvg(), federation, 3)
    start = every_parameter(finished, 0)
    for round in range(4):
        torch.testing.assert_close(every_parameter(finished, round), start + round, rtol=0, atol=1e-12)


def test_gradients_that_own_fit_left_do_not_count(tmp_path: Path) -> None:
    body = "loss(model(data[0]), data[1]).backward()"
    finished = run(own(tmp_path, body), FedAvg(), silos(tmp_path, a=random_rows(3, 4, 1)), 2)
    assert len(set(digests(finished))) == 1


# the loss


def test_a_loss_that_is_not_finite_names_silo_round_and_step(tmp_path: Path) -> None:
    """F = (w − 1)²/2 and η = 1e200: w = 1e200 after a step, where F is 5e399, which float64 calls inf."""
    federation = silos(tmp_path, a=[[1.0, 1.0]] * 4)
    with pytest.raises(StepFailed, match=r"a, round 1, step 'fit': the loss is inf at local step 2; try a smaller lr"):
        run(QUADRATIC, FedAvg(lr=1e200, batch_size=1), federation, 1)


def test_a_missing_value_in_the_rows_is_named_at_its_step(tmp_path: Path) -> None:
    rows = [[1.0, 1.0]] * 5 + [[float("nan"), 1.0]] + [[1.0, 1.0]] * 2
    with pytest.raises(StepFailed, match=r"bad, round 1, step 'fit': the loss is nan at local step 3;.*missing"):
        run(QUADRATIC, FedAvg(batch_size=2, shuffle=False), silos(tmp_path, bad=rows), 1)


@pytest.mark.parametrize("value", ["(outputs - targets) ** 2", "3.0", "None", "((outputs - targets) ** 2).mean(0)"])
def test_a_loss_that_is_no_scalar_tensor(tmp_path: Path, value: str) -> None:
    source = f"{LINEAR.read_text(encoding='utf-8')}\nmetrics = []\ndef loss(outputs, targets):\n    return {value}\n"
    strategy, federation = FedAvg(), silos(tmp_path, a=random_rows(3, 4, 1))
    with pytest.raises(StepFailed, match=r"loss\(outputs, targets\) gave"):
        run(write_task(tmp_path, source), strategy, federation, 1)


# evaluation


def test_the_federations_loss_is_that_of_the_pooled_rows(tmp_path: Path) -> None:
    """Silos of 3, 150 and 400 rows (so several evaluation batches): not the mean of their losses."""
    parts = {"a": random_rows(3, 4, 1) * 4, "b": random_rows(150, 4, 2), "c": random_rows(400, 4, 3) + 1}
    finished = run(LINEAR, FedAvg(lr=0.01), silos(tmp_path, **parts), 2)
    frame = finished.history()
    pooled = torch.cat([torch.from_numpy(rows) for rows in parts.values()])
    for round in range(3):
        weight, bias = finished.state(round).params["weight"], finished.state(round).params["bias"]
        expected = ((pooled[:, :3] @ weight.T + bias - pooled[:, 3:]) ** 2).mean()
        at = frame[(frame.party == "global") & (frame["round"] == round)].set_index("metric").value
        assert at["loss"] == pytest.approx(float(expected), rel=1e-12)
        assert at["mean_squared_error"] == pytest.approx(float(expected), rel=1e-12)


def test_evaluation_changes_nothing(tmp_path: Path) -> None:
    """The same bits whether the global model is measured every round or only at the end."""
    federation = silos(tmp_path, a=random_rows(8, 4, 1), b=random_rows(12, 4, 2))
    measured = run(BATCHNORM, FedAvg(batch_size=4), federation, 3)
    silent = run(BATCHNORM, FedAvg(batch_size=4), federation, 3, evaluate_every=0)
    assert digests(measured) == digests(silent)
    losses = silent.history().query("metric == 'loss' and party == 'global'")
    assert losses["round"].tolist() == [3]


def test_torchs_own_losses_are_measured_in_float64() -> None:
    """The mean of 1 + 2⁻²⁰ and 1 squared: 1 + 2⁻²⁰ + 2⁻⁴¹, which float32 cannot hold."""
    outputs, targets = torch.tensor([1 + 2.0**-20, 1.0]), torch.zeros(2)
    assert float(measuring(nn.MSELoss())(outputs, targets)) == 1 + 2.0**-20 + 2.0**-41
    assert float(nn.MSELoss()(outputs, targets)) != 1 + 2.0**-20 + 2.0**-41


def test_weights_of_a_loss_go_to_float64_and_targets_of_classes_stay() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))
    outputs = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    assert float(measuring(loss)(outputs, torch.tensor([0, 1]))) == pytest.approx(
        torch.log(torch.tensor(2.0).double()).item()
    )
    assert loss.weight is not None
    assert loss.weight.dtype == torch.float32  # the user's own loss is left alone


def test_a_loss_of_the_users_own_is_called_as_it_is() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        assert outputs.dtype == torch.float32
        return (outputs - targets).abs().mean()

    assert measuring(loss) is loss
    assert float(measuring(loss)(torch.tensor([3.0]), torch.tensor([1.0]))) == 2.0


def test_the_step_counts_rows_and_not_batches(tmp_path: Path) -> None:
    """Rows with optima 0, 0, 0 and 4 in batches of 3 and 1, η = 0: the loss is (3·0 + 1·8)/4 = 2, not (0 + 8)/2."""
    federation = silos(tmp_path, a=[[1.0, 0.0]] * 3 + [[1.0, 4.0]])
    finished = run(QUADRATIC, FedAvg(lr=0.0, batch_size=3, shuffle=False), federation, 1)
    frame = finished.history()
    assert frame[(frame.party == "a") & (frame.metric == "train_loss")].value.tolist() == [2.0]
    assert scalar(finished.state().params) == 0.0


def test_settings_are_all_that_sgd_needs() -> None:
    """`w ← w − η·(g + d·w)` by hand: 2 − 0.1·(1 + 0.5·2) = 1.8, then velocity 0.9·2 + (1 + 0.9) = 3.7: 1.43."""
    optimizer = SGD(SimpleNamespace(lr=0.1, momentum=0.9, weight_decay=0.5))  # type: ignore[arg-type]
    w = [torch.tensor([2.0], dtype=torch.float64)]
    values: list[Any] = []
    for _ in range(2):
        optimizer.step(w, [torch.ones(1, dtype=torch.float64)])
        values.append(float(w[0]))
    assert values == pytest.approx([1.8, 1.43])
