import json
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from fl_kit import FedAvg, Federation, FedProx, Scaffold, execute
from fl_kit.door import leave
from fl_kit.errors import RunNotFound, StoreError
from fl_kit.messages import Update
from fl_kit.protocols import Run
from fl_kit.run_ids import new_id
from fl_kit.tensors import digest
from sim.in_process import InProcess
from tests.sim.small import SIZES, digests, federation, global_figures, job, undisturbed, variant

STRATEGIES = [
    FedAvg(epochs=2, batch_size=8, lr=0.2),
    FedProx(epochs=2, batch_size=8, lr=0.2, mu=0.5),
    Scaffold(epochs=2, batch_size=8, lr=0.2),
]
DROPOUT = """
def model():
    return nn.Sequential(nn.Linear(3, 8, dtype=torch.float64), nn.Dropout(0.5), nn.Linear(8, 1, dtype=torch.float64))
"""


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_the_same_seed_gives_the_same_bits_of_every_round(silos, strategy):
    runs = [undisturbed(job(strategy=strategy, seed=5), silos) for _ in range(2)]
    first, second = (digests(run, range(4)) for run in runs)
    assert first == second
    assert len(set(first)) == 4


def test_another_seed_gives_other_bits_from_the_start(silos):
    first, second = (digests(undisturbed(job(seed=seed), silos), range(4)) for seed in (0, -1))
    assert all(a != b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_the_order_in_which_silos_are_listed_changes_nothing(silos, tmp_path, strategy):
    listed_backwards = Federation(silos=tuple(reversed(silos.silos)))
    elsewhere = federation(tmp_path, dict(sorted(SIZES.items(), key=lambda item: item[1])))
    expected = digests(undisturbed(job(strategy=strategy), silos), range(4))
    assert digests(undisturbed(job(strategy=strategy), listed_backwards), range(4)) == expected
    assert digests(undisturbed(job(strategy=strategy), elsewhere), range(4)) == expected


def test_a_run_in_a_folder_has_the_bits_of_one_in_memory(silos, tmp_path):
    run = job().run(silos, on=InProcess(folder=tmp_path)).wait()
    assert digests(run, range(4)) == digests(undisturbed(job(), silos), range(4))
    assert isinstance(run, Run)
    assert run.digest(2) == digest(run.state(2).params)


def test_one_round_is_the_weighted_mean_of_the_silos_own_training(silos):
    """w1 = w0 + Σ n_k (w_k − w0) / Σ n_k, where w_k is what a federation of silo k alone ends with."""
    one = job(rounds=1)
    together = undisturbed(one, silos)
    start = together.state(0).params
    alone = {name: undisturbed(one, silos.select([name])).state(1).params for name in silos.names}
    for name, value in start.items():
        moved = sum(SIZES[silo] * (alone[silo][name] - value) for silo in silos.names)
        expected = value + moved / sum(SIZES.values())
        assert torch.allclose(together.state(1).params[name], expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("strategy", [STRATEGIES[0], STRATEGIES[2]], ids=["FedAvg", "Scaffold"])
def test_dropout_gives_the_same_bits_and_leaves_the_global_generator_alone(silos, tmp_path, strategy):
    task = job(variant(tmp_path, DROPOUT), strategy=strategy, rounds=4)
    before = torch.get_rng_state()
    expected = digests(undisturbed(task, silos), range(5))
    assert torch.equal(torch.get_rng_state(), before)
    run = task.run(silos, on=InProcess(folder=None, keep="all"))
    while run.status == "running":  # somebody else in the notebook draws meanwhile
        torch.rand(7)
    assert digests(run.wait(), range(5)) == expected


def test_dropout_draws_other_masks_in_each_silo_and_round(silos, tmp_path):
    """With one mask for all, or the same in each round, two seeds could still differ; so look at the masks."""
    seen = tmp_path / "masks.txt"
    record = f"""
class Recorded(nn.Dropout):
    def forward(self, x):
        out = super().forward(x)
        if self.training:
            with open({str(seen)!r}, "a") as file:
                print("".join("01"[int(v)] for v in (out[0] != 0)), file=file)
        return out

def model():
    return nn.Sequential(nn.Linear(3, 64, dtype=torch.float64), Recorded(0.5), nn.Linear(64, 1, dtype=torch.float64))
"""
    undisturbed(job(variant(tmp_path, record), strategy=FedAvg(batch_size=64), rounds=3), silos)
    masks = seen.read_text().split()
    assert len(masks) == 3 * len(silos)
    assert len(set(masks)) == len(masks)
    assert 0.35 < np.mean([mask.count("0") / 64 for mask in masks]) < 0.65


def pooled(folder: Path, names: tuple[str, ...], split: str) -> tuple[torch.Tensor, torch.Tensor]:
    frame = pd.concat([pd.read_csv(folder / name / f"{split}.csv") for name in names])
    inputs = torch.tensor(frame[["age", "pressure", "sugar"]].to_numpy())
    return inputs, torch.tensor(frame["ill"].to_numpy(), dtype=torch.float64)


def test_the_federations_figures_are_those_of_the_pooled_rows(tmp_path):
    silos = federation(tmp_path)
    run = undisturbed(job(rounds=4), silos)
    assert set(global_figures(run, "loss")) == {0, 1, 2, 3, 4}
    for parties, names in [("global", silos.names), *((name, (name,)) for name in silos.names)]:
        inputs, ill = pooled(tmp_path, names, "test")
        for round in range(5):
            params = run.state(round).params
            logits = inputs @ params["weight"][0] + params["bias"]
            said = logits >= 0
            hits = float((said & (ill == 1)).sum())
            expected = {
                "loss": float(F.binary_cross_entropy_with_logits(logits, ill)),
                "accuracy": float((said == (ill == 1)).double().mean()),
                "f1": 2 * hits / float(said.sum() + ill.sum()),
            }
            frame = run.history()
            rows = frame[(frame.party == parties) & (frame["round"] == round)]
            found = dict(zip(rows.metric, rows.value, strict=True))
            for metric, value in expected.items():
                assert found[metric] == pytest.approx(value, abs=1e-12), (parties, round, metric)


def test_history_is_a_tidy_frame(silos):
    frame = undisturbed(job(), silos).history()
    assert list(frame.columns) == ["round", "party", "metric", "value"]
    assert frame["round"].dtype == "int64"
    assert frame["value"].dtype == "float64"
    assert not frame.duplicated(["round", "party", "metric"]).any()
    assert frame["round"].is_monotonic_increasing
    assert set(frame.party) == {*SIZES, "global"}
    assert set(frame.metric) == {"loss", "accuracy", "f1", "train_loss", "update_norm"}


@pytest.mark.parametrize(("every", "measured"), [(1, [0, 1, 2, 3, 4, 5, 6, 7]), (3, [0, 3, 6, 7]), (0, [7])])
def test_evaluate_every_chooses_the_rounds_that_are_measured(silos, every, measured):
    runs = undisturbed(job(rounds=7, evaluate_every=every), silos), undisturbed(job(rounds=7), silos)
    assert sorted(global_figures(runs[0], "loss")) == measured
    assert sorted(global_figures(runs[0], "train_loss")) == [1, 2, 3, 4, 5, 6, 7]
    assert digests(runs[0], range(8)) == digests(runs[1], range(8))
    every_round = global_figures(runs[1], "loss")
    assert global_figures(runs[0], "loss") == {r: every_round[r] for r in measured}


def test_events_tell_the_run_in_order_and_can_be_read_on(silos):
    run = undisturbed(job(rounds=2), silos)
    names = [e.name for e in run.events() if not e.name.startswith("metric/")]
    assert names[0] == "run/started"
    assert names[-1] == "run/completed"
    assert names.count("round/completed") == 3
    metrics = ["loss", *job().task.metrics]
    begun = {"rounds": 2, "silos": sorted(SIZES), "strategy": "FedAvg", "policy": "strict", "metrics": metrics}
    assert run.events()[0].value == begun
    assert run.events(after=5) == run.events()[5:]
    assert run.events(after=len(run.events())) == []


def test_run_ids_are_unique_and_name_the_task():
    ids = {new_id("heart disease/été") for _ in range(1000)}
    assert len(ids) == 1000
    assert all("heart-disease-t" in run_id and Path(run_id).name == run_id for run_id in ids)


def test_running_again_makes_a_new_folder_and_touches_no_earlier_one(silos, tmp_path):
    first = job().run(silos, on=InProcess(folder=tmp_path)).wait()
    kept = {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    second = job().run(silos, on=InProcess(folder=tmp_path)).wait()
    assert first.id != second.id
    assert {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()} == kept


def test_the_run_folder_says_all_that_the_bits_may_depend_on(silos, tmp_path):
    run = job().run(silos, on=InProcess(folder=tmp_path, threads=2)).wait()
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["threads"] == 2
    assert environment["device"] == "cpu"
    assert environment["torch"] == torch.__version__
    assert json.loads((run.folder / "job.json").read_text())["seed"] == 0
    assert (run.folder / "task" / "logistic.py").is_file()


def test_a_run_leaves_the_number_of_threads_as_it_was(silos):
    before = torch.get_num_threads()
    job().run(silos, on=InProcess(folder=None, threads=2)).wait()
    assert torch.get_num_threads() == before


def test_start_gives_the_run_at_once_and_wait_can_time_out(silos, tmp_path):
    gate = tmp_path / "open"
    waiting = f"""
import os, time
def fit(model, data, context):
    while not os.path.exists({str(gate)!r}):
        context.check()
        time.sleep(0.005)
"""
    run = job(variant(tmp_path, waiting), rounds=1).run(silos, on=InProcess(folder=None))
    assert run.status == "running"
    assert run.wait(timeout=0.05) is run
    assert run.status == "running"
    gate.touch()
    assert run.wait() is run
    assert run.status == "completed"


def test_in_memory_only_the_last_state_is_kept_unless_asked_for_all(silos):
    run = job().run(silos, on=InProcess(folder=None)).wait()
    assert run.state().round == run.state(3).round == 3
    with pytest.raises(StoreError, match="round 1 was not kept"):
        run.state(1)


def test_a_state_that_never_was_is_one_clear_error(silos, tmp_path):
    run = job().run(silos, on=InProcess(folder=tmp_path)).wait()
    for round in (4, -2, 999):
        with pytest.raises(StoreError, match=f"round {round}"):
            run.state(round)


def test_an_unknown_id_names_the_nearest(silos, tmp_path):
    run = job(rounds=1).run(silos, on=InProcess(folder=tmp_path)).wait()
    with pytest.raises(RunNotFound, match=f"did you mean '{run.id}'"):
        InProcess(folder=tmp_path).resume(run.id[:-1])
    for odd in ("", "..", "../x", "no/such"):
        with pytest.raises(RunNotFound):
            InProcess(folder=tmp_path).resume(odd)
    with pytest.raises(RunNotFound):
        InProcess(folder=tmp_path / "nowhere").resume(run.id)


def test_stop_ends_a_long_fit_within_a_second_and_keeps_what_is_done(silos, tmp_path):
    slow = """
import time
def loss(outputs, targets):
    time.sleep(0.05)
    return nn.functional.mse_loss(outputs, targets)
"""
    task = job(variant(tmp_path, slow), strategy=FedAvg(epochs=1000, batch_size=8), rounds=2)
    run = task.run(silos, on=InProcess(folder=tmp_path / "runs"))
    while not (run.folder / "round_000" / "state" / "meta.json").exists():
        time.sleep(0.01)
    started = time.monotonic()
    run.stop()
    run.wait(timeout=10)
    assert time.monotonic() - started < 1
    assert run.status == "stopped"
    assert run.rounds_done == 0
    assert run.state().round == 0
    assert run.events()[-1].name == "run/stopped"
    assert len(run.failures) == 0


def test_runs_side_by_side_do_not_disturb_one_another(silos, tmp_path):
    task = job(variant(tmp_path, DROPOUT), rounds=5)
    expected = digests(undisturbed(task, silos), range(6))
    runs = [task.run(silos, on=InProcess(folder=tmp_path / "runs")) for _ in range(3)]
    for run in runs:
        assert digests(run.wait(), range(6)) == expected


def test_a_loader_of_ones_own_stands_in_for_folders(tmp_path):
    silos = federation(tmp_path)
    expected = digests(undisturbed(job(), silos), range(4))
    asked = set()

    def load(task, folder, split):
        asked.add((Path(folder).name, split))
        return task.module.data(folder, split)

    run = job().run(silos, on=InProcess(folder=None, keep="all", load=load)).wait()
    assert digests(run, range(4)) == expected
    assert asked == {(name, split) for name in SIZES for split in ("train", "test")}


def test_updates_held_at_once_do_not_grow_with_the_number_of_silos(tmp_path, monkeypatch):
    silos = federation(tmp_path, {f"silo-{i:02d}": 9 for i in range(50)})
    sent: list[weakref.ref[Update]] = []
    held = []

    def leaving(ctx, update, *more):
        named = leave(ctx, update, *more)
        sent.append(weakref.ref(named))
        held.append(sum(found is not None and bool(found.delta) for found in (ref() for ref in sent)))
        return named

    monkeypatch.setattr(execute, "leave", leaving)
    undisturbed(job(rounds=1, evaluate_every=0), silos)
    assert len(sent) == 100  # fit and evaluate in each of 50 silos
    assert 1 <= max(held) <= 2


def test_no_thread_is_left_behind(silos):
    before = set(threading.enumerate())
    undisturbed(job(), silos)
    patience = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < patience:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before
