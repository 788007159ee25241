"""Federated standardisation equals that of the pooled rows, whatever is missing where."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fl_kit.job import Job
from fl_kit.messages import Groups
from fl_kit.standardize import GROUP, Standardize, apply_sums, measured_sums, standardizers
from fl_kit.strategies import FedAvg
from tests.tasks import digests, random_rows, run, silos, write_task

NAN = float("nan")


def report(rows: Tensor, batch: int = 7) -> Groups:
    """What a silo with these rows sends."""
    module = Standardize(rows.shape[1])
    module.measure()
    for part in rows.split(batch):
        module(part)
    return measured_sums(module)


def fitted(*silo_rows: Tensor, flag_missing: bool = False) -> Standardize:
    module = Standardize(silo_rows[0].shape[1], flag_missing=flag_missing)
    apply_sums(standardizers(module), [report(rows) for rows in silo_rows])
    return module


def pooled(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of each feature, NaN left out, in float64."""
    values = rows.double().numpy()
    return np.nanmean(values, axis=0), np.nanstd(values, axis=0)


def random_silos(seed: int, sizes: list[int], missing: float) -> list[Tensor]:
    draws = np.random.default_rng(seed)
    rows = draws.standard_normal((sum(sizes), 3)) * [1.0, 50.0, 0.01] + [0.0, 1000.0, -2.0]
    rows[draws.random(rows.shape) < missing] = np.nan
    rows[:2] = [[1.0, 900.0, -2.0], [2.0, 1100.0, -2.1]]  # every feature is there and varies
    return list(torch.from_numpy(rows).split(sizes))


@given(st.integers(0, 2**32), st.lists(st.integers(2, 40), min_size=1, max_size=5), st.sampled_from([0.0, 0.3, 0.8]))
def test_mean_and_scale_are_those_of_the_pooled_rows(seed: int, sizes: list[int], missing: float) -> None:
    """The buffers are float32, so 1e-6 relative; the sums behind them are exact to 1e-12 (next test)."""
    parts = random_silos(seed, sizes, missing)
    module = fitted(*parts)
    mean, deviation = pooled(torch.cat(parts))
    np.testing.assert_allclose(module.mean.numpy(), mean, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(module.scale.numpy(), 1 / deviation, rtol=1e-6)


@given(st.integers(0, 2**32), st.lists(st.integers(2, 40), min_size=1, max_size=5), st.integers(1, 50))
def test_sums_are_those_of_the_pooled_rows(seed: int, sizes: list[int], batch: int) -> None:
    """float32 rows, summed in float64, in any batches."""
    parts = [part.float() for part in random_silos(seed, sizes, 0.3)]
    total = sum(report(part, batch)[GROUP]["model"] for part in parts)
    values = torch.cat(parts).double().numpy()
    expected = np.stack([(~np.isnan(values)).sum(0), np.nansum(values, 0), np.nansum(values**2, 0)])
    assert isinstance(total, Tensor)
    assert total.dtype == torch.float64
    np.testing.assert_allclose(total.numpy(), expected, rtol=1e-12, atol=1e-9)


def test_by_hand() -> None:
    """Silos [1, 3] and [8]: mean 4, variance (9 + 1 + 16)/3 = 26/3."""
    module = fitted(torch.tensor([[1.0], [3.0]]), torch.tensor([[8.0]]))
    assert float(module.mean) == 4.0
    assert float(module.scale) == pytest.approx((26 / 3) ** -0.5, rel=1e-6)
    assert module(torch.tensor([[4.0]])).tolist() == [[0.0]]


def test_the_silos_means_are_not_averaged() -> None:
    """An average of the silos' means would be (2 + 8)/2 = 5, of their variances (1 + 0)/2."""
    assert float(fitted(torch.tensor([[1.0], [3.0]]), torch.tensor([[8.0]])).mean) != 5.0


def test_a_feature_that_one_silo_never_measured() -> None:
    """The other silo's rows say it all; in the first silo it becomes 0, the federation's mean."""
    module = fitted(torch.tensor([[1.0, NAN], [3.0, NAN]]), torch.tensor([[5.0, 10.0], [7.0, 14.0]]))
    assert module.mean.tolist() == [4.0, 12.0]
    assert module.scale.tolist() == pytest.approx([1 / 5**0.5, 0.5])
    assert module(torch.tensor([[4.0, NAN]])).tolist() == [[0.0, 0.0]]


def test_a_feature_that_nobody_measured_or_that_never_varies() -> None:
    """Nothing was learnt of it: it is 0 for every row, later ones with other values too."""
    module = fitted(torch.tensor([[NAN, 7.0], [NAN, 7.0]]), torch.tensor([[NAN, 7.0]]))
    assert module(torch.tensor([[5.0, 9.0], [NAN, NAN]])).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("value", [0.1, -1e6, 1e-9, 123456.789])
def test_rounding_does_not_make_a_constant_vary(value: float) -> None:
    """The mean of squares minus the squared mean of a constant is not exactly 0 in floating point."""
    module = fitted(*[torch.full((count, 1), value, dtype=torch.float64) for count in (3, 7, 31)])
    assert module.scale.tolist() == [0.0]


def test_a_small_spread_around_a_large_mean_is_kept() -> None:
    """Around 1,000 with deviation 0.1: the variance loses 8 of float64's 16 digits and keeps 1e-6 relative."""
    rows = 1000 + 0.1 * torch.from_numpy(random_rows(500, 1, 3))
    _, deviation = pooled(rows)
    np.testing.assert_allclose(fitted(rows).scale.numpy(), 1 / deviation, rtol=1e-6)


def test_missing_values_are_flagged_beside() -> None:
    module = fitted(torch.tensor([[0.0, 0.0], [2.0, 4.0]]), flag_missing=True)
    found = module(torch.tensor([[3.0, NAN], [NAN, 6.0]]))
    assert found.tolist() == [[2.0, 0.0, 0.0, 1.0], [0.0, 2.0, 1.0, 0.0]]


def test_no_gradient_flows_through_a_missing_value() -> None:
    x = torch.tensor([[1.0, NAN]], requires_grad=True)
    fitted(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 0.0]]


def test_measuring_ends_when_the_sums_are_taken() -> None:
    module = Standardize(1)
    module(torch.ones(1, 1))
    assert module.sums is None
    module.measure()
    module(torch.ones(2, 1))
    assert module.measured().tolist() == [[2.0], [2.0], [2.0]]
    module(torch.ones(2, 1))
    assert module.sums is None


def test_its_buffers_are_no_parameters() -> None:
    module = Standardize(3)
    assert list(module.parameters()) == []
    assert set(module.state_dict()) == {"mean", "scale"}


def test_several_in_one_model_go_by_their_places() -> None:
    model = nn.ModuleDict({"left": Standardize(1), "right": nn.Sequential(Standardize(2))})
    assert set(standardizers(model)) == {"left", "right.0"}


# in a run

TASK = """
from pathlib import Path
import numpy as np
import torch
from torch import nn
from fl_kit import Standardize

def model():
    return nn.Sequential(Standardize(3, flag_missing=True), nn.Linear(6, 1))

def data(folder, split):
    rows = torch.from_numpy(np.load(Path(folder) / f"{split}.npy", allow_pickle=False)).float()
    return rows[:, :3], rows[:, 3:]

loss = nn.MSELoss()
"""


def test_in_a_run_it_is_set_before_the_first_round_and_stays(tmp_path: Path) -> None:
    a, b = random_rows(300, 4, 1) * 5 + 2, random_rows(170, 4, 2) - 40
    a[::3, 1] = np.nan
    b[:, 2] = np.nan
    finished = run(write_task(tmp_path, TASK), FedAvg(lr=0.01), silos(tmp_path, a=a, b=b), 3)
    mean, deviation = pooled(torch.from_numpy(np.concatenate([a, b]).astype(np.float32))[:, :3])
    for round in range(4):
        params = finished.state(round).params
        np.testing.assert_allclose(params["0.mean"].numpy(), mean, rtol=1e-6)
        np.testing.assert_allclose(params["0.scale"].numpy(), 1 / deviation, rtol=1e-6)
    assert len(set(digests(finished))) == 4


def test_only_training_rows_are_measured(tmp_path: Path) -> None:
    train, test = random_rows(50, 4, 1), random_rows(50, 4, 2) + 1000
    finished = run(write_task(tmp_path, TASK), FedAvg(lr=0.0), silos(tmp_path, a={"train": train, "test": test}), 1)
    np.testing.assert_allclose(finished.state().params["0.mean"].numpy(), train[:, :3].mean(0), rtol=1e-5)


def test_the_plan_shows_who_sends_sums(tmp_path: Path) -> None:
    job = Job(task=write_task(tmp_path, TASK), strategy=FedAvg(), rounds=1)
    federation = silos(tmp_path, a=random_rows(2, 4, 1), b=random_rows(2, 4, 1))
    plan = job.plan(federation)
    assert [step.id for step in plan.steps][:3] == [
        "round_000/a/measure",
        "round_000/b/measure",
        "round_000/orchestrator/init",
    ]
    assert dict(plan.steps[0].outputs) == {"update": "shared"}
