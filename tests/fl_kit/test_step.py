"""One step as a command: folders in, folders out, and the bits and figures of the run in one process."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import fl_kit
from fl_kit import FedAvg, Federation, FedProx, Job, Scaffold
from fl_kit import step as command
from fl_kit.bundle import write_bundle
from fl_kit.errors import LocalityError
from fl_kit.events import SILO_LEFT_OUT, STEP_FAILED, STEP_TIMED, Event, EventLog
from fl_kit.history import history
from fl_kit.messages import META_FILE, TENSORS_FILE, Memory, State, Update, read, write
from fl_kit.plan import ORCHESTRATOR, Plan, Step, step_id
from fl_kit.protocols import Strategy
from fl_kit.step_inputs import newest
from fl_kit.tensors import digest
from sim import samples
from sim.run import SimulatedRun
from tests.tasks import BATCHNORM, DROPOUT, LINEAR, job, random_rows, run, silos, write_task

STRATEGIES = [
    FedAvg(lr=0.1, batch_size=4, momentum=0.5),
    FedProx(lr=0.1, batch_size=4, mu=0.5, epochs=2),
    Scaffold(lr=0.1, batch_size=4, server_lr=0.9),
]
STANDARDIZED = """
from pathlib import Path
import numpy as np
import torch
from torch import nn
from fl_kit import Standardize
from fl_kit.metrics import MeanSquaredError

def model():
    first = Standardize(3, flag_missing=True)
    return nn.Sequential(first, nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))

def data(folder, split):
    rows = torch.from_numpy(np.load(Path(folder) / f"{split}.npy", allow_pickle=False)).float()
    return rows[:, :3], rows[:, 3:]

loss = nn.MSELoss()
metrics = [MeanSquaredError()]
"""


class Folders:
    """A plan's steps run one by one through the command, each output in the folder `<step id>/<output>`."""

    def __init__(self, job: Job, federation: Federation, place: Path) -> None:
        self.federation = federation
        self.plan = job.plan(federation)
        self.place = place
        self.bundle = write_bundle(job, self.plan, place / "bundle")

    def folder(self, source: str) -> Path:
        step, _, output = source.partition(":")
        return self.place / step / output

    def events_file(self, step: Step) -> Path:
        return self.place / step.id / "events.jsonl"

    def arguments(self, step: Step, *, without: tuple[str, ...] = ()) -> list[str]:
        found = ["--bundle", str(self.bundle.folder), "--step", step.id, "--events", str(self.events_file(step))]
        self.events_file(step).parent.mkdir(parents=True, exist_ok=True)
        for name, source in step.inputs.items():
            if name in without:
                continue
            data = name == "data"
            found += (
                ["--data", self.federation[step.party].data] if data else ["--input", f"{name}={self.folder(source)}"]
            )
        for name in step.outputs:
            found += ["--output", f"{name}={self.folder(f'{step.id}:{name}')}"]
        return found

    def run(self, step: Step, **options: Any) -> int:
        return command.main(self.arguments(step, **options))

    def run_until(self, step_id: str) -> Step:
        """Run all that comes before a step; gives the step."""
        for step in self.plan.steps:
            if step.id == step_id:
                return step
            assert self.run(step) == 0, step.id
        raise AssertionError(f"the plan has no {step_id}")

    def run_all(self) -> "Folders":
        for step in self.plan.steps:
            assert self.run(step) == 0, step.id
        return self

    def state(self, round: int) -> State:
        op = "aggregate" if round else "init"
        return read(State, self.folder(f"{step_id(round, ORCHESTRATOR, op)}:state"))

    def digests(self) -> list[str]:
        return [digest(self.state(round).params) for round in range(self.plan.rounds + 1)]

    def events(self) -> list[Event]:
        """The events of every step, in the plan's order."""
        files = [self.events_file(step) for step in self.plan.steps]
        return [event for file in files if file.exists() for event in EventLog.load(file).read()]


def undisturbed(folders: Folders, job: Job) -> SimulatedRun:
    return run(job.task, job.strategy, folders.federation, job.rounds, seed=job.seed, min_silos=job.min_silos)


def expected_digests(finished: SimulatedRun) -> list[str]:
    return [finished.digest(round) for round in range(finished.plan.rounds + 1)]


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["round", "party", "metric"]).reset_index(drop=True)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", ash=random_rows(10, 4, 1), birch=random_rows(4, 4, 2), cedar=random_rows(14, 4, 3))


@pytest.fixture
def standardized(tmp_path: Path) -> Path:
    return write_task(tmp_path, STANDARDIZED)


@pytest.fixture
def fit_ready(federation: Federation, tmp_path: Path) -> tuple[Folders, Step]:
    """A federation under Scaffold where everything is ready for `birch` to fit in round 2."""
    folders = Folders(job(LINEAR, Scaffold(lr=0.1), rounds=2), federation, tmp_path / "run")
    return folders, folders.run_until("round_002/birch/fit")


@pytest.fixture
def aggregate_ready(federation: Federation, tmp_path: Path) -> tuple[Folders, Step]:
    """The same federation under FedAvg without a quorum, ready to aggregate round 1."""
    return ready_to_aggregate(federation, tmp_path / "run", min_silos=None)


def ready_to_aggregate(federation: Federation, place: Path, min_silos: int | None) -> tuple[Folders, Step]:
    folders = Folders(job(LINEAR, FedAvg(lr=0.1), rounds=1, min_silos=min_silos), federation, place)
    return folders, folders.run_until("round_001/orchestrator/aggregate")


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said, which must be one line on stderr."""
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


# --- the bits and figures of the run in one process -----------------------------------------------------------


@pytest.mark.parametrize("task", ["linear", "batchnorm", "dropout", "standardized"])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: type(s).__name__)
def test_every_step_through_folders_gives_the_bits_and_figures_of_in_process(
    federation: Federation, tmp_path: Path, standardized: Path, strategy: Strategy, task: str
) -> None:
    source = {"linear": LINEAR, "batchnorm": BATCHNORM, "dropout": DROPOUT, "standardized": standardized}[task]
    wanted = job(source, strategy, rounds=2, seed=3)
    folders = Folders(wanted, federation, tmp_path / "run").run_all()
    finished = undisturbed(folders, wanted)
    assert folders.digests() == expected_digests(finished)
    assert len(set(folders.digests())) == 3
    for round in range(3):  # the strategy's own memory too
        mine, theirs = folders.state(round).memory, finished.state(round).memory
        assert {g: digest(t) for g, t in mine.items() if t} == {g: digest(t) for g, t in theirs.items() if t}
    pd.testing.assert_frame_equal(in_order(history(folders.events())), in_order(finished.history()), check_exact=True)
    assert set(finished.history()["round"]) == {0, 1, 2}


@pytest.mark.sample
def test_four_hospitals_step_by_step(tmp_path: Path) -> None:
    sample = samples.load("heart_disease")
    source = f'''
from pathlib import Path
import pandas as pd
import torch
from torch import nn
from fl_kit import Standardize
from fl_kit.metrics import AUC

WIDTH = {len(sample.features)}

def model():
    return nn.Sequential(Standardize(WIDTH, flag_missing=True), nn.Linear(2 * WIDTH, 1))

def data(folder, split):
    frame = pd.read_csv(Path(folder) / f"{{split}}.csv")
    targets = torch.tensor(frame.pop("{sample.target}").to_numpy(), dtype=torch.float32)
    return torch.tensor(frame.to_numpy(), dtype=torch.float32), targets[:, None]

loss = nn.BCEWithLogitsLoss()
metrics = [AUC()]
'''
    hospitals = sample.federation(seed=0, folder=tmp_path / "hospitals")
    strategy = Scaffold(lr=0.03, batch_size=16, weight_decay=0.01)
    wanted = job(write_task(tmp_path, source, "heart"), strategy, rounds=2)
    folders = Folders(wanted, hospitals, tmp_path / "run").run_all()
    finished = undisturbed(folders, wanted)
    assert folders.digests() == expected_digests(finished)
    pd.testing.assert_frame_equal(in_order(history(folders.events())), in_order(finished.history()), check_exact=True)


# --- alone, from the bundle -----------------------------------------------------------------------------------


def alone(folders: Folders, place: Path) -> dict[str, str]:
    """The environment of a silo that has the bundle and no checkout."""
    place.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(folders.bundle.folder), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_whole_plan_runs_from_the_bundle_alone(federation: Federation, tmp_path: Path) -> None:
    wanted = job(DROPOUT, Scaffold(lr=0.1, batch_size=4), rounds=1, seed=5)
    two = federation.select(["ash", "birch"])
    folders = Folders(wanted, two, tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    environment = alone(folders, elsewhere)
    where = subprocess.run(
        [sys.executable, "-c", "import fl_kit, fl_kit.step; print(fl_kit.__file__); print(fl_kit.step.__file__)"],
        cwd=elsewhere, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for line in where.stdout.splitlines():
        assert Path(line).is_relative_to(folders.bundle.folder)
    assert not Path(fl_kit.__file__).is_relative_to(folders.bundle.folder)
    for step in folders.plan.steps:
        arguments = [*folders.arguments(step), "--digest", folders.bundle.digest]
        done = subprocess.run(
            [sys.executable, "-m", "fl_kit.step", *arguments],
            cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), step.id
    finished = undisturbed(folders, wanted)
    assert folders.digests() == expected_digests(finished)
    pd.testing.assert_frame_equal(in_order(history(folders.events())), in_order(finished.history()), check_exact=True)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.slow
def test_a_step_alone_that_fails_exits_with_1_and_one_line(federation: Federation, tmp_path: Path) -> None:
    folders = Folders(job(LINEAR, FedAvg(), rounds=1), federation, tmp_path / "run")
    step = folders.plan.by_id["round_001/ash/fit"]
    done = subprocess.run(
        [sys.executable, "-m", "fl_kit.step", *folders.arguments(step)],
        cwd=tmp_path, env=alone(folders, tmp_path / "elsewhere"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("MessageError: ")
    assert "holds no whole message" in line


# --- what was asked for and what was given --------------------------------------------------------------------


def test_a_step_that_the_plan_does_not_have(
    fit_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = fit_ready
    arguments = [a if a != step.id else "round_009/birch/fit" for a in folders.arguments(step)]
    assert command.main(arguments) == 1
    assert only_line(capsys) == "PlanError: the plan has no step 'round_009/birch/fit'"


@pytest.mark.parametrize("missing", ["state", "memory"])
def test_an_input_that_is_not_given(
    fit_ready: tuple[Folders, Step], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = fit_ready
    assert folders.run(step, without=(missing,)) == 1
    line = only_line(capsys)
    given = [name for name in ("memory", "state") if name != missing]
    assert line == f"PlanError: {step.id} takes the inputs ['memory', 'state'], was given {given}"


def test_data_that_is_not_given(fit_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]) -> None:
    folders, step = fit_ready
    assert folders.run(step, without=("data",)) == 1
    assert only_line(capsys) == f"PlanError: {step.id} needs --data"


def test_the_orchestrator_takes_no_data(
    aggregate_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = aggregate_ready
    assert command.main([*folders.arguments(step), "--data", folders.federation["ash"].data]) == 1
    assert only_line(capsys) == f"PlanError: {step.id} takes no --data"


def test_the_orchestrator_takes_no_silos_memory(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = Folders(job(LINEAR, Scaffold(lr=0.1), rounds=1), federation, tmp_path / "run")
    step = folders.run_until("round_001/orchestrator/aggregate")
    memory = folders.folder("round_001/ash/fit:memory")
    assert read(Memory, memory).tensors
    assert command.main([*folders.arguments(step), "--input", f"memory={memory}"]) == 1
    line = only_line(capsys)
    assert line.startswith(f"PlanError: {step.id} takes the inputs ")
    assert "'memory'" in line


def test_a_plan_in_which_another_party_reads_a_memory_never_becomes_steps(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = job(LINEAR, Scaffold(lr=0.1), rounds=1)
    steps = [
        replace(step, inputs={**step.inputs, "memory": "round_001/ash/fit:memory"}) if step.op == "aggregate" else step
        for step in wanted.plan(federation).steps
    ]
    with pytest.raises(LocalityError, match="private to ash"):
        Plan(steps=tuple(steps)).check()
    bundle = write_bundle(wanted, Plan(steps=tuple(steps)), tmp_path / "bundle")
    assert command.main(["--bundle", str(bundle.folder), "--step", "round_001/orchestrator/aggregate"]) == 1
    assert only_line(capsys).startswith("LocalityError: round_001/orchestrator/aggregate would read 'memory'")


@pytest.mark.parametrize("extra", [["--input", "update/oak=x"], ["--input", "noise=x"]], ids=lambda e: e[1])
def test_an_input_too_many(
    aggregate_ready: tuple[Folders, Step], extra: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = aggregate_ready
    assert command.main([*folders.arguments(step), *extra]) == 1
    line = only_line(capsys)
    assert line.startswith(f"PlanError: {step.id} takes the inputs ['state', 'update/ash', ")
    assert extra[1].removesuffix("=x") in line


def test_an_input_or_output_given_twice(
    fit_ready: tuple[Folders, Step], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = fit_ready
    for option, name in (("--input", "state"), ("--output", "update")):
        assert command.main([*folders.arguments(step), option, f"{name}={tmp_path / 'other'}"]) == 1
        line = only_line(capsys)
        assert line.startswith(f"PlanError: {name} is given twice: ")
        assert str(tmp_path / "other") in line


def test_an_output_too_few_or_too_many(
    fit_ready: tuple[Folders, Step], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = fit_ready
    whole = folders.arguments(step)
    assert command.main(whole[:-2]) == 1
    assert only_line(capsys) == f"PlanError: {step.id} has the outputs ['memory', 'update'], was given ['update']"
    assert command.main([*whole, "--output", f"state={tmp_path}"]) == 1
    assert "was given ['memory', 'state', 'update']" in only_line(capsys)
    assert not folders.folder(f"{step.id}:update").exists()


@pytest.mark.parametrize("text", ["state", "=x", "state="])
def test_what_is_no_pair_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--bundle", "b", "--step", "s", "--input", text])
    assert caught.value.code == 2
    assert f"expected NAME=FOLDER, found {text!r}" in capsys.readouterr().err


def test_a_bundle_that_was_changed_runs_nothing(
    fit_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = fit_ready
    with (folders.bundle.folder / "task" / "linear.py").open("a") as file:
        file.write("raise SystemExit(3)\n")
    assert folders.run(step) == 1
    assert only_line(capsys).startswith("BundleError: task/linear.py was changed")


def test_a_bundle_of_another_digest_runs_nothing(
    fit_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = fit_ready
    assert command.main([*folders.arguments(step), "--digest", "f" * 64]) == 1
    assert only_line(capsys).startswith("BundleError: the bundle in ")


# --- what the folders hold ------------------------------------------------------------------------------------


def truncate(folder: Path) -> None:
    file = folder / TENSORS_FILE
    file.write_bytes(file.read_bytes()[:-1])


def test_a_state_of_another_kind(fit_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]) -> None:
    folders, step = fit_ready
    state, memory = (folders.folder(step.inputs[name]) for name in ("state", "memory"))
    shutil.rmtree(state)
    shutil.copytree(memory, state)
    assert folders.run(step) == 1
    assert only_line(capsys) == f"MessageError: {state} holds 'memory', expected 'state'"


def test_a_truncated_memory(fit_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]) -> None:
    folders, step = fit_ready
    memory = folders.folder(step.inputs["memory"])
    truncate(memory)
    assert folders.run(step) == 1
    line = only_line(capsys)
    assert line.startswith(f"MessageError: {memory} is not a memory: it has ")
    assert line.endswith("it is not whole")


def test_an_update_of_another_silo(aggregate_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]) -> None:
    folders, step = aggregate_ready
    ash, birch = (folders.folder(step.updates[silo]) for silo in ("ash", "birch"))
    shutil.rmtree(ash)
    shutil.copytree(birch, ash)
    assert folders.run(step) == 1
    assert only_line(capsys) == (
        f"StepFailed: orchestrator, round 1, step 'aggregate': the update of ash: {ash} holds an update of 'birch': "
        "swapped between silos"
    )


def flip_a_bit(place: Path) -> None:
    """Another number than the silo sent: finite, in place, and the file as long as before."""
    file = place / TENSORS_FILE
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(data)


def without_manifest(place: Path) -> None:
    """As an fl-kit before manifests wrote it."""
    write(replace(read(Update, place), origin=None), place)


def of_another(**changes: str) -> Any:
    def change(place: Path) -> None:
        update = read(Update, place)
        assert update.origin is not None
        write(replace(update, origin=replace(update.origin, **changes)), place)

    return change


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (flip_a_bit, "was changed or damaged: its tensors' sha256 is not the one in its meta.json"),
        (without_manifest, "does not say which step made it"),
        (of_another(step="round_002/ash/fit"), "stale or replayed, of another round. Let ash run round_001/ash/fit"),
        (of_another(start="f" * 64), "it was made from the state ffffffffffff…, and round 1 began with "),
        (of_another(bundle="e" * 64), "it was made under the bundle eeeeeeeeeeee…, and this run's is "),
    ],
)
def test_an_update_whose_manifest_is_not_this_rounds(
    aggregate_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str], spoil: Any, expected: str
) -> None:
    folders, step = aggregate_ready
    spoil(folders.folder(step.updates["ash"]))
    assert folders.run(step) == 1
    line = only_line(capsys)
    assert line.startswith("StepFailed: orchestrator, round 1, step 'aggregate': the update of ash: ")
    assert expected in line


def test_a_truncated_update(aggregate_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]) -> None:
    folders, step = aggregate_ready
    truncate(folders.folder(step.updates["cedar"]))
    assert folders.run(step) == 1
    line = only_line(capsys)
    assert line.startswith("StepFailed: orchestrator, round 1, step 'aggregate': the update of cedar: ")
    assert line.endswith("it is not whole")
    assert not folders.folder(f"{step.id}:state").exists()


def test_a_missing_update_without_a_quorum_is_named(
    aggregate_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = aggregate_ready
    assert folders.run(step, without=("update/birch",)) == 1
    line = only_line(capsys)
    assert line.endswith("was given ['state', 'update/ash', 'update/cedar']")
    shutil.rmtree(folders.folder(step.updates["birch"]))
    assert folders.run(step) == 1
    assert "the update of birch: " in only_line(capsys)


def test_an_output_that_cannot_be_written(fit_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]) -> None:
    folders, step = fit_ready
    place = folders.folder(f"{step.id}:memory")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("in the way")
    assert folders.run(step) == 1
    assert only_line(capsys).startswith(f"MessageError: output memory cannot be written to {place}: ")


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False), ("3", False)])
def test_of_several_processes_of_a_step_the_first_speaks(
    fit_ready: tuple[Folders, Step], monkeypatch: pytest.MonkeyPatch, rank: str, speaks: bool
) -> None:
    """RANK is how a distributed launcher numbers them; two that write one folder would destroy it."""
    folders, step = fit_ready
    monkeypatch.setenv("RANK", rank)
    assert folders.run(step) == 0
    assert {name: folders.folder(f"{step.id}:{name}").exists() for name in step.outputs} == {
        "update": speaks,
        "memory": speaks,
    }


def test_a_file_of_events_is_never_written_over(
    fit_ready: tuple[Folders, Step], capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = fit_ready
    folders.events_file(step).parent.mkdir(parents=True, exist_ok=True)
    folders.events_file(step).write_text("what another step said\n")
    assert folders.run(step) == 1
    assert only_line(capsys).startswith("StoreError: ")
    assert folders.events_file(step).read_text() == "what another step said\n"


# --- errors of the user's code --------------------------------------------------------------------------------

BROKEN = {
    "loss": (
        "def loss(outputs, targets):\n    return outputs.nonsense()\n",
        "AttributeError",
        "return outputs.nonsense()",
    ),
    "data": ("def data(folder, split):\n    return open('absent')\n", "FileNotFoundError", "return open('absent')"),
    "model": ("def model():\n    raise ValueError('too deep')\n", "ValueError", "raise ValueError('too deep')"),
    "exit": ("def data(folder, split):\n    raise SystemExit(0)\n", "SystemExit", "raise SystemExit(0)"),
}


@pytest.mark.parametrize("part", BROKEN)
def test_an_error_in_the_task_shows_its_traceback_and_line_and_leaves_an_event(
    federation: Federation, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, kind, line = BROKEN[part]
    broken = job(LINEAR, FedAvg(), rounds=1)
    folders = Folders(broken, federation, tmp_path / "good")
    folders.run_until("round_001/ash/fit")
    text = f"{LINEAR.read_text()}\n\n{source}"
    source_line = text.splitlines().index(f"    {line}") + 1
    broken = replace_task(broken, write_task(tmp_path, text, "wrong"))
    shutil.rmtree(folders.bundle.folder)
    folders.bundle = write_bundle(broken, folders.plan, folders.bundle.folder)
    step = folders.plan.by_id["round_001/ash/fit"]
    assert folders.run(step) == 1
    *traceback, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"StepFailed: ash, round 1, step 'fit': {kind}: ")
    assert last.endswith(f"(wrong.py, line {source_line}: {line})")
    assert traceback[0] == "Traceback (most recent call last):"
    assert f"    {line}" in traceback
    (event,) = EventLog.load(folders.events_file(step)).read()
    assert (event.name, event.party, event.round) == (STEP_FAILED, "ash", 1)
    assert isinstance(event.value, dict)
    assert event.value["step"] == "fit"
    assert event.value["kind"] == kind
    assert event.value["message"] in last
    assert line in event.value["detail"]
    assert not folders.folder(f"{step.id}:update").exists()


def replace_task(good: Job, path: Path) -> Job:
    return Job(task=path, strategy=good.strategy, rounds=good.rounds, device="cpu")


def test_a_loss_that_is_not_finite_names_silo_round_and_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = random_rows(6, 4, 1)
    bad = rows.copy()
    bad[3, 0] = float("nan")
    folders = Folders(
        job(LINEAR, FedAvg(shuffle=False, batch_size=2), rounds=1),
        silos(tmp_path / "s", ash={"train": bad, "test": rows}),
        tmp_path / "run",
    )
    step = folders.run_until("round_001/ash/fit")
    assert folders.run(step) == 1
    assert only_line(capsys).startswith("StepFailed: ash, round 1, step 'fit': the loss is nan at local step 2")


# --- quorum ---------------------------------------------------------------------------------------------------


def weighted_mean(updates: Mapping[str, Update], start: State) -> dict[str, torch.Tensor]:
    """w + Σ n_k·delta_k / Σ n_k."""
    total = sum(update.weight for update in updates.values())
    return {
        name: value + sum(update.weight / total * update.delta[name] for update in updates.values())
        for name, value in start.params.items()
    }


def left_out(folders: Folders, step: Step) -> dict[str, Any]:
    events = EventLog.load(folders.events_file(step)).read()
    return {event.party: event.value for event in events if event.name == SILO_LEFT_OUT}


def drop_folder(folders: Folders, step: Step) -> None:
    shutil.rmtree(folders.folder(step.updates["birch"]))


def drop_meta(folders: Folders, step: Step) -> None:
    (folders.folder(step.updates["birch"]) / META_FILE).unlink()


def cut(folders: Folders, step: Step) -> None:
    truncate(folders.folder(step.updates["birch"]))


def scramble(folders: Folders, step: Step) -> None:
    file = folders.folder(step.updates["birch"]) / TENSORS_FILE
    file.write_bytes(b"\xff" * file.stat().st_size)


def swap(folders: Folders, step: Step) -> None:
    ash, birch = (folders.folder(step.updates[silo]) for silo in ("ash", "birch"))
    shutil.rmtree(birch)
    shutil.copytree(ash, birch)


def poison(folders: Folders, step: Step) -> None:
    place = folders.folder(step.updates["birch"])
    update = read(Update, place)
    write(replace(update, delta={name: value * float("nan") for name, value in update.delta.items()}), place)


@pytest.mark.parametrize("spoil", [drop_folder, drop_meta, cut, scramble, swap, poison], ids=lambda f: f.__name__)
def test_with_a_quorum_a_silo_without_a_good_update_is_left_out(
    federation: Federation, tmp_path: Path, spoil: Any
) -> None:
    folders, step = ready_to_aggregate(federation, tmp_path / "run", min_silos=2)
    spoil(folders, step)
    assert folders.run(step) == 0
    rest = {silo: read(Update, folders.folder(step.updates[silo])) for silo in ("ash", "cedar")}
    for name, value in weighted_mean(rest, folders.state(0)).items():
        torch.testing.assert_close(folders.state(1).params[name], value, rtol=1e-14, atol=1e-15)
    reasons = left_out(folders, step)
    assert reasons.keys() == {"birch"}
    gone = spoil in (drop_folder, drop_meta)
    assert reasons["birch"].startswith("it delivered no update" if gone else "malformed update: ")


def test_with_a_quorum_an_update_need_not_be_named(federation: Federation, tmp_path: Path) -> None:
    folders, step = ready_to_aggregate(federation, tmp_path / "run", min_silos=2)
    assert folders.run(step, without=("update/cedar",)) == 0
    assert left_out(folders, step) == {"cedar": "it delivered no update"}


def test_below_the_quorum_the_step_says_who_is_missing(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, step = ready_to_aggregate(federation, tmp_path / "run", min_silos=2)
    assert folders.run(step, without=("update/ash", "update/cedar")) == 1
    line = only_line(capsys)
    assert line.startswith("QuorumLost: round 1: 1 of 3 silos delivered, 2 are needed; missing: ash, cedar.")
    assert left_out(folders, step).keys() == {"ash", "cedar"}
    assert not folders.folder(f"{step.id}:state").exists()


def test_the_quorum_holds_before_the_first_round_too(
    federation: Federation, tmp_path: Path, standardized: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sums of Standardize: one silo may be missing, all of them may not."""
    folders = Folders(job(standardized, FedAvg(), rounds=1, min_silos=2), federation, tmp_path / "run")
    init = folders.run_until("round_000/orchestrator/init")
    assert folders.run(init, without=("update/ash",)) == 0
    folders.events_file(init).unlink()
    assert folders.run(init, without=("update/ash", "update/birch", "update/cedar")) == 1
    assert only_line(capsys).startswith("QuorumLost: round 0: 0 of 3 silos delivered, 2 are needed")


# --- what a step says of its own reading ----------------------------------------------------------------------


def test_a_silos_step_reads_its_own_folder_only(federation: Federation, tmp_path: Path) -> None:
    """With the other silos' data gone, a silo still fits."""
    folders = Folders(job(LINEAR, FedAvg(), rounds=1), federation, tmp_path / "run")
    step = folders.run_until("round_001/birch/fit")
    for silo in federation.silos:
        if silo.name != "birch":
            shutil.rmtree(silo.data)
    assert folders.run(step) == 0
    assert read(Update, folders.folder(f"{step.id}:update")).silo == "birch"


def test_what_a_silo_sends_holds_no_rows(tmp_path: Path) -> None:
    """Deltas of the model's shape, a count, and sums: as many numbers however many rows there are."""
    sizes = {}
    for count in (5, 50):
        place = tmp_path / str(count)
        folders = Folders(
            job(LINEAR, FedAvg(), rounds=1), silos(place / "silos", ash=random_rows(count, 4, 1)), place / "run"
        )
        step = folders.run_until("round_001/ash/fit")
        assert folders.run(step) == 0
        sent = folders.folder(f"{step.id}:update")
        assert sorted(path.name for path in sent.iterdir()) == sorted([META_FILE, TENSORS_FILE])
        meta = json.loads((sent / META_FILE).read_text())
        assert meta.keys() == {"format", "kind", "weight", "silo", "bytes", "origin", "sha256"}
        assert meta["origin"] == {
            "step": step.id, "state": folders.state(0).sha256, "bundle": folders.bundle.digest
        }  # fmt: skip
        sizes[count] = (sent / TENSORS_FILE).stat().st_size
    assert sizes[5] == sizes[50]


# --- as AzureML runs it ---------------------------------------------------------------------------------------


def kept(folders: Folders, silo: str, **rounds: str) -> Path:
    """A silo's folder of all that it kept: name → the step whose memory it was."""
    place = folders.place / "kept" / silo
    for name, step in rounds.items():
        shutil.copytree(folders.folder(f"{step}:memory"), place / name.replace("_again", "-2"))
    return place


def test_from_the_folder_of_all_that_it_kept_a_silo_takes_the_memory_that_counted(
    fit_ready: tuple[Folders, Step],
) -> None:
    folders, step = fit_ready
    assert folders.run(step) == 0
    expected = read(Update, folders.folder(f"{step.id}:update"))
    unused = "round_001/ash/fit"  # another silo's, as what was kept in a round that did not count
    place = kept(folders, "birch", round_001="round_001/birch/fit", round_002=unused, round_0011=unused)
    arguments = [*folders.arguments(step, without=("memory",)), "--memories", str(place)]
    folders.events_file(step).unlink(missing_ok=True)
    assert command.main(arguments) == 0
    found = read(Update, folders.folder(f"{step.id}:update"))
    assert digest(found.delta) == digest(expected.delta)


def test_of_a_round_that_was_run_again_the_last_memory_is_taken(tmp_path: Path) -> None:
    for name in ("round_003", "round_003-2", "round_003-10", "round_0031"):
        (tmp_path / name).mkdir()
    assert newest([tmp_path], 3).name == "round_003-10"
    assert newest([tmp_path], 4).name == "round_004"


def test_a_run_that_branched_off_takes_an_earlier_memory_from_the_other_one(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own / "round_004", other / "round_003", other / "round_004-2"):
        folder.mkdir(parents=True)
    assert newest([own, other], 3) == other / "round_003"
    assert newest([own, other], 4) == own / "round_004"
    assert newest([own, other], 5) == own / "round_005"


def test_a_silo_that_never_counted_starts_without_a_memory(fit_ready: tuple[Folders, Step]) -> None:
    folders, step = fit_ready
    place = folders.folder(step.inputs["state"])
    state = read(State, place)
    write(replace(state, counted={"ash": 1}), place)
    arguments = [*folders.arguments(step, without=("memory",)), "--memories", str(folders.place / "nothing")]
    assert command.main(arguments) == 0
    assert read(Memory, folders.folder(f"{step.id}:memory")).tensors


def test_a_silos_step_is_tried_again_as_often_as_the_job_says(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flaky = Path(LINEAR).read_text(encoding="utf-8") + (
        "\n\n_read = data\n\ndef data(folder, split):\n"
        "    marker = Path(folder) / 'tried'\n"
        "    if not marker.exists():\n        marker.touch()\n        raise OSError('the disk is not there yet')\n"
        "    return _read(folder, split)\n"
    )
    source = write_task(tmp_path, "from pathlib import Path\n" + flaky, "flaky")
    folders = Folders(job(source, FedAvg(), rounds=1, retries=1), federation, tmp_path / "run")
    step = folders.run_until("round_001/ash/fit")
    assert command.main([*folders.arguments(step), "--retry"]) == 0
    failure, timed = EventLog.load(folders.events_file(step)).read()
    assert (failure.name, failure.party) == (STEP_FAILED, "ash")
    assert (timed.name, timed.party) == (STEP_TIMED, "ash")
    assert min(timed.value["compute"], timed.value["transfer"]) > 0  # type: ignore[call-overload,index]
    other = folders.plan.by_id["round_001/birch/fit"]
    assert folders.run(other) == 1
    assert "the disk is not there yet" in capsys.readouterr().err
