"""Models of every kind go through a run: buffers, dtypes, frozen and tied parameters."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fl_kit.errors import StepFailed, TaskError
from fl_kit.model_state import ModelState
from fl_kit.strategies import FedAvg, FedProx, Scaffold
from fl_kit.tensors import digest
from tests.tasks import BATCHNORM, digests, random_rows, run, silos, write_task

CPU = torch.device("cpu")
DATA = """
import torch
from torch import nn
from pathlib import Path
import numpy as np

def data(folder, split):
    rows = torch.from_numpy(np.load(Path(folder) / f"{split}.npy", allow_pickle=False)).to(DTYPE)
    return rows[:, :2], rows[:, 2:]

def loss(outputs, targets):
    return ((outputs.to(targets.dtype) - targets) ** 2).mean()

DTYPE = torch.float64
"""


def task(folder: Path, source: str) -> Path:
    return write_task(folder, DATA + source)


# BatchNorm through a run


def test_running_statistics_are_averaged_by_weight(tmp_path: Path) -> None:
    """One batch a silo, BatchNorm's momentum 0.1, from mean 0 and variance 1:

    silo's running mean 0.1·mean_k, variance 0.9 + 0.1·var_k (unbiased); the global ones are their means by rows.
    """
    a, b = random_rows(5, 4, 1), random_rows(15, 4, 2) * 3 + 1
    finished = run(BATCHNORM, FedAvg(batch_size=15, server_lr=0.5), silos(tmp_path, a=a, b=b), 1)
    mean = (5 * 0.1 * a[:, :3].mean(0) + 15 * 0.1 * b[:, :3].mean(0)) / 20
    variance = (5 * (0.9 + 0.1 * a[:, :3].var(0, ddof=1)) + 15 * (0.9 + 0.1 * b[:, :3].var(0, ddof=1))) / 20
    params = finished.state(1).params
    torch.testing.assert_close(params["0.running_mean"], torch.from_numpy(mean), rtol=0, atol=1e-12)
    torch.testing.assert_close(params["0.running_var"], torch.from_numpy(variance), rtol=0, atol=1e-12)


def test_the_count_of_batches_stays_an_integer(tmp_path: Path) -> None:
    """Batches of 2: silo a with 4 rows counts 2, silo b with 12 rows 6: (4·2 + 12·6)/16 = 5 a round.

    With 6 rows silo a counts 3: (6·3 + 12·6)/18 = 5 again; with 8 rows 4: (8·4 + 12·6)/20 = 5.2, rounded to 5.
    In the second round 5.2 is added to 5: 10.
    """
    for rows in (4, 6, 8):
        federation = silos(tmp_path / str(rows), a=random_rows(rows, 4, 1), b=random_rows(12, 4, 2))
        finished = run(BATCHNORM, FedAvg(batch_size=2, lr=0.01), federation, 2)
        counts = [finished.state(round).params["0.num_batches_tracked"] for round in range(3)]
        assert [int(count) for count in counts] == [0, 5, 10]
        assert all(count.dtype == torch.int64 and count.shape == () for count in counts)


def test_the_next_silo_starts_from_the_global_buffers(tmp_path: Path) -> None:
    """Two silos of the same rows end where one alone does: nothing of the first is left in the model."""
    rows = random_rows(8, 4, 1)
    alone = run(BATCHNORM, FedAvg(batch_size=8), silos(tmp_path / "1", a=rows), 2)
    twice = run(BATCHNORM, FedAvg(batch_size=8), silos(tmp_path / "2", a=rows, b=rows), 2)
    for name, value in alone.state(2).params.items():
        torch.testing.assert_close(twice.state(2).params[name], value, rtol=0, atol=1e-12)


REASSIGNED = """
class Counting(nn.Linear):
    def __init__(self):
        super().__init__(2, 1, dtype=torch.float64)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("scratch", torch.zeros(()), persistent=False)
        self.register_buffer("mask", torch.tensor([True, False]))

    def forward(self, x):
        if self.training:
            self.seen = self.seen + len(x)
            self.scratch = self.scratch + 1
        return super().forward(x * self.mask)

def model():
    return Counting()
"""


def test_a_buffer_that_the_model_assigns_anew(tmp_path: Path) -> None:
    """`seen` counts rows: silo a sees 4, silo b 12 a round; their mean by rows is (4·4 + 12·12)/16 = 10."""
    federation = silos(tmp_path, a=random_rows(4, 3, 1), b=random_rows(12, 3, 2))
    finished = run(task(tmp_path, REASSIGNED), FedAvg(), federation, 3)
    assert [float(finished.state(round).params["seen"]) for round in range(4)] == [0, 10, 20, 30]


LAST_ROW = """
class Keeping(nn.Linear):
    def __init__(self):
        super().__init__(2, 1, dtype=torch.float64)
        self.register_buffer("last", torch.zeros(2, dtype=torch.float64))

    def forward(self, x):
        if self.training:
            self.last = x[-1]KEPT
        return super().forward(x)

def model():
    return Keeping()
"""


def test_a_buffer_that_is_a_view_of_the_rows_does_not_overwrite_them(tmp_path: Path) -> None:
    """The next load must not write the global buffer into a silo's data."""
    federation = silos(tmp_path, a=random_rows(4, 3, 1), b=random_rows(12, 3, 2))
    settings = FedAvg(batch_size=12, shuffle=False)
    view, copy = (
        run(task(tmp_path, LAST_ROW.replace("KEPT", kept)), settings, federation, 3) for kept in ("", ".clone()")
    )
    assert digests(view) == digests(copy)


def test_bool_and_scratch_buffers(tmp_path: Path) -> None:
    """A bool buffer stays as it is at the start; a buffer that is not persistent is no part of the state."""
    federation = silos(tmp_path, a=random_rows(4, 3, 1), b=random_rows(12, 3, 2))
    finished = run(task(tmp_path, REASSIGNED), FedAvg(), federation, 2)
    params = finished.state().params
    assert params["mask"].tolist() == [True, False]
    assert set(params) == {"weight", "bias", "seen", "mask"}
    assert not torch.equal(params["weight"][:, 0], finished.state(0).params["weight"][:, 0])
    assert torch.equal(params["weight"][:, 1], finished.state(0).params["weight"][:, 1])  # its feature is masked


# dtypes


@pytest.mark.parametrize(
    "strategy", [FedAvg(lr=0.05), FedProx(lr=0.05), Scaffold(lr=0.05)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_any_floating_dtype(tmp_path: Path, dtype: str, strategy: FedAvg) -> None:
    source = f"DTYPE = torch.{dtype}\ndef model():\n    return nn.Linear(2, 1, dtype=DTYPE)\n"
    federation = silos(tmp_path, a=random_rows(6, 3, 1), b=random_rows(12, 3, 2))
    finished = run(task(tmp_path, source), strategy, federation, 2)
    for round in range(3):
        assert {value.dtype for value in finished.state(round).params.values()} == {getattr(torch, dtype)}
    assert len(set(digests(finished))) == 3
    assert all(bool(value.isfinite().all()) for value in finished.state().params.values())


MIXED = """
class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(2, 3, dtype=torch.float64)
        self.narrow = nn.Linear(3, 3, dtype=torch.bfloat16)
        self.last = nn.Linear(3, 1)

    def forward(self, x):
        return self.last(self.narrow(self.wide(x).bfloat16()).float())

def model():
    return Mixed()
"""


@pytest.mark.parametrize(
    "strategy",
    [FedAvg(lr=0.05, momentum=0.5, weight_decay=0.1), FedProx(lr=0.05), Scaffold(lr=0.05)],
    ids=lambda s: type(s).__name__,
)
def test_mixed_dtypes_in_one_model(tmp_path: Path, strategy: FedAvg) -> None:
    federation = silos(tmp_path, a=random_rows(6, 3, 1), b=random_rows(12, 3, 2))
    finished = run(task(tmp_path, MIXED), strategy, federation, 2)
    kept = {"wide": torch.float64, "narrow": torch.bfloat16, "last": torch.float32}
    for name, value in finished.state().params.items():
        assert value.dtype == kept[name.partition(".")[0]]
        assert not torch.equal(value, finished.state(0).params[name])


# frozen and tied


FROZEN = """
def model():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).to(DTYPE)
    model[0].requires_grad_(False)
    return model
"""


@pytest.mark.parametrize(
    "strategy",
    [FedAvg(weight_decay=0.1, momentum=0.5), FedProx(weight_decay=0.1), Scaffold(weight_decay=0.1)],
    ids=lambda s: type(s).__name__,
)
def test_frozen_parameters_stay(tmp_path: Path, strategy: FedAvg) -> None:
    federation = silos(tmp_path, a=random_rows(6, 3, 1), b=random_rows(12, 3, 2))
    finished = run(task(tmp_path, FROZEN), strategy, federation, 2)
    start, end = finished.state(0).params, finished.state().params
    assert set(end) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    for name in end:
        assert torch.equal(start[name], end[name]) == name.startswith("0.")
    if isinstance(strategy, Scaffold):
        assert set(finished.state().memory["control_sum"]) == {"1.weight", "1.bias"}


def test_frozen_parameters_are_no_part_of_an_update() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    model[0].requires_grad_(False)
    state = ModelState(model, CPU)
    with torch.no_grad():
        model[1].bias.zero_()
    start = state.snapshot()
    with torch.no_grad():
        model[1].bias += 2.0
    assert set(start) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    delta = state.delta(start)
    assert set(delta) == {"1.weight", "1.bias"}
    assert delta["1.bias"].tolist() == [2.0]
    assert not delta["1.weight"].any()
    assert state.buffer_delta(start) == {}


@pytest.mark.parametrize("min_silos", [None, 1])
def test_a_model_with_nothing_to_train_is_one_clear_error(tmp_path: Path, min_silos: int | None) -> None:
    source = "def model():\n    return nn.Linear(2, 1, dtype=DTYPE).requires_grad_(False)\n"
    with pytest.raises(StepFailed, match=r"made_up.model\(\) has nothing to train"):
        run(task(tmp_path, source), FedAvg(), silos(tmp_path, a=random_rows(6, 3, 1)), 1, min_silos=min_silos)


TIED = """
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False, dtype=DTYPE)
        self.second = nn.Linear(2, 2, bias=False, dtype=DTYPE)
        self.second.weight = self.first.weight
        self.last = nn.Linear(2, 1, dtype=DTYPE)

    def forward(self, x):
        return self.last(self.second(self.first(x)))

def model():
    return Tied()
"""


def test_tied_parameters_are_one(tmp_path: Path) -> None:
    federation = silos(tmp_path, a=random_rows(6, 3, 1), b=random_rows(12, 3, 2))
    finished = run(task(tmp_path, TIED), FedAvg(lr=0.05), federation, 2)
    assert set(finished.state().params) == {"first.weight", "last.weight", "last.bias"}
    assert not torch.equal(finished.state().params["first.weight"], finished.state(0).params["first.weight"])


def test_tied_parameters_stay_tied_after_a_load() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    state = ModelState(model, CPU)
    state.load({name: torch.full_like(value, 3.0) for name, value in state.snapshot().items()})
    assert model[1].weight is model[0].weight
    assert model[1].weight.tolist() == [[3.0, 3.0], [3.0, 3.0]]
    with torch.no_grad():
        model[0].weight += 1
    assert model[1].weight.tolist() == [[4.0, 4.0], [4.0, 4.0]]


def test_tied_buffers_stay_tied() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(2)
            self.again = self.norm

    state = ModelState(Shared(), CPU)
    assert set(state.snapshot()) == {
        "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    }  # fmt: skip
    state.load({name: torch.ones_like(value) for name, value in state.snapshot().items()})


# ModelState by itself


def linear() -> ModelState:
    return ModelState(nn.Linear(2, 1, bias=False), CPU)


def set_to(state: ModelState, value: float) -> None:
    with torch.no_grad():
        state.module.weight.fill_(value)  # type: ignore[operator, union-attr]


def test_a_snapshot_is_a_copy() -> None:
    state = linear()
    snapshot = state.snapshot()
    before = digest(snapshot)
    set_to(state, 9.0)
    assert digest(snapshot) == before
    assert not any(value.requires_grad for value in snapshot.values())


def test_loading_copies_and_leaves_the_state_alone() -> None:
    state = linear()
    params = {"weight": torch.tensor([[1.0, 2.0]])}
    state.load(params)
    state.changed()
    set_to(state, 9.0)
    assert params["weight"].tolist() == [[1.0, 2.0]]
    state.load(params)
    assert state.snapshot()["weight"].tolist() == [[1.0, 2.0]]


def test_delta_is_trained_minus_start() -> None:
    state = linear()
    start = {"weight": torch.tensor([[1.0, 2.0]])}
    state.load(start)
    state.changed()
    set_to(state, 4.0)
    delta = state.delta(start)
    assert delta["weight"].tolist() == [[3.0, 2.0]]
    set_to(state, 0.0)
    assert delta["weight"].tolist() == [[3.0, 2.0]]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            {"weight": torch.zeros(1, 3)},
            r"'weight' as torch.float32 \(1, 2\), at the start of the run it was .*\(1, 3\)",
        ),
        ({"weight": torch.zeros(1, 2).double()}, r"'weight' as torch.float32 .* torch.float64"),
        ({"weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, r"other tensors .*\['bias'\]"),
        ({}, r"other tensors .*\['weight'\]"),
    ],
)
def test_another_model_than_at_the_start_is_refused(params: dict[str, Tensor], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        linear().load(params)


def test_a_model_whose_shapes_differ_between_calls(tmp_path: Path) -> None:
    source = "WIDTHS = iter([1, 2, 3, 4])\ndef model():\n    return nn.Linear(2, next(WIDTHS), dtype=DTYPE)\n"
    with pytest.raises(StepFailed, match="must build the same model each time"):
        run(task(tmp_path, source), FedAvg(), silos(tmp_path, a=random_rows(6, 3, 1)), 1)


# Training and evaluation


def test_modes_reach_every_module() -> None:
    state = ModelState(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))), CPU)
    for mode in (False, True, False):
        state.training(mode)
        assert [one.training for one in state.module.modules()] == [mode] * 5


def test_a_module_with_its_own_idea_of_training_has_its_way() -> None:
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> "Frozen":
            return super().train(False)

    state = ModelState(nn.Sequential(nn.Dropout(), Frozen(2)), CPU)
    state.training(True)
    assert [one.training for one in state.module] == [True, False]
