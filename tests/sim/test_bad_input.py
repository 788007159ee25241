"""Bad input gets one clear error, and nothing is lost."""

import shutil
import sys
import types
from pathlib import Path

import pandas as pd
import pytest

from fl_kit import FedAvg, Federation, FedProx, Job, Scaffold, Silo
from fl_kit.errors import (
    FederationError,
    FlKitError,
    IncompatibleError,
    MessageError,
    QuorumLost,
    StepFailed,
    TaskError,
)
from fl_kit.tensors import digest
from sim.in_process import InProcess
from tests.sim.small import LOGISTIC, digests, federation, job, undisturbed, variant

MEMORY = InProcess(folder=None, keep="all")


@pytest.fixture
def silos(tmp_path: Path) -> Federation:
    return federation(tmp_path / "silos")


def failure(task: Path, silos: Federation, **settings: object) -> StepFailed:
    """What a run of this task fails with."""
    run = job(task, **settings).run(silos, on=MEMORY)
    with pytest.raises(StepFailed) as raised:
        run.wait()
    assert run.status == "failed"
    assert run.events()[-1].name == "run/failed"
    assert run.events()[-1].value == str(raised.value)
    return raised.value


# Silos


def test_every_silo_whose_folder_is_missing_or_empty_is_named_before_anything_runs(silos, tmp_path):
    shutil.rmtree(silos["bravo"].data)
    for path in Path(silos["delta"].data).iterdir():
        path.unlink()
    with pytest.raises(FederationError) as raised:
        job().run(silos, on=InProcess(folder=tmp_path / "runs"))
    assert "bravo" in str(raised.value)
    assert "delta" in str(raised.value)
    assert "alpha" not in str(raised.value)
    assert not (tmp_path / "runs").exists()


def test_two_silos_of_one_name(silos):
    with pytest.raises(FederationError, match="alpha"):
        Federation(silos=(*silos.silos, Silo(name="alpha", data="elsewhere")))


def test_a_missing_column_names_the_silo_the_column_and_the_users_line(silos):
    path = Path(silos["charlie"].data) / "train.csv"
    pd.read_csv(path).drop(columns="pressure").to_csv(path, index=False)
    error = failure(LOGISTIC, silos)
    assert (error.silo, error.round, error.op) == ("charlie", 1, "fit")
    assert "pressure" in str(error)
    assert "logistic.py, line 21: " in str(error)
    assert "frame[COLUMNS]" in str(error)


def test_a_missing_file_of_a_silo_names_it(silos):
    (Path(silos["bravo"].data) / "test.csv").unlink()
    error = failure(LOGISTIC, silos)
    assert error.silo == "bravo"
    assert "test.csv" in str(error)


def test_a_silo_without_rows_is_named_with_the_cure(silos):
    path = Path(silos["alpha"].data) / "train.csv"
    pd.read_csv(path).head(0).to_csv(path, index=False)
    error = failure(LOGISTIC, silos)
    assert error.silo == "alpha"
    assert isinstance(error.__cause__, TaskError)
    assert "no rows" in str(error)


def test_a_silo_without_test_rows_trains_all_the_same(silos):
    path = Path(silos["alpha"].data) / "test.csv"
    pd.read_csv(path).head(0).to_csv(path, index=False)
    run = undisturbed(job(), silos)
    frame = run.history()
    assert not (frame[(frame.party == "alpha") & (frame.metric == "loss")].value.notna()).any()
    assert frame[(frame.party == "global") & (frame.metric == "loss")].value.notna().all()


# The task


def test_a_task_from_the_notebook_itself_names_the_cure():
    for thing in (sys.modules["__main__"], types.ModuleType("made_up"), object(), 7):
        with pytest.raises(TaskError, match="%%silo_module"):
            job(thing)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def data(folder, split):\n    return [1, 2, 3]", ["data()", "list of length 3"]),
        ("def data(folder, split):\n    pass", ["data()", "NoneType"]),
        ("def data(folder, split):\n    return torch.zeros(3, 3), 'abc'", ["str"]),
        ("def data(folder, split):\n    return torch.zeros(3, 3), torch.zeros(2, 1)", ["(3, 3)", "2 targets"]),
        ("loss = lambda outputs, targets: outputs.sum().item()", ["loss", "float"]),
        ("loss = lambda outputs, targets: outputs", ["scalar"]),
        ("def fit(model, data, context):\n    return 'done'", ["fit()", "str"]),
        ("def fit(model, data):\n    pass", ["fit()", "3 were given"]),
        ("def model():\n    return nn.ModuleList([nn.Linear(3, 1).double()])", ["forward"]),
    ],
)
def test_a_part_of_the_task_that_gives_nonsense_names_the_first_silo_and_what_it_gave(silos, tmp_path, source, words):
    error = failure(variant(tmp_path, source), silos)
    assert error.silo == "alpha"
    for word in words:
        assert word in str(error)


@pytest.mark.parametrize("where", ["forward", "loss", "fit", "data", "transform in data"])
def test_an_exception_in_the_users_code_names_its_line_and_keeps_the_traceback(silos, tmp_path, where):
    sources = {
        "forward": "class M(nn.Linear):\n    def forward(self, x):\n        return 1 / 0  # here\n"
        "def model():\n    return M(3, 1, dtype=torch.float64)",
        "loss": "def loss(outputs, targets):\n    return 1 / 0  # here",
        "fit": "def fit(model, data, context):\n    return 1 / 0  # here",
        "data": "def data(folder, split):\n    return 1 / 0  # here",
        "transform in data": "def ratio(x):\n    return 1 / 0  # here\ndef data(folder, split):\n    return ratio(3)",
    }
    task = variant(tmp_path, sources[where])
    run = job(task).run(silos, on=MEMORY)
    with pytest.raises(StepFailed) as raised:
        run.wait()
    error = raised.value
    line = task.read_text().splitlines().index(next(t for t in task.read_text().splitlines() if "# here" in t)) + 1
    assert f"variant.py, line {line}: return 1 / 0  # here" in str(error)
    assert (error.silo, error.round, error.op) == ("alpha", 1, "fit")
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert list(run.failures.columns) == ["silo", "round", "step", "kind", "message", "detail"]
    failed = run.failures.iloc[0]
    assert (failed.silo, failed["round"], failed.step) == ("alpha", 1, "fit")
    assert failed.kind == "ZeroDivisionError"
    assert "Traceback" in failed.detail
    assert f'"{task}", line {line}' in failed.detail


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("def model():\n    return 1 / 0", "ZeroDivisionError"),
        ("def model():\n    return 'net'", "nn.Module"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("import no_such_package", "no_such_package"),
        ("model = 3", "model"),
        ("del data", "data"),
        ("loss = None", "loss"),
        ("metrics = ['accuracy']", "accuracy"),
        ("fit = 3", "fit"),
    ],
)
def test_a_task_that_cannot_start_is_a_task_error_before_anything_runs(silos, tmp_path, source, word):
    with pytest.raises(TaskError) as raised:
        job(variant(tmp_path, source)).run(silos, on=InProcess(folder=tmp_path / "runs"))
    assert word in str(raised.value)
    assert "variant" in str(raised.value)
    assert not (tmp_path / "runs").exists()


def test_a_model_whose_shapes_differ_between_calls(silos, tmp_path):
    source = """
calls = []
def model():
    calls.append(1)
    return nn.Sequential(nn.Linear(3, 2 + len(calls)), nn.Linear(2 + len(calls), 1)).double()
"""
    error = failure(variant(tmp_path, source), silos)
    assert "model() must build the same model each time" in str(error)
    assert "0.weight" in str(error)


def test_a_loss_that_is_no_number_names_silo_round_and_step_and_can_be_mended(silos, tmp_path):
    path = Path(silos["charlie"].data) / "train.csv"
    good = path.read_text()
    frame = pd.read_csv(path)
    frame.loc[5, "sugar"] = float("nan")
    frame.to_csv(path, index=False)
    unshuffled = {"strategy": FedAvg(batch_size=2, shuffle=False)}
    run = job(**unshuffled).run(silos, on=InProcess(folder=tmp_path / "runs"))
    with pytest.raises(StepFailed, match=r"charlie, round 1, step 'fit': the loss is nan at local step 3"):
        run.wait()
    assert run.state().round == 0
    assert set(run.failures.silo) == {"charlie"}
    path.write_text(good)
    resumed = InProcess(folder=tmp_path / "runs").resume(run.id).wait()
    assert digests(resumed, range(4)) == digests(undisturbed(job(**unshuffled), silos), range(4))


# The job


@pytest.mark.parametrize(
    "settings",
    [
        *({"rounds": value} for value in (0, -1, 2.0, True, None, "3")),
        *({"min_silos": value} for value in (0, 1.5)),
        *({"seed": value} for value in (1.0, "7", None)),
        {"retries": -1},
        {"evaluate_every": -1},
    ],
)
def test_a_setting_out_of_range_is_named(settings):
    (name,) = settings
    with pytest.raises(IncompatibleError, match=rf"Job\({name}="):
        job(**settings)


def test_more_silos_needed_than_there_are(silos):
    with pytest.raises(IncompatibleError, match=r"min_silos=5.*4 silos"):
        job(min_silos=5).run(silos, on=MEMORY)


def test_a_device_that_is_not_there(silos, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for device, word in [("cuda", "none on this machine"), ("warp", "none that torch knows")]:
        with pytest.raises(IncompatibleError, match=word):
            job(device=device).run(silos, on=MEMORY)


@pytest.mark.parametrize("strategy", [FedProx(), Scaffold()], ids=["FedProx", "Scaffold"])
def test_a_strategy_that_corrects_gradients_with_a_task_that_trains_itself(tmp_path, strategy):
    task = variant(tmp_path, "def fit(model, data, context): ...", name="own_loop")
    with pytest.raises(IncompatibleError, match=rf"{type(strategy).__name__}.*own_loop"):
        Job(task=task, strategy=strategy, rounds=1)


# Retries and quorum

FAILING = """
from pathlib import Path as _Path
_read = data
def data(folder, split):
    notes = _Path(folder) / "failures.txt"
    if notes.exists() and int(notes.read_text()) > 0:
        notes.write_text(str(int(notes.read_text()) - 1))
        raise ConnectionError("the database is away")
    return _read(folder, split)
"""


def fail(silos: Federation, silo: str, times: int) -> None:
    (Path(silos[silo].data) / "failures.txt").write_text(str(times))


def test_a_silo_that_fails_once_and_is_tried_again_changes_no_bit(silos, tmp_path):
    task = variant(tmp_path, FAILING)
    expected = digests(undisturbed(job(task), silos), range(4))
    fail(silos, "bravo", 1)
    run = undisturbed(job(task, retries=1), silos)
    assert digests(run, range(4)) == expected
    assert list(run.failures.silo) == ["bravo"]
    assert "the database is away" in run.failures.message[0]


def test_without_enough_retries_the_run_fails_and_each_attempt_is_listed(silos, tmp_path):
    fail(silos, "bravo", 3)
    run = job(variant(tmp_path, FAILING), retries=2).run(silos, on=MEMORY)
    with pytest.raises(StepFailed, match="bravo, round 1"):
        run.wait()
    assert list(run.failures.silo) == ["bravo"] * 3


def test_a_silo_that_fails_for_good_is_left_out_where_there_is_a_quorum(silos, tmp_path):
    """Then the rounds are those of a federation of the other silos."""
    task = variant(tmp_path, FAILING)
    others = silos.select(["alpha", "charlie", "delta"])
    expected = undisturbed(job(task), others)
    fail(silos, "bravo", 100)
    run = undisturbed(job(task, min_silos=3), silos)
    assert digests(run, range(4)) == digests(expected, range(4))
    left_out = [event for event in run.events() if event.name == "silo/left-out"]
    assert {(e.party, e.round) for e in left_out} == {("bravo", 1), ("bravo", 2), ("bravo", 3)}
    assert all("the database is away" in e.value for e in left_out)
    assert set(run.history().party) == {"alpha", "charlie", "delta", "global"}
    pd.testing.assert_frame_equal(run.history(), expected.history(), check_exact=True)


def test_a_silo_that_comes_back_counts_again(silos, tmp_path):
    """Round 1 is that of the others; round 2 starts from it with everybody."""
    task = variant(tmp_path, FAILING)
    others = undisturbed(job(task, rounds=1), silos.select(["alpha", "charlie", "delta"]))
    fail(silos, "bravo", 1)
    run = undisturbed(job(task, min_silos=3), silos)
    assert run.digest(1) == others.digest(1)
    frame = run.history()
    trained = frame[(frame.party == "bravo") & (frame.metric == "train_loss")]
    assert list(trained["round"]) == [2, 3]


@pytest.mark.parametrize("strategy", [FedAvg(), Scaffold()], ids=["FedAvg", "Scaffold"])
def test_below_the_quorum_the_run_stops_and_can_be_resumed(silos, tmp_path, strategy):
    task = job(variant(tmp_path, FAILING), strategy=strategy, min_silos=3)
    expected = undisturbed(task, silos)
    fail(silos, "bravo", 1)
    fail(silos, "delta", 1)
    run = task.run(silos, on=InProcess(folder=tmp_path / "runs"))
    with pytest.raises(QuorumLost, match=r"round 1: 2 of 4 silos delivered, 3 are needed; missing: bravo, delta"):
        run.wait()
    assert (run.status, run.rounds_done) == ("failed", 0)
    resumed = InProcess(folder=tmp_path / "runs").resume(run.id).wait()
    assert digests(resumed, range(4)) == digests(expected, range(4))


MALFORMED = """
from dataclasses import dataclass, replace
from fl_kit import FedAvg

@dataclass(frozen=True, kw_only=True)
class Spoiled(FedAvg):
    silo: str = "charlie"
    how: str = "nan"

    def fit(self, state, memory, ctx):
        update, kept = super().fit(state, memory, ctx)
        if ctx.step.party != self.silo:
            return update, kept
        delta = dict(update.delta)
        if self.how == "nan":
            delta["bias"] = delta["bias"] * float("nan")
        elif self.how == "shape":
            delta["bias"] = delta["bias"].repeat(2)
        elif self.how == "dtype":
            delta["bias"] = delta["bias"].float()
        elif self.how == "missing":
            del delta["bias"]
        elif self.how == "unknown":
            delta["other"] = delta["bias"]
        weight = {"weight": -1.0, "heavy": float("inf")}.get(self.how, update.weight)
        return replace(update, delta=delta, weight=weight), kept
"""


@pytest.mark.parametrize("how", ["nan", "shape", "dtype", "missing", "unknown", "weight", "heavy"])
def test_a_malformed_update_names_its_silo_or_is_left_out(silos, tmp_path, how):
    task = Job(task=variant(tmp_path, MALFORMED), strategy=FedAvg(), rounds=1).task
    strategy = task.module.Spoiled(how=how, epochs=2, batch_size=8, lr=0.2)
    run = Job(task=task, strategy=strategy, rounds=2).run(silos, on=MEMORY)
    with pytest.raises(StepFailed, match="charlie") as raised:
        run.wait()
    assert isinstance(raised.value.__cause__, MessageError)
    assert run.state().round == 0
    assert len(run.failures) == 1

    quorum = Job(task=task, strategy=strategy, rounds=2, min_silos=3).run(silos, on=MEMORY).wait()
    expected = undisturbed(job(rounds=2), silos.select(["alpha", "bravo", "delta"]))
    assert digests(quorum, range(3)) == digests(expected, range(3))
    left_out = [e for e in quorum.events() if e.name == "silo/left-out"]
    assert [(e.party, e.round) for e in left_out] == [("charlie", 1), ("charlie", 2)]
    assert all("malformed update" in e.value for e in left_out)


def test_every_failure_is_one_of_fl_kits_own_errors(silos, tmp_path):
    """Even an error that no code expected: it is wrapped, and its cause is kept."""
    strategy = """
from dataclasses import dataclass
from fl_kit import FedAvg
@dataclass(frozen=True, kw_only=True)
class Odd(FedAvg):
    def aggregate(self, state, updates, ctx):
        list(updates)
        raise RuntimeError("odd")
"""
    task = Job(task=variant(tmp_path, strategy), strategy=FedAvg(), rounds=1).task
    run = Job(task=task, strategy=task.module.Odd(), rounds=1).run(silos, on=MEMORY)
    with pytest.raises(FlKitError, match=r"orchestrator, round 1, step 'aggregate': RuntimeError: odd.*variant\.py"):
        run.wait()
    assert digest(run.state().params) == undisturbed(job(rounds=1), silos).digest(0)
