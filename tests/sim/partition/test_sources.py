"""Arrays and torch Datasets: the same rows as the table's, in files without pickle."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from fl_kit.errors import DataError
from fl_kit.job import Job
from fl_kit.silo import Federation
from fl_kit.strategies.fedavg import FedAvg
from sim.in_process import InProcess
from sim.partition import IID, ByColumn, Dirichlet, Pathological
from tests.tasks import write_task

X = np.arange(60 * 4, dtype=np.float32).reshape(60, 2, 2)
Y = np.arange(60) % 3


def loaded(federation: Federation) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for silo in federation.silos:
        for split in ("train", "test"):
            with np.load(Path(silo.data) / f"{split}.npz", allow_pickle=False) as file:
                found[f"{silo.name}/{split}"] = dict(file)
    return found


class Pairs(Dataset):
    """A Dataset as people write them: an image and a whole number."""

    def __len__(self):
        return len(Y)

    def __getitem__(self, i):
        return torch.from_numpy(X[i]), int(Y[i])


@pytest.mark.parametrize(
    "data",
    [(X, Y), {"x": X, "y": Y}, TensorDataset(torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y)), Pairs()],
    ids=["arrays", "mapping", "tensors", "dataset"],
)
def test_every_form_gives_the_same_files(data, tmp_path):
    """Row i of X starts with 4 i, so each row can be followed; the same split as of a table with these labels."""
    found = loaded(Dirichlet(1.0, minimum=2).split(data, 4, seed=1, folder=tmp_path))
    rows = np.concatenate([part["x"][:, 0, 0] / 4 for part in found.values()]).astype(int)
    assert sorted(rows) == list(range(60))
    table = Dirichlet(1.0, minimum=2).split(
        pd.DataFrame({"row": range(60), "y": Y}), 4, label="y", seed=1, folder=tmp_path
    )
    for place, part in found.items():
        assert sorted(part) == ["x", "y"]
        assert part["x"].dtype == np.float32
        row = (part["x"][:, 0, 0] / 4).astype(int)
        np.testing.assert_array_equal(part["y"], Y[row])
        silo, split = place.split("/")
        assert pd.read_csv(Path(table[silo].data) / f"{split}.csv")["row"].tolist() == row.tolist()


def test_a_subset_is_a_dataset_too(tmp_path):
    found = loaded(IID().split(Subset(Pairs(), range(0, 60, 2)), 3, folder=tmp_path))
    assert sorted(np.concatenate([part["x"][:, 0, 0] for part in found.values()])) == [8 * i for i in range(30)]


def test_another_array_to_deal_by_is_left_out(tmp_path):
    site = pd.Series(np.array(["a", "b"], dtype=object)[Y % 2])
    found = ByColumn("site").split({"x": X, "y": Y, "site": site}, folder=tmp_path)
    assert found.names == ("a", "b")
    assert all(sorted(part) == ["x", "y"] for part in loaded(found).values())


def test_arrays_without_labels_can_be_dealt(tmp_path):
    assert all(sorted(part) == ["x"] for part in loaded(IID().split(X, 3, folder=tmp_path)).values())
    assert loaded(IID().split(TensorDataset(torch.from_numpy(X)), 3, folder=tmp_path)).keys()


def test_equal_arrays_share_a_folder_and_other_ones_do_not(tmp_path):
    places = [
        IID().split(data, 2, folder=tmp_path).silos[0].data for data in ((X, Y), (X.copy(), Y), (X + 1, Y), (X, Y + 1))
    ]
    assert places[0] == places[1]
    assert len(set(places)) == 3
    assert IID().split((X.astype(np.float64), Y), 2, folder=tmp_path).silos[0].data not in places


TASK = """
from pathlib import Path
import numpy as np
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

def data(folder, split):
    rows = np.load(Path(folder) / f"{split}.npz")
    return rows["x"] / 240, rows["y"]

loss = nn.CrossEntropyLoss()
"""


def test_a_task_trains_on_them(tmp_path):
    federation = Pathological(2).split((X, Y), 3, folder=tmp_path / "parts")
    job = Job(task=write_task(tmp_path, TASK), strategy=FedAvg(lr=0.1), rounds=2, device="cpu")
    run = InProcess(folder=None).start(job, federation).wait()
    assert len(run.digest()) == 64


class Endless(IterableDataset):
    def __iter__(self):
        yield 1


class Ragged(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return np.zeros(i + 1), 0


class Triples(Ragged):
    def __getitem__(self, i):
        return 1, 2, 3


class Unlabelled(Pairs):
    def __getitem__(self, i):
        return X[i]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, Y[:-1]), "different numbers of rows: x 60, y 59"),
        ((X[:0], Y[:0]), "no rows to split"),
        ({}, "no rows to split"),
        ({"x": np.array([None, 1])}, "'x' holds Python objects"),
        ({"x": X, "y": 3}, "'y' is a single value"),
        (Endless(), "Endless has no length"),
        (Ragged(), r"item 1 of the Dataset has the shape .2,. and item 0 .1,."),
        (Triples(), r"neither an input nor .input, target."),
        ("rows.csv", "not str"),
    ],
)
def test_what_has_no_rows_is_refused(data, message, tmp_path):
    with pytest.raises(DataError, match=message):
        IID().split(data, 2, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_without_labels_given_to_a_label_partitioner(tmp_path):
    with pytest.raises(DataError, match=r"Dirichlet deals by a label, and these data have none.*Datasets need targets"):
        Dirichlet().split(Unlabelled(), 2, folder=tmp_path)
