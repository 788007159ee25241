"""Which models, losses and rows are trained as one tensor program, and why others are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fl_kit import FedAvg, Moon, Scaffold
from fl_kit.errors import StepFailed
from fl_kit.silo import Federation
from fl_kit.task import Task
from sim.engines.stacked import chunk
from sim.engines.stacked.losses import SilosLoss, row_losses
from sim.in_process import InProcess
from tests.sim.engines.beside_exact import both, of_sizes, off, said
from tests.tasks import BATCHNORM, DROPOUT, LINEAR, SMOOTH, digests, job, random_rows, silos, write_task

TASK = """
from tests.tasks.linear import data  # noqa: F401
import torch
from torch import nn
from torch.nn import functional as F
"""
STRATEGY = FedAvg(lr=0.05, batch_size=4, epochs=2)

EXACTLY = {
    "dropout": ("", DROPOUT, "draws random numbers in training (Dropout)"),
    "batch normalisation": ("", BATCHNORM, "changes its buffer '0.num_batches_tracked' in training (BatchNorm1d)"),
    "control flow": (
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(3, 1).double()
    def forward(self, x):
        return self.w(x) if x.sum() > 0 else -self.w(x)
def model(): return Net()
loss = nn.MSELoss()
""",
        None,
        "torch's vmap cannot run the model or its loss: RuntimeError: vmap: It looks like you're attempting to use",
    ),
    "its own fit": (
        """
def model(): return nn.Linear(3, 1).double()
loss = nn.MSELoss()
def fit(model, data, context):
    with torch.no_grad():
        model.weight += 1.0
""",
        None,
        "the task trains by its own fit()",
    ),
    "another gradient under vmap": (
        """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(3, 1).double()
        self.kept = [self.w.weight]
    def forward(self, x):
        return F.linear(x, self.kept[0]) + self.w(x)
def model(): return Net()
loss = nn.MSELoss()
""",
        None,
        "under vmap the model has another gradient than alone",
    ),
    "a Dataset": (
        """
from torch.utils.data import Dataset
from tests.tasks.linear import data as arrays
class Rows(Dataset):
    def __init__(self, pair): self.pair = pair
    def __len__(self): return len(self.pair[0])
    def __getitem__(self, i): return self.pair[0][i], self.pair[1][i]
def data(folder, split): return Rows(arrays(folder, split))
def model(): return nn.Linear(3, 1).double()
loss = nn.MSELoss()
""",
        None,
        "come from a Dataset",
    ),
}


@pytest.mark.parametrize(("source", "task", "why"), EXACTLY.values(), ids=EXACTLY)
def test_what_it_cannot_honour_is_computed_exactly_and_said(
    source: str,
    task: Path | None,
    why: str,
    tmp_path: Path,
) -> None:
    federation = of_sizes(tmp_path / "silos", 10, 4, 14)  # batch normalisation takes no batch of one row
    stacked, exact = both(task or write_task(tmp_path, TASK + source), STRATEGY, federation)
    assert digests(stacked) == digests(exact)
    assert why in said(stacked)
    assert said(stacked) in stacked.kept_in


@pytest.mark.parametrize(
    ("strategy", "settings", "why"),
    [
        (Moon(lr=0.05), {}, "Moon adds a term of its own to the loss"),
        (FedAvg(lr=0.05, optimizer="Adafactor"), {}, "optimizer='Adafactor' does not treat each number for itself"),
        (FedAvg(lr=0.05, optimizer="Adam", optimizer_state="kept"), {}, "optimizer_state='kept'"),
        (FedAvg(lr=0.05), {"deadline": 60.0}, "the job has a deadline"),
    ],
    ids=["Moon", "Adafactor", "kept", "deadline"],
)
def test_what_shows_before_anything_runs_is_said_at_once(
    strategy: Any,
    settings: Any,
    why: str,
    federation: Federation,
) -> None:
    stacked, exact = both(SMOOTH, strategy, federation, **settings)
    assert digests(stacked) == digests(exact)
    assert said(stacked).startswith("exact: one silo after the other, since stacked cannot do it here: ")
    assert why in said(stacked)
    assert stacked.events()[1].value == said(stacked)


def test_a_correction_that_is_a_function_falls_back(federation: Federation, tmp_path: Path) -> None:
    source = TASK + (
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom fl_kit import FedAvg\n"
        "def model(): return nn.Linear(3, 1).double()\nloss = nn.MSELoss()\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Halved(FedAvg):\n"
        "    corrects_gradients: ClassVar[bool] = True\n"
        "    def correction(self, start, state, memory, ctx):\n"
        "        return lambda grads, params: torch._foreach_mul_(grads, 0.5)\n"
    )
    task = Task.of(write_task(tmp_path, source))
    stacked, exact = both(task, task.module.Halved(lr=0.05, batch_size=4), federation)
    assert digests(stacked) == digests(exact)
    assert "correction of gradients is a function" in said(stacked)


def test_a_silo_that_fails_says_so_itself(federation: Federation, tmp_path: Path) -> None:
    """Its row is no number: the others' silos count as in the exact engine, and the error is that one's."""
    rows = random_rows(6, 4, 9)
    rows[3, 0] = float("nan")
    sick = silos(tmp_path / "more", sick={"train": rows, "test": rows[:3]})
    asked = job(LINEAR, STRATEGY, 2, min_silos=1)
    whole = Federation(silos=(*federation.silos, *sick.silos))
    runs = [InProcess(folder=None, keep="all", engine=name).start(asked, whole).wait() for name in ("stacked", "exact")]
    assert digests(runs[0]) == digests(runs[1])
    assert runs[0].failures[["round", "message"]].equals(runs[1].failures[["round", "message"]])
    assert "a silo's loss is no number" in said(runs[0])
    strict = InProcess(folder=None, engine="stacked").start(job(LINEAR, STRATEGY, 1), whole)
    with pytest.raises(StepFailed, match=r"the loss is nan at local step") as failure:
        strict.wait()
    assert failure.value.silo == "sick"


NETS = {
    "tied weights": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3).double()
        self.b = nn.Linear(3, 3).double()
        self.b.weight = self.a.weight
        self.out = nn.Linear(3, 1).double()
    def forward(self, x): return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))
def model(): return Net()
loss = nn.MSELoss()
""",
    "a frozen layer and one without part": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.out, self.idle = nn.Linear(3, 4).double(), nn.Linear(4, 1).double(), nn.Linear(3, 2).double()
        self.a.weight.requires_grad_(False)
    def forward(self, x): return self.out(torch.tanh(self.a(x)))
def model(): return Net()
loss = nn.HuberLoss()
""",
    "a loss of the user's own": """
def model(): return nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 1)).double()
def loss(outputs, targets): return ((outputs - targets) ** 2).mean() + outputs.mean() ** 2
""",
    "rows that hang on their batch": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 1).double()
    def forward(self, x): return self.a(x - x.mean(0))
def model(): return Net()
loss = nn.MSELoss()
""",
    "two inputs by name": """
from tests.tasks.linear import data as arrays
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 1).double(), nn.Linear(1, 1).double()
    def forward(self, first, rest): return self.a(first) * self.b(rest)
def data(folder, split):
    x, y = arrays(folder, split)
    return {"first": x[:, :2], "rest": x[:, 2:]}, y
def model(): return Net()
loss = nn.SmoothL1Loss()
""",
    "class weights": """
from tests.tasks.linear import data as arrays
def data(folder, split):
    x, y = arrays(folder, split)
    return x, (y[:, 0] > 0).long() + (y[:, 0] > 1).long()
def model(): return nn.Linear(3, 3).double()
loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 7.0], dtype=torch.float64))
""",
    "rows that are ignored": """
from tests.tasks.linear import data as arrays
def data(folder, split):
    x, y = arrays(folder, split)
    return x, torch.where(y[:, 0] > 1.3, -100, (y[:, 0] > 0).long())
def model(): return nn.Linear(3, 2).double()
loss = nn.CrossEntropyLoss(label_smoothing=0.1)
""",
    "a buffer that stays": """
from fl_kit import Standardize
def model(): return nn.Sequential(Standardize(3), nn.Linear(3, 1)).double()
loss = nn.L1Loss()
""",
    "a convolution": """
def model(): return nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(4, 1)).double()
loss = nn.MSELoss()
""",
}


@pytest.mark.parametrize("source", NETS.values(), ids=NETS)
def test_models_and_losses_that_train_as_alone(
    source: str,
    federation: Federation,
    tmp_path: Path,
    together: list[int],
) -> None:
    strategy = Scaffold(lr=0.05, batch_size=4) if "idle" not in source else STRATEGY
    stacked, exact = both(write_task(tmp_path, TASK + source), strategy, federation)
    assert said(stacked).endswith("close to the exact engine")
    assert together == [5, 5]
    assert off(stacked, exact) < 1e-12
    ours, theirs = (run.history().value for run in (stacked, exact))
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-9, atol=1e-12)


CLASSES = """
from tests.tasks.linear import data as arrays
from fl_kit.metrics import F1, Accuracy
def data(folder, split):
    x, y = arrays(folder, split)
    return x, (y[:, 0] > 0).long() + (y[:, 0] > 1).long()
def model(): return nn.Linear(3, 3).double()
metrics = [Accuracy(), F1(average="macro")]
"""


@pytest.mark.parametrize(
    "loss", ["nn.CrossEntropyLoss()", "lambda o, t: F.cross_entropy(o, t)"], ids=["torch's", "own"]
)
def test_silos_that_are_measured_together_have_the_figures_that_each_has_alone(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test rows in one batch, in several, and none at all; a metric that gives sums by row, and one that does not."""
    found: list[bool] = []
    measure = chunk.measured

    def noted(*given: Any) -> Any:
        found.append((sums := measure(*given)) is not None)
        return sums

    monkeypatch.setattr(chunk, "measured", noted)
    sizes = {"ash": 3, "birch": 300, "cedar": 0, "elm": 128}
    rows = {n: {"train": random_rows(6, 4, size), "test": random_rows(size, 4, size)} for n, size in sizes.items()}
    task = write_task(tmp_path, TASK + CLASSES + f"loss = {loss}\n")
    stacked, exact = both(task, STRATEGY, silos(tmp_path / "silos", **rows))
    assert found == [True] * 3
    ours, theirs = (run.history().set_index(["round", "party", "metric"]).value for run in (stacked, exact))
    assert [*ours.index] == [*theirs.index]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


LOSSES: list[tuple[Any, bool]] = [
    (nn.MSELoss(), False),
    (nn.L1Loss(), False),
    (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 0.5])), False),
    (nn.CrossEntropyLoss(), True),
    (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0])), True),
    (nn.CrossEntropyLoss(), False),
]


@pytest.mark.parametrize(("loss", "classes"), LOSSES, ids=str)
def test_a_row_that_is_filled_in_counts_for_nothing(loss: Any, classes: bool) -> None:
    """Three silos with 1, 3 and 2 rows of three places, against the loss of each one's rows alone."""
    draws = torch.Generator().manual_seed(0)
    outputs = torch.randn(3, 3, 2, generator=draws)
    targets = torch.randint(0, 2, (3, 3), generator=draws) if classes else torch.rand(3, 3, 2, generator=draws)
    counts = torch.tensor([1, 3, 2])
    together = SilosLoss(loss, row_losses(loss, outputs[0], targets.flatten(0, 1)), targets)
    assert together.pads
    found = together(outputs, targets, torch.arange(3) < counts[:, None])
    alone = [loss(outputs[k, :n], targets[k, :n]) for k, n in enumerate(counts.tolist())]
    torch.testing.assert_close(found, torch.stack(alone))


def test_a_loss_that_cannot_leave_rows_out_says_so() -> None:
    outputs, targets = torch.randn(4, 2), torch.rand(4, 2)
    for loss in (nn.MSELoss(reduction="sum"), nn.KLDivLoss(reduction="batchmean"), lambda o, t: (o - t).abs().max()):
        assert not SilosLoss(loss, row_losses(loss, outputs, targets), targets).pads
    assert row_losses(nn.MSELoss(), torch.randn(4), torch.rand(4, 1)) is None  # each row would be held against all
