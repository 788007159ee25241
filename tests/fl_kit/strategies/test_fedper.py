"""FedPer and FedBN: what is shared and what stays, by hand and in every message.

F_k(u, v) = (u − s_k)²/2 + (v − p_k)²/2: with lr 1 and full batches one round gives u = the mean of s_k by rows,
and v_k = p_k in every silo.
"""

from pathlib import Path

import pytest
import torch

from fl_kit import FedAvg, FedBN, Federation, FedPer
from fl_kit.errors import IncompatibleError, StepFailed
from fl_kit.messages import Update, read
from sim.in_process import InProcess
from sim.processes import Processes
from tests.contracts.local_azureml import LocalAzureML
from tests.tasks import BATCHNORM, LINEAR, NORMED, digests, job, random_rows, run, silos, write_task

PAIR = """
from pathlib import Path
import numpy as np
import torch
from torch import nn

class Value(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros((), dtype=torch.float64))

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.own = Value(), Value()

    def forward(self, rows):
        return torch.stack([self.shared.value, self.own.value]).expand(len(rows), 2)

def model():
    return Pair()

def data(folder, split):
    rows = torch.from_numpy(np.load(Path(folder) / f"{split}.npy", allow_pickle=False))
    return rows, rows

def loss(outputs, targets):
    return ((outputs - targets) ** 2).sum(1).mean() / 2
"""
TELLING = """
from dataclasses import dataclass
from fl_kit import FedAvg, FedPer

@dataclass(frozen=True, kw_only=True)
class Telling(FedPer):
    def fit(self, state, memory, ctx):
        return self.train(state, memory, ctx).update(), memory
"""
SIZES = {"ash": random_rows(12, 4, 1), "birch": random_rows(8, 4, 2) + 3, "cedar": random_rows(10, 4, 3) * 2}


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return write_task(tmp_path, PAIR, "pair")


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", **SIZES)


def two(tmp_path: Path) -> Federation:
    return silos(tmp_path / "two", ash=[[0, 5]] * 3, birch=[[4, 7]])


def test_the_base_is_averaged_and_each_silo_keeps_its_own(pair: Path, tmp_path: Path) -> None:
    """u = (3·0 + 1·4)/4 = 1; ash keeps 5, birch 7. The federation's loss: (3·1 + 1·9)/4 / 2 = 1.5, from u alone."""
    finished = run(pair, FedPer(lr=1, batch_size=3), two(tmp_path), 1)
    assert float(finished.state().params["shared.value"]) == 1.0
    assert float(finished.state().params["own.value"]) == 0.0  # nobody's
    assert {silo: float(kept.tensors["own"]["own.value"]) for silo, kept in finished.memories().items()} == {
        "ash": 5.0,
        "birch": 7.0,
    }
    assert [float(finished.personal(silo)["own.value"]) for silo in ("ash", "birch")] == [5.0, 7.0]
    frame = finished.history()
    last = frame[(frame.metric == "loss") & (frame["round"] == 1)].set_index("party").value
    assert (last["ash"], last["birch"], last["global"]) == (0.5, 4.5, 1.5)


def test_named_layers_are_kept_instead(pair: Path, tmp_path: Path) -> None:
    finished = run(pair, FedPer(lr=1, batch_size=3, layers="shared"), two(tmp_path), 1)
    assert float(finished.state().params["shared.value"]) == 0.0
    assert float(finished.state().params["own.value"]) == (3 * 5 + 7) / 4


@pytest.mark.parametrize("layers", [("own",), ("own.value",), ("ow*",), ("*.own.value", "own")])
def test_a_name_or_a_pattern_means_all_below_it(pair: Path, layers: tuple[str, ...]) -> None:
    module = job(pair, FedAvg(), 1).fresh_model()
    assert FedPer(layers=layers).private(module) == {"own.value"}


def test_the_usual_layers() -> None:
    module = job(NORMED, FedAvg(), 1).fresh_model()
    assert FedPer().private(module) == {"head.weight", "head.bias"}
    assert FedBN().private(module) == {
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    }


@pytest.mark.parametrize("strategy", [FedBN(lr=0.05, batch_size=4), FedPer(lr=0.05, batch_size=4)])
def test_nothing_private_is_in_any_update(strategy: FedPer, federation: Federation, tmp_path: Path) -> None:
    finished = InProcess(folder=tmp_path / "runs", keep_updates=True).start(job(NORMED, strategy, 2), federation).wait()
    private = strategy.private(finished.job.fresh_model())
    folders = sorted((tmp_path / "runs" / finished.id / "steps").glob("round_*/*/fit/update"))
    assert len(folders) == 6
    for folder in folders:
        sent = read(Update, folder)
        names = {*sent.delta, *(name for tensors in sent.extra.values() for name in tensors)}
        assert names
        assert not names & private
    for silo in finished.federation.names:
        assert finished.memories()[silo].tensors["own"].keys() == private
    for name in private:
        assert torch.equal(finished.state().params[name], finished.state(0).params[name])


def test_each_silo_normalises_its_own(federation: Federation) -> None:
    """Running mean after one batch of all rows: (1 − .1)·0 + .1·mean of the silo's own rows, torch's default."""
    finished = run(NORMED, FedBN(lr=0.05, batch_size=100), federation, 1)
    for silo, rows in SIZES.items():
        kept = finished.memories()[silo].tensors["own"]["norm.running_mean"]
        torch.testing.assert_close(kept, 0.1 * torch.from_numpy(rows[:, :3]).mean(0))


def test_with_the_head_kept_at_one_silo_alone_it_is_fedavg(tmp_path: Path) -> None:
    """A federation of one has nobody to differ from: the same figures, whatever is called private."""
    one = silos(tmp_path / "one", ash=SIZES["ash"])
    frames = [
        run(NORMED, strategy, one, 3).history() for strategy in (FedPer(lr=0.05), FedBN(lr=0.05), FedAvg(lr=0.05))
    ]
    losses = [frame[frame.metric == "loss"].value.to_numpy() for frame in frames]
    assert losses[0] == pytest.approx(losses[2], rel=1e-9)
    assert losses[1] == pytest.approx(losses[2], rel=1e-9)


def test_a_silo_that_misses_a_round_goes_on_with_what_it_kept(pair: Path, tmp_path: Path) -> None:
    """One silo a round: what each kept in its last round is still its own at the end."""
    finished = run(pair, FedPer(lr=1, batch_size=3), two(tmp_path), 3, per_round=1, seed=2)
    kept = {silo: float(finished.personal(silo)["own.value"]) for silo in ("ash", "birch")}
    drawn = {step.party for step in finished.plan.steps if step.op == "fit"}
    assert kept == {silo: {"ash": 5.0, "birch": 7.0}[silo] if silo in drawn else 0.0 for silo in ("ash", "birch")}


@pytest.mark.parametrize(
    ("strategy", "task", "said"),
    [
        (FedPer(layers="hed.*"), NORMED, r"no layer 'hed\.\*'; it has norm, head"),
        (FedPer(layers=("head", "nrom.*")), NORMED, r"no layer 'nrom\.\*'; it has norm, head"),
        (FedPer(layers=("norm", "head")), NORMED, "FedPer would keep all of the model.*it has norm, head"),
        (FedPer(layers="*"), NORMED, "would keep all of the model"),
        (FedPer(), LINEAR, "would keep all of the model.*it has one layer"),
        (FedBN(), LINEAR, "FedBN would keep nothing.*none of its usual layers; it has one layer.*or use FedAvg"),
    ],
)
def test_layers_that_are_none_or_all_are_refused(strategy: FedPer, task: Path, said: str) -> None:
    with pytest.raises(IncompatibleError, match=said):
        job(task, strategy, 1)


@pytest.mark.parametrize("layers", [3, (3,), ("head", ""), None])
def test_layers_are_names(layers: object) -> None:
    with pytest.raises(IncompatibleError, match=r"FedPer\(layers=.*must be the names of layers"):
        FedPer(layers=layers)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [FedBN(lr=0.05, batch_size=4), FedPer(lr=0.05, batch_size=4)])
def test_the_bits_are_the_same_in_processes_and_on_azureml(
    strategy: FedPer, federation: Federation, tmp_path: Path
) -> None:
    asked = job(BATCHNORM, strategy, 2)
    expected = InProcess(folder=None, keep="all").start(asked, federation).wait()
    azureml = LocalAzureML(folder=tmp_path / "azureml")
    try:
        for place in (Processes(folder=tmp_path / "runs"), azureml):
            found = asked.run(federation, on=place).wait()
            assert [found.digest(r) for r in range(3)] == digests(expected)
            order = ["round", "party", "metric"]
            ours, theirs = (one.history().sort_values(order)["value"].to_list() for one in (found, expected))
            assert ours == theirs
    finally:
        azureml.close()


def test_an_update_with_private_layers_is_malformed(federation: Federation, tmp_path: Path) -> None:
    """A silo that sends its head all the same is refused at the orchestrator's door."""
    source = NORMED.read_text(encoding="utf-8") + TELLING
    task = write_task(tmp_path, source, "telling")
    strategy = job(task, FedAvg(), 1).task.module.Telling(lr=0.1)
    with pytest.raises(
        StepFailed,
        match=r"step 'fit': malformed update: delta: missing \[\], unknown \['head.bias', 'head.weight'\]",
    ):
        run(task, strategy, federation, 1)
