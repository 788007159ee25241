"""What `data` may return, the order of its rows, and one message that names silo and split for the rest."""

from collections import UserDict
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from fl_kit.batches import DatasetRows, Rows, TensorRows, call, rows_from
from fl_kit.errors import StepFailed, TaskError
from fl_kit.local import epochs
from fl_kit.strategies import FedAvg
from tests.tasks import LINEAR, random_rows, run, silos, write_task

CPU = torch.device("cpu")
WHERE = "silo ash, split 'train'"
X, Y = torch.arange(10.0).reshape(5, 2), torch.arange(5)


class Pairs(Dataset[Any]):
    """A map-style Dataset over given items."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Any:
        return self.items[place]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.ones(1), 1)])


class Unsized(Dataset[Any]):
    def __getitem__(self, place: int) -> Any:
        return torch.ones(1), 1


PAIRS = Pairs(*((X[i], int(Y[i])) for i in range(5)))


def rows(found: Any) -> Rows:
    return rows_from(found, CPU, WHERE)


def everything(found: Any, size: int = 2, order: Tensor | None = None) -> tuple[Tensor, Tensor, list[int]]:
    """Inputs and targets of all batches one after the other, and the batches' sizes."""
    batches = list(rows(found).batches(size, order))
    inputs, targets = torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])
    return inputs, targets, [len(b[1]) for b in batches]


FORMS: dict[str, Any] = {
    "tensors": (X, Y),
    "list of tensors": [X, Y],
    "arrays": (X.numpy(), Y.numpy()),
    "read-only arrays": (np.broadcast_to(X.numpy(), (5, 2)), Y.numpy()),
    "turned arrays": (X.numpy()[::-1][::-1], Y.numpy()),
    "fortran arrays": (np.asfortranarray(X.numpy()), Y.numpy()),
    "pandas": (pd.DataFrame(X.numpy()), pd.Series(Y.numpy())),
    "TensorDataset": TensorDataset(X, Y),
    "Dataset": PAIRS,
    "Subset": Subset(Pairs(*((X[i], int(Y[i])) for i in (0, 0, 1, 2, 3, 4))), range(1, 6)),
    "ConcatDataset": ConcatDataset([Subset(PAIRS, [0, 1]), Subset(PAIRS, [2, 3, 4])]),
}
every_form = pytest.mark.parametrize("found", FORMS.values(), ids=FORMS.keys())


@every_form
def test_every_form_gives_the_same_batches(found: Any) -> None:
    inputs, targets, sizes = everything(found)
    assert torch.equal(inputs, X)
    assert targets.tolist() == [0, 1, 2, 3, 4]
    assert sizes == [2, 2, 1]
    assert len(rows(found)) == 5


@every_form
def test_rows_come_in_the_order_asked_for(found: Any) -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    inputs, targets, _ = everything(found, 3, order)
    assert targets.tolist() == order.tolist()
    assert torch.equal(inputs, X[order])


@every_form
def test_a_task_of_its_own_fit_gets_what_data_returned(found: Any) -> None:
    assert rows(found).raw is found


@pytest.mark.parametrize("size", [5, 6, 1000])
def test_a_large_batch_is_all_rows(size: int) -> None:
    assert everything((X, Y), size)[2] == [5]


def test_tables_stay_tensors_and_only_other_datasets_are_loaded_item_by_item() -> None:
    assert isinstance(rows(TensorDataset(X, Y)), TensorRows)
    assert isinstance(rows(PAIRS), DatasetRows)


def test_inputs_in_a_tuple_are_arguments() -> None:
    inputs, targets = next(rows(((X, X[:, 0].numpy()), Y)).batches(2))
    assert [tuple(value.shape) for value in inputs] == [(2, 2), (2,)]
    assert targets.tolist() == [0, 1]
    assert torch.equal(call(lambda a, b: a.sum(1) + b, inputs), X[:2].sum(1) + X[:2, 0])


def test_inputs_in_a_dict_are_named_arguments() -> None:
    order = torch.tensor([4, 2, 0, 1, 3])
    inputs, _ = next(rows(({"a": X, "b": X[:, 0].numpy()}, Y)).batches(2, order))
    assert torch.equal(call(lambda b, a: a[:, 0] + b, inputs), 2 * X[[4, 2], 0])


def test_nested_inputs() -> None:
    inputs, _ = next(rows((({"a": X}, (X, X)), Y)).batches(2))
    assert torch.equal(inputs[0]["a"], inputs[1][1])


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (((torch.ones(2), torch.zeros(1)), 1), 3.0),
        (({"x": torch.ones(2), "y": torch.zeros(1)}, 1), 3.0),
        ((torch.ones(2), 1), 2.0),
    ],
    ids=["tuple", "dict", "tensor"],
)
def test_items_of_a_dataset_may_be_nested(item: Any, expected: float) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
            return x.sum() if y is None else x.sum() / 2 + y.sum() + 1

    inputs, targets = next(rows(Pairs(item, item)).batches(2))
    assert float(call(Model(), inputs)) == expected * (2 if isinstance(item[0], Tensor) else 1)
    assert targets.tolist() == [1, 1]


# what is refused


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "data() gave NoneType; return (inputs, targets)"),
        (X, "data() gave Tensor"),
        ({"x": X, "y": Y}, "data() gave dict"),
        ((X, Y, X), "data() gave tuple of length 3"),
        ((X,), "data() gave tuple of length 1"),
        (pd.DataFrame({"a": [1.0]}), "data() gave DataFrame"),
        (iter([(X, Y)]), "data() gave list_iterator"),
        (Stream(), "an IterableDataset, whose rows cannot be counted"),
        (Unsized(), "the Dataset Unsized, which has no __len__"),
        ((X, Y[:4]), "inputs of shape (5, 2) with 4 targets"),
        ((X[:0], Y), "inputs of shape (0, 2) with 5 targets"),
        (((X, X[:3]), Y), "inputs of shape (3, 2) with 5 targets"),
        (({"a": X[:3]}, Y), "inputs of shape (3, 2) with 5 targets"),
        ((torch.tensor(1.0), Y), "inputs of shape () with 5 targets"),
        ((X, torch.tensor(1.0)), "the targets are Tensor"),
        ((X, {"y": Y}), "the targets are dict"),
        ((X, (Y, Y)), "the targets are tuple of length 2"),
        ((X, None), "data() gave NoneType where a tensor was expected"),
        ((X, [0, 1, 2, 3, 4]), "data() gave list of length 5 where a tensor was expected"),
        (("a", Y), "data() gave str where a tensor was expected"),
        ((UserDict(a=X), Y), "data() gave UserDict"),
        ((np.array(["a"] * 5), Y), "ndarray of <U1 is no tensor"),
        ((pd.DataFrame({"age": ["old"] * 5, "n": range(5)}), Y), "DataFrame of object is no tensor"),
        ((np.arange(5.0).astype(">f8"), Y), "is no tensor"),
    ],
)  # fmt: skip
def test_anything_else_names_silo_and_split(found: Any, words: str) -> None:
    with pytest.raises(TaskError) as caught:
        rows(found)
    assert str(caught.value).startswith(f"{WHERE}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "item", [torch.ones(2), (torch.ones(2), 1, 1), {"x": torch.ones(2), "y": 1}], ids=["one", "three", "dict"]
)
def test_an_item_that_is_no_pair(item: Any) -> None:
    with pytest.raises(TaskError, match=r"each must be a pair \(input, target\)"):
        list(rows(Pairs(item, item)).batches(2))


@pytest.mark.parametrize(
    ("split", "body", "words"),
    [
        ("train", "return torch.ones(3, WIDTH), torch.ones(2, 1)", "silo ash, split 'train': inputs of shape"),
        ("test", "return None", "silo ash, split 'test': data() gave NoneType"),
        ("train", "return torch.ones(0, WIDTH), torch.ones(0, 1)", "silo ash, split 'train': data() gave no rows"),
    ],
)
def test_in_a_run_the_step_says_so(tmp_path: Path, split: str, body: str, words: str) -> None:
    more = (
        f"\nwhole = data\ndef data(folder, split):\n    if split == {split!r}:\n        {body}\n"
        "    return whole(folder, split)\n"
    )
    task = write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + more)
    with pytest.raises(StepFailed) as caught:
        run(task, FedAvg(), silos(tmp_path, ash=random_rows(3, 4, 0)), 1)
    assert words in str(caught.value)
    assert (caught.value.silo, caught.value.round, caught.value.op) == ("ash", 1, "fit")


# order


def order_of(seed: int, step: str, count: int, settings: FedAvg) -> list[list[int]]:
    """For each epoch the rows in their order."""
    ctx: Any = SimpleNamespace(seed=seed, step=SimpleNamespace(id=step))
    found = rows((torch.arange(float(count)), torch.arange(count)))
    return [[int(row) for _, targets in epoch for row in targets] for epoch in epochs(ctx, found, settings)]


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers())
def test_every_epoch_is_a_permutation(count: int, size: int, passes: int, seed: int) -> None:
    found = order_of(seed, "round_001/a/fit", count, FedAvg(epochs=passes, batch_size=size))
    assert [sorted(epoch) for epoch in found] == [list(range(count))] * passes


def test_the_order_follows_from_seed_silo_round_and_epoch() -> None:
    settings = FedAvg(epochs=2, batch_size=7)
    found = [
        tuple(epoch)
        for seed, step in (
            (0, "round_001/a/fit"),
            (1, "round_001/a/fit"),
            (0, "round_002/a/fit"),
            (0, "round_001/b/fit"),
        )
        for epoch in order_of(seed, step, 30, settings)
    ]
    assert len(set(found)) == len(found) == 8
    assert order_of(0, "round_001/a/fit", 30, settings) == [list(found[0]), list(found[1])]


def test_the_order_does_not_depend_on_the_size_of_batches() -> None:
    small, large = (order_of(0, "s", 30, FedAvg(batch_size=size))[0] for size in (3, 30))
    assert small == large


def test_steps_are_counted_across_epochs() -> None:
    """Five rows in twos are three batches: seven steps are two whole epochs and the first batch of a third."""
    found = order_of(0, "s", 5, FedAvg(steps=7, batch_size=2))
    assert [len(epoch) for epoch in found] == [5, 5, 2]
    assert found == [*order_of(0, "s", 5, FedAvg(epochs=2, batch_size=2)), found[2]]


def test_unshuffled_rows_come_as_they_are() -> None:
    assert order_of(0, "s", 5, FedAvg(epochs=2, shuffle=False)) == [[0, 1, 2, 3, 4]] * 2


@every_form
def test_no_form_touches_the_global_generator(found: Any) -> None:
    before = torch.get_rng_state()
    for _ in range(3):
        everything(found)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_are_made_one_by_one() -> None:
    """A Dataset's item is read when its batch is asked for, not before."""
    read: list[int] = []

    class Noting(Pairs):
        def __getitem__(self, place: int) -> Any:
            read.append(place)
            return super().__getitem__(place)

    batches = rows(Noting(*PAIRS.items)).batches(2)
    counts = [len(read)]
    for _ in batches:
        counts.append(len(read))
    assert counts[0] == 0
    assert all(later - earlier <= 2 for earlier, later in pairwise(counts))
    assert counts[-1] == 5
