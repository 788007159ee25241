"""Job(init=…): a job that starts from given weights, wherever they come from."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from fl_kit import FedAvg, Federation, Job
from fl_kit.bundle import verify, write_bundle
from fl_kit.errors import IncompatibleError, StoreError, TaskError
from fl_kit.given_weights import INIT_FILE, GivenWeights
from fl_kit.tensors import digest
from sim.in_process import InProcess
from sim.twins import twin_job
from tests.tasks import BATCHNORM, LINEAR, QUADRATIC, digests, job, random_rows, run, scalar, silos, write_task

STANDARDIZED = """
from fl_kit import Standardize

def model():
    return nn.Sequential(Standardize(WIDTH), nn.Linear(WIDTH, 1)).double()
"""
TIED = """
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH, dtype=torch.float64)
        self.again = self.first
        self.last = nn.Linear(WIDTH, 1, dtype=torch.float64)

    def forward(self, x):
        return self.last(self.again(self.first(x)))


def model():
    return Tied()
"""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", ash=random_rows(10, 4, 1), birch=random_rows(6, 4, 2))


def linear(weight: float, bias: float) -> nn.Module:
    model = nn.Linear(3, 1, dtype=torch.float64)
    with torch.no_grad():
        model.weight.fill_(weight)
        model.bias.fill_(bias)
    return model


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_by_hand(tmp_path: Path) -> None:
    """(w − 3)²/2 from w = 5 with lr 0.25: 5 − 0.25·2 = 4.5, then 4.125."""
    federation = silos(tmp_path, a=[[1.0, 3.0]])
    start = {"w": torch.tensor(5.0, dtype=torch.float64)}
    finished = run(QUADRATIC, FedAvg(lr=0.25), federation, 2, init=start)
    assert [scalar(finished.state(round).params) for round in range(3)] == [5.0, 4.5, 4.125]


def test_wherever_they_come_from(federation: Federation, tmp_path: Path) -> None:
    module = linear(0.5, -1.0)
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    earlier = run(LINEAR, FedAvg(), federation, 1, init=module)
    given = [tmp_path / "weights.safetensors", str(tmp_path / "weights.safetensors"), module, earlier.state(0)]
    jobs = [job(LINEAR, FedAvg(), 2, init=init) for init in [*given, module.state_dict()]]
    assert all(asked == jobs[0] for asked in jobs)
    assert len({asked.to_json() for asked in jobs}) == 1
    assert same(run(LINEAR, FedAvg(), federation, 2, init=given[0]).state(0).params, dict(module.state_dict()))


def test_an_earlier_run_is_gone_on_with(federation: Federation, tmp_path: Path) -> None:
    """FedAvg keeps nothing beside its parameters: full batches, so 2 rounds and 3 more are 5. Its file serves too."""
    strategy = FedAvg(batch_size=10, shuffle=False)
    whole = run(LINEAR, strategy, federation, 5)
    first = InProcess(folder=tmp_path / "runs").start(job(LINEAR, strategy, 2), federation).wait()
    file = tmp_path / "runs" / first.id / "round_002" / "state" / "tensors.safetensors"
    for init in (first, file):
        assert digests(run(LINEAR, strategy, federation, 3, init=init)) == digests(whole)[2:]


def test_buffers_are_part_of_it(federation: Federation) -> None:
    earlier = run(BATCHNORM, FedAvg(lr=0.05), federation, 2)
    again = run(BATCHNORM, FedAvg(lr=0.05), federation, 1, init=earlier)
    assert again.digest(0) == earlier.digest(2)


def test_what_happens_to_the_source_later_changes_nothing(federation: Federation) -> None:
    module = linear(0.5, -1.0)
    asked = job(LINEAR, FedAvg(), 1, init=module)
    with torch.no_grad():
        module.weight.zero_()
    finished = InProcess(folder=None, keep="all").start(asked, federation).wait()
    assert float(finished.state(0).params["weight"][0, 0]) == 0.5


def test_job_json_holds_the_digest_and_the_weights_go_with_it(federation: Federation) -> None:
    module = linear(0.5, -1.0)
    asked = job(LINEAR, FedAvg(), 1, init=module)
    assert json.loads(asked.to_json())["init"] == digest(dict(module.state_dict()))
    again = Job.from_json(asked.to_json(), asked.task.source, module)
    assert again == asked
    assert asked != job(LINEAR, FedAvg(), 1)
    assert asked != job(LINEAR, FedAvg(), 1, init=linear(0.5, -2.0))
    assert f"starts from given weights, sha256 {asked.init.sha256}" in str(asked.review(federation).table().note)
    for wrong in (None, linear(0.5, -2.0)):
        with pytest.raises(TaskError, match=r"starts from the weights of sha256 .*; give just those as init="):
            Job.from_json(asked.to_json(), asked.task.source, wrong)


def test_they_travel_in_the_bundle_to_the_byte(federation: Federation, tmp_path: Path) -> None:
    asked = job(LINEAR, FedAvg(), 1, init=linear(0.5, -1.0))
    first, second = (write_bundle(asked, asked.plan(federation), tmp_path / name) for name in ("one", "two"))
    assert first.digest == second.digest
    assert verify(tmp_path / "one").job() == asked
    assert same(verify(tmp_path / "one").job().init.tensors, asked.init.tensors)
    assert INIT_FILE not in dict(json.loads((write_without(federation, tmp_path)).read_text())["files"])


def write_without(federation: Federation, folder: Path) -> Path:
    plain = job(LINEAR, FedAvg(), 1)
    return write_bundle(plain, plain.plan(federation), folder / "plain").folder / "manifest.json"


def test_a_run_folder_holds_them_and_resumes(federation: Federation, tmp_path: Path) -> None:
    """Resumed before its first round is done, it begins with the given weights again."""
    backend = InProcess(folder=tmp_path / "runs")
    asked = job(LINEAR, FedAvg(), 2, init=linear(0.5, -1.0))
    finished = backend.start(asked, federation).wait()
    whole, folder = digests(finished), tmp_path / "runs" / finished.id
    for round in range(3):
        for file in sorted((folder / f"round_{round:03d}").rglob("*.*")):
            file.unlink()
    (folder / "events.jsonl").unlink()
    again = backend.resume(finished.id)
    assert again.job == asked
    assert digests(again.wait()) == whole


def test_a_file_that_was_changed_in_the_run_folder_is_refused(federation: Federation, tmp_path: Path) -> None:
    backend = InProcess(folder=tmp_path / "runs")
    finished = backend.start(job(LINEAR, FedAvg(), 1, init=linear(0.5, -1.0)), federation).wait()
    folder = tmp_path / "runs" / finished.id
    (folder / INIT_FILE).write_bytes(GivenWeights.of(linear(0.5, -2.0)).to_bytes())
    for file in sorted((folder / "round_000").rglob("*.*")) + sorted((folder / "round_001").rglob("*.*")):
        file.unlink()
    (folder / "events.jsonl").unlink()
    with pytest.raises(IncompatibleError, match=r"init.safetensors was changed: its weights are not those"):
        backend.resume(finished.id)


def test_tied_parameters_may_go_by_any_of_their_names(federation: Federation, tmp_path: Path) -> None:
    task = write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + TIED)
    module = job(task, FedAvg(), 1).task.module.model()
    save_model(module, str(tmp_path / "tied.safetensors"))  # it drops one of the two names
    from_file, from_module = (
        run(task, FedAvg(), federation, 1, init=init) for init in (tmp_path / "tied.safetensors", module)
    )
    assert digests(from_file) == digests(from_module)
    assert torch.equal(from_file.state(0).params["first.weight"], module.first.weight.detach())


def test_standardisation_that_was_learnt_is_kept(tmp_path: Path) -> None:
    """The second federation's rows are far off, and nobody is asked for sums: the weights belong to the first's."""
    task = write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + STANDARDIZED)
    near = silos(tmp_path / "near", a=random_rows(10, 4, 1))
    far = silos(tmp_path / "far", a=random_rows(10, 4, 1) + 50)
    earlier = run(task, FedAvg(lr=0.01), near, 2)
    asked = job(task, FedAvg(lr=0.01), 1, init=earlier)
    assert [step.op for step in asked.plan(far).steps] == ["init", "fit", "aggregate", "evaluate", "report"]
    again = run(task, FedAvg(lr=0.01), far, 1, init=earlier)
    assert same(again.state(0).params, earlier.state().params)


def test_a_standardisation_that_is_as_new_is_measured(tmp_path: Path) -> None:
    task = write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + STANDARDIZED)
    rows = random_rows(10, 4, 1) + 50
    federation = silos(tmp_path / "silos", a=rows)
    module = job(task, FedAvg(), 1).task.module.model()
    finished = run(task, FedAvg(lr=0.01), federation, 1, init=module)
    np.testing.assert_allclose(finished.state(0).params["0.mean"], rows[:, :3].mean(axis=0), rtol=1e-12)
    assert torch.equal(finished.state(0).params["1.weight"], module[1].weight.detach())


def test_twins_start_from_them_too(federation: Federation) -> None:
    asked = job(LINEAR, FedAvg(), 1, init=linear(0.5, -1.0))
    assert twin_job(asked, federation).init == asked.init
    assert replace(asked, rounds=2).init is asked.init


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(1, 3).double()}, "does not fit the task's model: missing 'bias', unknown nothing"),
        ({f"model.{n}": v for n, v in linear(0, 0).state_dict().items()}, "missing 'weight', 'bias', unknown 'model.w"),
        (linear(0, 0).float(), r"has 'weight' as torch.float32 \(1, 3\), and the task's model as torch.float64 \(1, 3"),
        (nn.Linear(4, 1).double(), r"has 'weight' as torch.float64 \(1, 4\), and the task's model as .* \(1, 3\)"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_runs(federation: Federation, tensors: Any, message: str) -> None:
    asked = job(LINEAR, FedAvg(), 1, init=tensors)
    with pytest.raises(IncompatibleError, match=message):
        asked.plan(federation)


def test_what_is_no_source(federation: Federation, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"PK\x03\x04 as torch.save writes it")
    backend = InProcess(folder=None)
    for init, message in (
        (tmp_path / "model.pt", "is not safetensors .*fl-kit reads no pickle"),
        (tmp_path / "nowhere.safetensors", "nowhere.safetensors cannot be read"),
        (3, r"Job\(init=3\): give a safetensors file, a torch module, a run that has ended, or its state"),
        (linear(float("nan"), 0.0), "has values that are not finite in 'weight'"),
        (linear(0.0, float("inf")), "has values that are not finite in 'bias'"),
    ):
        with pytest.raises(IncompatibleError, match=message):
            job(LINEAR, FedAvg(), 1, init=init)
    slow = backend.start(job(LINEAR, FedAvg(epochs=100_000), 1), federation)
    try:
        with pytest.raises(IncompatibleError, match="is still running: wait for it"):
            job(LINEAR, FedAvg(), 1, init=slow)
    finally:
        slow.stop()


def test_a_run_folder_without_its_weights_is_damaged(federation: Federation, tmp_path: Path) -> None:
    backend = InProcess(folder=tmp_path / "runs")
    finished = backend.start(job(LINEAR, FedAvg(), 1, init=linear(0.5, -1.0)), federation).wait()
    folder = tmp_path / "runs" / finished.id
    (folder / "job.json").write_text((folder / "job.json").read_text().replace(finished.job.init.sha256, "no digest"))
    with pytest.raises(StoreError, match=r"job.json .*is damaged"):
        backend.resume(finished.id)
