"""The twins: as many gradient steps as the federation, on the same rows, with the same settings."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, TensorDataset

from fl_kit import FedAvg, Federation, FedProx, Job, Scaffold
from fl_kit.errors import IncompatibleError, TaskError
from fl_kit.protocols import Strategy
from fl_kit.tensors import digest
from sim.in_process import InProcess
from sim.run import SimulatedRun
from sim.twins import load_pooled, pooled, steps_per_round, twin_job
from tests.tasks import DROPOUT, LINEAR, QUADRATIC, job, random_rows, run, silos, write_task

SIZES = {"ash": 10, "birch": 4, "cedar": 13}
COUNTING = '''
steps = []
"""The rows of every batch that was trained on: the loss of a batch that needs a gradient is a step."""

plain = loss

def loss(outputs, targets):
    if outputs.requires_grad:
        steps.append(len(targets))
    return plain(outputs, targets)
'''
STRATEGIES = [
    FedAvg(lr=0.01, batch_size=4),
    FedAvg(lr=0.01, batch_size=3, epochs=3),
    FedAvg(lr=0.01, batch_size=4, steps=7),
    FedProx(lr=0.01, batch_size=4, mu=0.3, epochs=2),
    Scaffold(lr=0.01, batch_size=100),
]


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    rows = {name: random_rows(size, 4, seed) for seed, (name, size) in enumerate(SIZES.items())}
    tests = {name: random_rows(size // 2, 4, seed + 10) for seed, (name, size) in enumerate(SIZES.items())}
    return silos(tmp_path / "silos", **{name: {"train": rows[name], "test": tests[name]} for name in SIZES})


@pytest.fixture
def counting(tmp_path: Path) -> Path:
    return write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + COUNTING, "counting")


def train_twin(federated: Job, federation: Federation, names: tuple[str, ...], name: str = "twin") -> SimulatedRun:
    """The finished run of a twin on the rows of these silos."""
    twin, load = twin_job(federated, federation), load_pooled(federated, federation)
    return InProcess(folder=None, keep="all", load=load).start(twin, pooled(names, name)).wait()


def digests(finished: SimulatedRun) -> list[str]:
    return [digest(finished.state(round).params) for round in range(finished.plan.rounds + 1)]


# --- gradient steps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("ash", "birch", "cedar"), ("birch",)], ids=["centralised", "silo-only"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_a_twin_takes_as_many_gradient_steps_as_all_silos_together(
    federation: Federation, counting: Path, strategy: Strategy, names: tuple[str, ...]
) -> None:
    federated = job(counting, strategy, rounds=2)
    counted = federated.task.module.steps
    InProcess(folder=None).start(federated, federation).wait()
    taken = len(counted)
    counted.clear()
    train_twin(federated, federation, names)
    assert len(counted) == taken
    assert taken == 2 * steps_per_round(federated, federation)


def test_the_steps_by_hand(federation: Federation) -> None:
    """ceil(10/4) + ceil(4/4) + ceil(13/4) = 3 + 1 + 4 per epoch; a number of steps counts once a silo."""
    assert steps_per_round(job(LINEAR, FedAvg(batch_size=4), rounds=9), federation) == 8
    assert steps_per_round(job(LINEAR, FedAvg(batch_size=4, epochs=5), rounds=1), federation) == 40
    assert steps_per_round(job(LINEAR, FedAvg(batch_size=4, steps=5, epochs=9), rounds=1), federation) == 15


def test_a_twin_has_the_local_settings_and_nothing_of_the_federations(federation: Federation) -> None:
    strategy = Scaffold(lr=0.25, batch_size=5, weight_decay=0.5, shuffle=False, server_lr=0.1, server_momentum=0.9)
    federated = job(LINEAR, strategy, rounds=4, seed=9, min_silos=2)
    twin = twin_job(federated, federation)
    assert twin.strategy == FedAvg(lr=0.25, batch_size=5, weight_decay=0.5, shuffle=False, steps=2 + 1 + 3)
    assert (twin.rounds, twin.seed, twin.min_silos, twin.transforms) == (4, 9, None, ())
    assert twin.task == federated.task


# --- rows -----------------------------------------------------------------------------------------------------


def loaded(federated: Job, federation: Federation, names: tuple[str, ...], split: str) -> Any:
    (silo,) = pooled(names, "twin").silos
    return load_pooled(federated, federation)(federated.task, silo.data, split)


def test_pooled_rows_are_every_silos_rows_once_in_silo_order(federation: Federation) -> None:
    def rows(split: str) -> np.ndarray:
        return np.concatenate([np.load(Path(silo.data) / f"{split}.npy") for silo in federation.silos])

    for split in ("train", "test"):
        inputs, targets = loaded(job(LINEAR, FedAvg(), rounds=1), federation, federation.names, split)
        np.testing.assert_array_equal(torch.cat([inputs, targets], dim=1).numpy(), rows(split))


def test_a_silo_alone_trains_on_its_own_rows_and_is_tested_on_those_of_all(federation: Federation) -> None:
    federated = job(LINEAR, FedAvg(), rounds=1)
    inputs, targets = loaded(federated, federation, ("birch",), "train")
    own = np.load(Path(federation["birch"].data) / "train.npy")
    np.testing.assert_array_equal(torch.cat([inputs, targets], dim=1).numpy(), own)
    alone = loaded(federated, federation, ("birch",), "test")
    whole = loaded(federated, federation, federation.names, "test")
    assert all(torch.equal(a, b) for a, b in zip(alone, whole, strict=True))
    assert len(alone[1]) == 5 + 2 + 6


def test_rows_that_data_draws_at_random_are_those_of_the_federated_run(federation: Federation, tmp_path: Path) -> None:
    """A task may draw its split; each silo's rows still are the same in every way of training."""
    drawing = """
kept = {}
own = data

def data(folder, split):
    inputs, targets = own(folder, split)
    inputs = inputs + torch.randn_like(inputs)
    kept.setdefault((folder, split), []).append(inputs)
    return inputs, targets
"""
    path = write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + drawing, "drawing")
    federated = job(path, FedAvg(batch_size=4), rounds=1, seed=4)
    InProcess(folder=None).start(federated, federation).wait()
    train_twin(federated, federation, federation.names)
    train_twin(federated, federation, ("birch",))
    kept = federated.task.module.kept
    assert len(kept) == 6
    for drawn in kept.values():
        assert len(drawn) >= 2
        assert all(torch.equal(first, drawn[0]) for first in drawn)


WAYS_TO_GIVE_ROWS = {
    "dict": ("return {'x': inputs[:, :1], 'y': inputs[:, 1:]}, targets", dict),
    "tuple": ("return (inputs[:, :1], inputs[:, 1:]), targets", tuple),
    "nested": ("return ({'x': inputs[:, :1]}, inputs[:, 1:]), targets", tuple),
    "arrays": ("return inputs.numpy(), targets.numpy()", torch.Tensor),
    "tensor dataset": ("return torch.utils.data.TensorDataset(inputs, targets)", torch.Tensor),
    "dataset": ("return Pairs(inputs, targets)", ConcatDataset),
    "some of each": ("return Pairs(inputs, targets) if 'birch' in folder else (inputs, targets)", ConcatDataset),
}
TWO_INPUTS = """
class Split(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 1, dtype=torch.float64)

    def forward(self, x, y=None):
        x = x["x"] if isinstance(x, dict) else x
        return self.inner(x if y is None else torch.cat([x, y], dim=1))

class Pairs(torch.utils.data.Dataset):
    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]

def model():
    return Split()

own = data

def data(folder, split):
    inputs, targets = own(folder, split)
    """


@pytest.mark.parametrize("way", WAYS_TO_GIVE_ROWS)
def test_however_data_gives_its_rows_the_twin_has_the_same_bits(
    federation: Federation, tmp_path: Path, way: str
) -> None:
    source, kind = WAYS_TO_GIVE_ROWS[way]
    text = LINEAR.read_text(encoding="utf-8") + TWO_INPUTS
    plain = write_task(tmp_path, text + "return inputs, targets\n", "plain")
    other = write_task(tmp_path, text + source + "\n", "other")
    strategy = FedAvg(lr=0.05, batch_size=4)
    bits = [digests(train_twin(job(path, strategy, rounds=2), federation, federation.names)) for path in (plain, other)]
    assert bits[0] == bits[1]
    given = loaded(job(other, strategy, rounds=1), federation, federation.names, "train")
    assert isinstance(given if kind is ConcatDataset else given[0], kind)


def test_a_dataset_here_and_several_tensors_there_cannot_be_pooled(federation: Federation, tmp_path: Path) -> None:
    source = "return Pairs(inputs, targets) if 'birch' in folder else ((inputs[:, :1], inputs[:, 1:]), targets)\n"
    path = write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + TWO_INPUTS + source)
    with pytest.raises(IncompatibleError, match="some give a Dataset and some several tensors"):
        loaded(job(path, FedAvg(), rounds=1), federation, federation.names, "train")


def test_a_dataset_is_pooled_as_it_is_and_not_read_into_memory(tmp_path: Path) -> None:
    """Rows are asked for one by one: a silo of images need not fit into memory twice."""
    federation = silos(tmp_path / "silos", ash=random_rows(4, 4, 1), birch=random_rows(3, 4, 2))
    text = LINEAR.read_text(encoding="utf-8") + TWO_INPUTS + "return Pairs(inputs, targets)\n"
    dataset = loaded(job(write_task(tmp_path, text), FedAvg(), rounds=1), federation, federation.names, "train")
    assert [type(part).__name__ for part in dataset.datasets] == ["Pairs", "Pairs"]
    assert not any(isinstance(part, TensorDataset) for part in dataset.datasets)
    assert len(dataset) == 7


# --- a federation of one --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [LINEAR, DROPOUT], ids=lambda path: path.stem)
def test_alone_in_its_federation_a_silo_is_its_own_twin_to_the_bit(tmp_path: Path, task: Path) -> None:
    federation = silos(tmp_path / "silos", ash=random_rows(11, 4, 5))
    strategy = FedAvg(lr=0.05, batch_size=4, epochs=2, momentum=0.3)
    finished = run(task, strategy, federation, rounds=3, seed=2)
    twin = train_twin(job(task, strategy, rounds=3, seed=2), federation, ("ash",), "ash")
    assert digests(twin) == digests(finished)
    assert twin.history().equals(finished.history())


def test_the_centralised_twin_of_one_silo_is_the_federated_run_to_the_bit(tmp_path: Path) -> None:
    """By any name, where no draw depends on it: unshuffled."""
    federation = silos(tmp_path / "silos", ash=random_rows(11, 4, 5))
    strategy = FedAvg(lr=0.05, batch_size=4, shuffle=False)
    finished = run(LINEAR, strategy, federation, rounds=3)
    twin = train_twin(job(LINEAR, strategy, rounds=3), federation, ("ash",), "centralised")
    assert digests(twin) == digests(finished)


def test_a_centralised_step_by_hand(tmp_path: Path) -> None:
    """Full batches, so K silos give K steps a round on the pooled rows, each w ← w − lr·(w − 2)·mean x².

    x is 1 everywhere and y is 2: from w = 0 three steps with lr ½ leave 2·(1 − ½³) = 1.75.
    """
    rows = [[1.0, 2.0]]
    federation = silos(tmp_path / "silos", ash=rows * 2, birch=rows * 3, cedar=rows)
    federated = job(QUADRATIC, FedAvg(lr=0.5, batch_size=100), rounds=1)
    twin = train_twin(federated, federation, federation.names)
    assert float(twin.state().params["w"]) == 1.75
    # each silo took one such step from 0
    assert float(run(QUADRATIC, federated.strategy, federation, rounds=1).state().params["w"]) == pytest.approx(1.0)


def test_seeds_are_twins_too(federation: Federation) -> None:
    """The twin starts from the same first model, which follows from the seed alone."""
    for seed in (0, 1):
        federated = job(LINEAR, FedAvg(), rounds=1, seed=seed)
        finished = run(LINEAR, FedAvg(), federation, rounds=1, seed=seed)
        assert digests(train_twin(federated, federation, federation.names))[0] == digests(finished)[0]


# --- refusals -------------------------------------------------------------------------------------------------


def test_a_task_with_its_own_fit_is_refused(federation: Federation, tmp_path: Path) -> None:
    text = LINEAR.read_text(encoding="utf-8") + "\n\ndef fit(model, data, context):\n    pass\n"
    with pytest.raises(IncompatibleError, match=r"'made_up', which brings its own fit\(\)"):
        twin_job(job(write_task(tmp_path, text), FedAvg(), rounds=1), federation)


def test_a_strategy_without_local_settings_is_refused(federation: Federation, tmp_path: Path) -> None:
    text = """
from dataclasses import dataclass, field
from typing import Any
from fl_kit import FedAvg

@dataclass(frozen=True, kw_only=True)
class Wrapped:
    corrects_gradients = False
    remembers = False
    lr: float = 0.1

    def plan(self, federation, rounds, *, measure):
        return FedAvg(lr=self.lr).plan(federation, rounds, measure=measure)

    def check_model(self, make):
        pass
"""
    federated = job(write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + text), FedAvg(), rounds=1)
    wrapped = Job(task=federated.task, strategy=federated.task.module.Wrapped(), rounds=1)
    with pytest.raises(IncompatibleError, match="not Wrapped"):
        twin_job(wrapped, federation)


def test_a_silo_without_rows_is_named(tmp_path: Path) -> None:
    federation = silos(
        tmp_path / "silos", ash=random_rows(4, 4, 1), birch={"train": np.zeros((0, 4)), "test": np.zeros((0, 4))}
    )
    with pytest.raises(TaskError, match=r"silo birch, split 'train'.*no rows"):
        twin_job(job(LINEAR, FedAvg(), rounds=1), federation)


def test_a_silo_without_test_rows_is_pooled(tmp_path: Path) -> None:
    rows = random_rows(4, 4, 1)
    federation = silos(tmp_path / "silos", ash=rows, birch={"train": rows, "test": np.zeros((0, 4))})
    finished = train_twin(job(LINEAR, FedAvg(lr=0.01), rounds=1), federation, federation.names)
    assert math.isfinite(finished.history()["value"].iloc[-1])
