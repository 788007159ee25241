from collections import Counter
from pathlib import Path

import pytest
import torch

from fl_kit.errors import IncompatibleError, TaskError
from fl_kit.model_state import ModelState
from fl_kit.tensors import digest
from fl_kit.workbench import Workbench, choose_device
from tests.sim.small import federation, job, variant


def first_digest(bench: Workbench) -> str:
    return digest(ModelState(bench.first_model(), torch.device("cpu")).snapshot())


def test_rows_are_read_once_for_each_silo_and_split(tmp_path):
    silos, reads = federation(tmp_path), Counter()

    def load(task, folder, split):
        reads[Path(folder).name, split] += 1
        return task.module.data(folder, split)

    bench = Workbench(job().task, seed=0, load=load)
    for _ in range(3):
        for silo in silos.silos:
            for split in ("train", "test"):
                bench.rows(silo.name, silo.data, split)
    assert set(reads.values()) == {1}
    assert len(reads) == 8
    assert len(bench.rows("alpha", silos["alpha"].data, "train")) == 20


def test_data_that_draws_random_numbers_follows_from_the_seed_silo_and_split(tmp_path):
    task = job(
        variant(tmp_path, "def data(folder, split):\n    return torch.randn(4, 3).double(), torch.ones(4, 1).double()")
    ).task

    def inputs(seed: int, silo: str, split: str) -> torch.Tensor:
        return Workbench(task, seed=seed).rows(silo, f"folder of {silo}", split).inputs

    before = torch.get_rng_state()
    first = inputs(0, "alpha", "train")
    assert torch.equal(first, inputs(0, "alpha", "train"))
    for other in [(1, "alpha", "train"), (0, "bravo", "train"), (0, "alpha", "test")]:
        assert not torch.equal(first, inputs(*other))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_train_split_without_rows_names_the_silo_and_an_empty_test_split_will_do(tmp_path):
    empty = "def data(folder, split):\n    return torch.zeros(0, 3), torch.zeros(0, 1)"
    bench = Workbench(job(variant(tmp_path, empty)).task, seed=0)
    with pytest.raises(TaskError, match=r"silo alpha, split 'train'.*no rows"):
        bench.rows("alpha", "somewhere", "train")
    assert len(bench.rows("alpha", "somewhere", "test")) == 0


def test_the_first_model_follows_from_the_seed_alone():
    task = job().task
    one, same, other = (Workbench(task, seed=seed) for seed in (3, 3, 4))
    assert one.model is one.model  # the working model is made once, and must not change the first one
    assert first_digest(one) == first_digest(one) == first_digest(same)
    assert first_digest(one) != first_digest(other)


@pytest.mark.parametrize(("cuda", "mps", "chosen"), [(1, 1, "cuda"), (1, 0, "cuda"), (0, 1, "mps"), (0, 0, "cpu")])
def test_auto_takes_what_there_is(monkeypatch, cuda, mps, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert choose_device("auto").type == chosen


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_a_device_that_is_not_there_is_refused(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(IncompatibleError, match=f"{name}.*none on this machine"):
        choose_device(name)


@pytest.mark.parametrize("name", ["", "gpu", "cpu:x"])
def test_a_device_that_torch_does_not_know_is_refused(name):
    with pytest.raises(IncompatibleError, match="none that torch knows"):
        choose_device(name)
