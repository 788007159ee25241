"""The mirror of a run in MLflow, against a real MLflow store in SQLite."""

import json
import math
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

from fl_kit.errors import RunNotFound, StepFailed, TrackingError
from fl_kit.events import Event, metric_event
from fl_kit.strategies import FedAvg, FedProx
from fl_kit.tracking import mirror, push, tracker
from fl_kit.tracking.delivery import Delivery
from fl_kit.tracking.ledger import Ledger, ledger_for, load, without_password
from fl_kit.tracking.model import NotExportable, refuse_pickle
from fl_kit.tracking.names import metric_key
from fl_kit.tracking.record import of_folder, of_run
from fl_kit.tracking.server import check_alive
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.tasks import BATCHNORM, DROPOUT, LINEAR, job, random_rows, silos, write_task

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints when this is loaded
    import mlflow.pyfunc

BOTH = {"a": random_rows(6, 4, seed=1), "b": random_rows(9, 4, seed=2)}


SLOW = """
import time

def loss(outputs, targets):
    time.sleep(0.003)
    return nn.functional.mse_loss(outputs, targets)
"""


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store with its tables made; MLflow takes seconds for that."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(empty_store: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store of the test's own; its artifacts go to the working folder. Deliveries come quickly."""
    shutil.copy(empty_store, in_tmp / "mlflow.db")
    monkeypatch.setattr(tracker, "FIRST", 0.0)
    monkeypatch.setattr(tracker, "EVERY", 0.05)
    monkeypatch.setattr(tracker, "LAST_ATTEMPTS", 0.5)
    found = f"sqlite:///{in_tmp / 'mlflow.db'}"
    mlflow.set_tracking_uri(found)
    yield found
    mlflow.set_tracking_uri(None)


@pytest.fixture
def dead() -> Iterator[str]:
    """The address of a server that is not there: the port is bound, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def tracked(uri: str | None, task: Any = LINEAR, rounds: int = 3, **rows: Any) -> SimulatedRun:
    """A run that has ended, and whose mirror has."""
    federation = silos(Path("data"), **(rows or BOTH))
    run = job(task, FedProx(lr=0.05, mu=0.01), rounds).run(federation, on=InProcess(), track=uri)
    assert isinstance(run, SimulatedRun)
    run.wait()
    if uri is not None:
        run.tracker.wait()
    return run


def mirrored(uri: str, mlflow_run: str, prefixes: bool = True) -> dict[str, list[tuple[int, float]]]:
    """Every series that an MLflow run holds: its points (step, value) as they come."""
    client = MlflowClient(tracking_uri=uri)
    keys = client.get_run(mlflow_run).data.metrics
    return {key: [(p.step, p.value) for p in client.get_metric_history(mlflow_run, key)] for key in keys}


def series(run: SimulatedRun) -> dict[str, list[tuple[int, float]]]:
    """The same from the run's own history."""
    groups = run.history().groupby(["party", "metric"])
    return {
        f"{party}/{metric}": list(zip(rows["round"], rows["value"], strict=True)) for (party, metric), rows in groups
    }


def artifacts(uri: str, mlflow_run: str, path: str | None = None) -> set[str]:
    client = MlflowClient(tracking_uri=uri)
    found = set()
    for file in client.list_artifacts(mlflow_run, path):
        found |= artifacts(uri, mlflow_run, file.path) if file.is_dir else {file.path}
    return found


def model_files(uri: str, run: SimulatedRun) -> Path:
    """The folder of the run's only logged model."""
    client = MlflowClient(tracking_uri=uri)
    (output,) = client.get_run(run.tracker.mlflow_run_id).outputs.model_outputs
    return Path(mlflow.artifacts.download_artifacts(f"models:/{output.model_id}", tracking_uri=uri))


def slow_task() -> Path:
    """A linear model whose rounds take about 15 ms."""
    return write_task(Path(), LINEAR.read_text() + SLOW, "slow")


# A whole run


def test_a_run_arrives_whole(uri: str) -> None:
    run = tracked(uri)
    root = run.tracker.mlflow_run_id
    told = MlflowClient(tracking_uri=uri).get_run(root)

    assert mirrored(uri, root) == series(run)
    assert {"global/loss", "a/loss", "b/mean_squared_error", "a/update_norm"} <= mirrored(uri, root).keys()
    assert (told.info.status, told.info.run_name) == ("FINISHED", run.id)
    events = run.events()
    assert (told.info.start_time, told.info.end_time) == (int(events[0].time * 1000), int(events[-1].time * 1000))
    expected = {"strategy": "FedProx", "strategy.mu": "0.01", "strategy.lr": "0.05", "aggregator": "Mean"}
    expected |= {"rounds": "3", "seed": "0", "silos": "2", "task": "linear"}
    assert expected.items() <= told.data.params.items()
    assert told.data.tags["fl_kit.run_id"] == run.id
    assert told.data.tags["fl_kit.task_sha256"] == run.job.task.sha256
    assert told.data.tags["fl_kit.model"] == "pt2"
    assert run.tracker.finished
    assert run.tracker.error is None
    assert run.tracker.notes == []
    assert "complete" in repr(run.tracker)


def test_the_files_are_the_run_folders(uri: str) -> None:
    run = tracked(uri)
    assert run.folder is not None
    root = run.tracker.mlflow_run_id
    assert {"job.json", "plan.json", "task/linear.py"} <= artifacts(uri, root)
    for name in ("job.json", "plan.json", "task/linear.py"):
        assert mlflow.artifacts.load_text(f"runs:/{root}/{name}") == (run.folder / name).read_text()


def test_nothing_of_this_machine_is_told(uri: str, in_tmp: Path) -> None:
    run = tracked(uri)
    told = MlflowClient(tracking_uri=uri).get_run(run.tracker.mlflow_run_id)
    texts = [*told.data.params.values(), *told.data.tags.values()]
    sent = [p for p in (in_tmp / "mlruns").rglob("*") if p.is_file()]
    texts += [p.read_bytes().decode("latin-1") for p in sent]
    assert len(sent) >= 9
    private = (str(in_tmp), str(Path(__file__).parents[2]), socket.gethostname(), sys.prefix, str(Path.home()))
    assert [word for word in private for text in texts if word in text] == []
    assert not any(p.name in ("federation.yaml", "environment.json") for p in sent)


def test_a_run_without_track_has_no_tracker(in_tmp: Path) -> None:
    run = tracked(None)
    assert run.tracker is None
    assert run.folder is not None
    assert not (run.folder / "tracking.json").exists()


def test_a_run_in_memory_is_mirrored_too(uri: str) -> None:
    run = job(LINEAR, FedAvg(lr=0.05), 2).run(silos(Path("data"), **BOTH), on=InProcess(folder=None), track=uri)
    run.wait()
    run.tracker.wait()
    assert mirrored(uri, run.tracker.mlflow_run_id) == series(run)
    assert list(Path().rglob("tracking.json")) == []


def test_a_stopped_run_is_killed_and_keeps_its_model(uri: str) -> None:
    run = job(slow_task(), FedAvg(lr=0.001), 100_000).run(silos(Path("data"), **BOTH), on=InProcess(), track=uri)
    while run.rounds_done < 2:
        assert run.status == "running"
    run.stop()
    run.wait()
    run.tracker.wait()
    told = MlflowClient(tracking_uri=uri).get_run(run.tracker.mlflow_run_id)
    assert told.info.status == "KILLED"
    assert [output.step for output in told.outputs.model_outputs] == [run.state().round]
    assert mirrored(uri, run.tracker.mlflow_run_id) == series(run)


def test_a_failed_run_is_failed_without_its_text(uri: str) -> None:
    task = write_task(Path(), LINEAR.read_text().replace("nn.MSELoss()", "lambda o, t: o.nonsense"))
    run = job(task, FedAvg(lr=0.05), 2).run(silos(Path("data"), **BOTH), on=InProcess(), track=uri)
    with pytest.raises(StepFailed):
        run.wait()
    run.tracker.wait()
    told = MlflowClient(tracking_uri=uri).get_run(run.tracker.mlflow_run_id)
    assert told.info.status == "FAILED"
    assert told.outputs.model_outputs == []
    assert "nonsense" not in json.dumps(told.data.to_dictionary())


# The model


@pytest.mark.parametrize("task", [LINEAR, BATCHNORM, DROPOUT])
def test_the_model_predicts_what_the_run_learned(uri: str, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracked(uri, task)
    (output,) = MlflowClient(tracking_uri=uri).get_run(run.tracker.mlflow_run_id).outputs.model_outputs
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    module = run.job.task.model().eval()
    module.load_state_dict(run.state().params)
    for rows in (1, 5):
        x = random_rows(rows, 3, seed=9)
        inputs = torch.from_numpy(x).to(next(module.parameters()).dtype)
        assert np.array_equal(loaded.predict(inputs.numpy()), module(inputs).detach().numpy())
    assert output.step == 3
    assert [spec.shape for spec in loaded.metadata.signature.inputs.inputs] == [(-1, 3)]
    assert [spec.shape for spec in loaded.metadata.signature.outputs.inputs] == [(-1, 1)]
    assert loaded.metadata.signature.inputs.inputs[0].type == inputs.numpy().dtype
    assert loaded.metadata.run_id == run.tracker.mlflow_run_id


def test_the_model_holds_no_pickle_and_no_row(uri: str) -> None:
    folder = model_files(uri, tracked(uri))
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert "data/model.pt2" in names
    assert not [n for n in names if n.endswith((".pkl", ".pickle", ".pth", ".pt", ".bin"))]
    with zipfile.ZipFile(folder / "data/model.pt2") as archive:
        weights = next(n for n in archive.namelist() if n.endswith("weights_config.json"))
        assert {e["use_pickle"] for e in json.loads(archive.read(weights))["config"].values()} == {False}
    example = json.loads((folder / "input_example.json").read_text())
    assert np.array_equal(np.asarray(example["inputs"] if isinstance(example, dict) else example), np.zeros((2, 3)))


def test_the_models_requirements_are_packages_only(uri: str) -> None:
    lines = (model_files(uri, tracked(uri)) / "requirements.txt").read_text().splitlines()
    assert {line.partition("==")[0] for line in lines} == {"mlflow", "numpy", "torch"}


def test_a_server_without_logged_models_gets_it_among_the_artifacts(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any, **settings: Any) -> Any:
        raise MlflowException("no such page", error_code=ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(MlflowClient, "create_logged_model", unknown)
    run = tracked(uri)
    loaded = mlflow.pyfunc.load_model(f"runs:/{run.tracker.mlflow_run_id}/model")
    assert loaded.predict(np.zeros((4, 3))).shape == (4, 1)


UNTRACEABLE = """
class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, 1, dtype=torch.float64)
    def forward(self, x):
        return self.linear(x) if float(x.sum()) >= 0 else -self.linear(x)

def model():
    return Odd()
"""


def test_a_model_that_cannot_be_traced_is_safetensors(uri: str) -> None:
    run = tracked(uri, write_task(Path(), LINEAR.read_text() + UNTRACEABLE, "odd"))
    root = run.tracker.mlflow_run_id
    assert {"model/model.safetensors", "model/odd.py"} <= artifacts(uri, root)
    from safetensors.torch import load_file

    found = load_file(mlflow.artifacts.download_artifacts(f"runs:/{root}/model/model.safetensors"))
    assert found.keys() == run.state().params.keys()
    assert all(torch.equal(found[name], value) for name, value in run.state().params.items())
    tag = MlflowClient(tracking_uri=uri).get_run(root).data.tags["fl_kit.model"]
    assert tag.startswith("safetensors: ")
    assert len(run.tracker.notes) == 1
    assert "safetensors" in repr(run.tracker)


def test_the_input_comes_from_the_tasks_example_where_rows_are_elsewhere(uri: str) -> None:
    source = LINEAR.read_text() + "\ndef example():\n    return torch.ones(7, WIDTH, dtype=torch.float64)\n"
    for name, text, expected in (("bare", LINEAR.read_text(), "safetensors"), ("shown", source, "pt2")):
        rows = torch.from_numpy(random_rows(6, 4, seed=1))
        backend = InProcess(load=lambda task, folder, split, rows=rows: (rows[:, :3], rows[:, 3:]))
        federation = silos(Path(f"data_{name}"), **BOTH)
        federation = replace(federation, silos=tuple(replace(s, data=f"elsewhere:/{s.name}") for s in federation.silos))
        run = job(write_task(Path(), text, name), FedAvg(lr=0.05), 1).run(federation, on=backend, track=uri)
        run.wait()
        run.tracker.wait()
        tag = MlflowClient(tracking_uri=uri).get_run(run.tracker.mlflow_run_id).data.tags["fl_kit.model"]
        assert tag.startswith(expected)
        assert ("example()" in tag) == (expected == "safetensors")


def test_exporting_moves_no_global_generator(uri: str) -> None:
    federation = silos(Path("data"), **BOTH)
    run = job(BATCHNORM, FedAvg(lr=0.05), 1).run(federation, on=InProcess())
    run.wait()
    before = torch.get_rng_state()
    push(run, uri)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pickled_weight_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        config = {"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}
        archive.writestr("model/data/weights/model_weights_config.json", json.dumps(config))
    with pytest.raises(NotExportable, match="would pickle 'w'"):
        refuse_pickle(tmp_path)


# Figures


def delivery_of(events: list[Event], uri: str, **rows: Any) -> Delivery:
    """A delivery of made-up events, of a run in memory."""
    run = tracked(None, rounds=1, **rows)
    record = replace(of_run(run), events=lambda after: events[after:], folder=None)
    return Delivery(record, uri, Ledger(uri=uri, experiment="fl-kit"))


def figure(round: int, value: float, metric: str = "loss", party: str = "global", time: float = 1.0) -> Event:
    return metric_event(round=round, party=party, metric=metric, value=value, time=time)


def test_figures_that_are_not_finite(uri: str) -> None:
    delivery = delivery_of([figure(0, math.nan), figure(1, math.inf), figure(2, -math.inf)], uri)
    delivery.deliver("")
    (points,) = mirrored(uri, delivery.ledger.runs[""]).values()
    assert math.isnan(points[0][1])
    assert [value for _, value in points[1:]] == [sys.float_info.max, -sys.float_info.max]  # as MLflow stores them


def test_more_figures_than_one_call_takes(uri: str) -> None:
    delivery = delivery_of([figure(n, float(n)) for n in range(2500)], uri)
    delivery.deliver("")
    assert mirrored(uri, delivery.ledger.runs[""])["global/loss"] == [(n, float(n)) for n in range(2500)]


def test_a_round_that_was_run_again_counts_once_with_its_last_figures(uri: str) -> None:
    events = [figure(1, 0.5, time=1.0), figure(2, 0.4, time=2.0), figure(2, 0.3, time=3.0), figure(3, 0.2, time=4.0)]
    delivery = delivery_of(events, uri)
    delivery.deliver("")
    assert mirrored(uri, delivery.ledger.runs[""])["global/loss"] == [(1, 0.5), (2, 0.3), (3, 0.2)]


def test_what_arrived_although_the_call_failed_is_not_sent_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [figure(n, float(n)) for n in range(1500)]
    delivery = delivery_of(events, uri)
    real, sent, failures = MlflowClient.log_batch, [], [2]

    def lossy(self: MlflowClient, run_id: str, metrics: Any = (), **rest: Any) -> None:
        real(self, run_id, metrics=metrics, **rest)
        sent.extend(point.step for point in metrics)
        if len(sent) >= 1500 and failures[0]:
            failures[0] -= 1
            raise MlflowException("the answer was lost")

    monkeypatch.setattr(MlflowClient, "log_batch", lossy)
    with pytest.raises(MlflowException, match="lost"):
        delivery.deliver("")
    assert delivery.ledger.sent == {"global/loss": 999}
    events.append(figure(1500, 1500.0))
    with pytest.raises(MlflowException, match="lost"):
        delivery.deliver("")
    delivery.deliver("")
    assert sorted(sent) == list(range(1501))


def test_many_silos_get_child_runs(uri: str) -> None:
    rows = {f"s{n:02d}": random_rows(3, 4, seed=n) for n in range(12)}  # 13 parties × 4 metrics = 52 names
    run = tracked(uri, rounds=2, **rows)
    root = run.tracker.mlflow_run_id
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_run(root).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{root}'")
    everything = series(run)

    assert mirrored(uri, root) == {k: v for k, v in everything.items() if k.startswith("global/")}
    assert sorted(child.info.run_name for child in children) == sorted(rows)
    assert {child.info.status for child in children} == {"FINISHED"}
    for child in children:
        own = {f"{child.info.run_name}/{k}": v for k, v in mirrored(uri, child.info.run_id).items()}
        assert own == {k: v for k, v in everything.items() if k.startswith(f"{child.info.run_name}/")}


def test_fifty_names_stay_together(uri: str) -> None:
    rows = {f"s{n:02d}": random_rows(3, 4, seed=n) for n in range(11)}  # 12 parties × 4 metrics = 48 names
    run = tracked(uri, rounds=1, **rows)
    assert mirrored(uri, run.tracker.mlflow_run_id) == series(run)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("global/loss", "global/loss"), ("a/recall@5", "a/recall_5"), ("a/F1 (macro)", "a/F1 _macro_"), ("x:y", "x_y")],
)
def test_names_that_mlflow_refuses(name: str, expected: str) -> None:
    assert metric_key(name) == expected


# A server that is not there


def test_a_dead_server_costs_nothing_and_loses_nothing(uri: str, dead: str) -> None:
    federation = silos(Path("data"), **BOTH)
    run = job(LINEAR, FedAvg(lr=0.05), 4).run(federation, on=InProcess(), track=dead)
    assert run.wait().status == "completed"
    assert run.folder is not None
    with pytest.raises(TrackingError, match=r"does not answer.*Nothing is lost: push\("):
        run.tracker.wait()
    assert "not delivered" in repr(run.tracker)

    root = push(run.folder, uri)
    assert mirrored(uri, root) == series(run)
    assert MlflowClient(tracking_uri=uri).get_run(root).info.status == "FINISHED"
    before = (mirrored(uri, root), artifacts(uri, root), MlflowClient(tracking_uri=uri).get_run(root).to_dictionary())
    assert push(run.folder, uri) == push(run, uri) == push(run.folder) == root
    after = (mirrored(uri, root), artifacts(uri, root), MlflowClient(tracking_uri=uri).get_run(root).to_dictionary())
    assert after == before


def test_a_server_that_comes_back_gets_everything(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = MlflowClient.log_batch, [3]

    def moody(self: MlflowClient, *args: Any, **settings: Any) -> None:
        if refused[0]:
            refused[0] -= 1
            raise MlflowException("busy")
        real(self, *args, **settings)

    monkeypatch.setattr(MlflowClient, "log_batch", moody)
    monkeypatch.setattr(tracker, "LAST_ATTEMPTS", 30.0)
    run = tracked(uri)
    assert refused == [0]
    assert mirrored(uri, run.tracker.mlflow_run_id) == series(run)
    assert run.tracker.error is None


def test_a_mirror_that_fails_makes_way_for_a_push(uri: str, dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "LAST_ATTEMPTS", 60.0)
    run = job(LINEAR, FedAvg(lr=0.05), 2).run(silos(Path("data"), **BOTH), on=InProcess(), track=dead)
    run.wait()
    while run.tracker.error is None:
        assert not run.tracker.finished
    assert mirrored(uri, push(run, uri)) == series(run)


def test_a_mirror_at_work_is_not_pushed_beside(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "FIRST", 60.0)
    run = job(slow_task(), FedAvg(lr=0.001), 100_000).run(silos(Path("data"), **BOTH), on=InProcess(), track=uri)
    with pytest.raises(TrackingError, match=r"is being mirrored.*tracker\.wait"):
        push(run, uri)
    run.stop()
    run.tracker.wait()


def test_a_dead_server_does_not_even_load_mlflow(dead: str, in_tmp: Path) -> None:
    lines = [
        "import sys, pathlib",
        "from fl_kit.tracking import tracker",
        "from tests.tasks import *",
        "from fl_kit.strategies import FedAvg",
        "tracker.FIRST, tracker.LAST_ATTEMPTS = 0.0, 0.0",
        "federation = silos(pathlib.Path('data'), a=random_rows(5, 4, 1))",
        f"run = job(LINEAR, FedAvg(lr=0.05), 3).run(federation, on=InProcess(), track={dead!r})",
        "run.wait()",
        "run.tracker._thread.join()",
        "assert 'does not answer' in str(run.tracker.error), run.tracker.error",
        "assert 'mlflow' not in sys.modules",
    ]
    python(lines, in_tmp)


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_in_trouble_counts_as_dead(status: int) -> None:
    with serving(status) as address, pytest.raises(TrackingError, match=str(status)):
        check_alive(address)


@pytest.mark.parametrize("status", [200, 401, 404])
def test_any_other_answer_means_that_it_is_there(status: int) -> None:
    with serving(status) as address:
        check_alive(address)


def test_a_server_that_hangs_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl_kit.tracking.server.ANSWERS_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(TrackingError, match="does not answer"):
        check_alive(f"http://127.0.0.1:{mute.getsockname()[1]}")


class serving:  # noqa: N801 - used like a function
    """An HTTP server that answers everything with one status."""

    def __init__(self, status: int) -> None:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


# Kernels that die, and runs that go on


def python(lines: list[str], cwd: Path, code: int = 0) -> str:
    """Run lines in a new interpreter that sees the repository."""
    root = Path(__file__).parents[2]
    lines = ["import sys", f"sys.path.insert(0, {str(root)!r})", *lines]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_a_kernel_that_leaves_after_wait_loses_nothing(uri: str, in_tmp: Path) -> None:
    lines = [
        "import pathlib",
        "from fl_kit.tracking import tracker",
        "from tests.tasks import *",
        "from fl_kit.strategies import FedAvg",
        "tracker.AT_EXIT = 60.0",  # a busy machine loads MLflow in its own time
        "federation = silos(pathlib.Path('data'), a=random_rows(5, 4, 1))",
        f"run = job(LINEAR, FedAvg(lr=0.05), 3).run(federation, on=InProcess(), track={uri!r})",
        "run.wait()",
        "assert not run.tracker.finished",
    ]
    python(lines, in_tmp)
    (folder,) = (path.parent for path in Path("runs").glob("*/job.json"))
    (ledger,) = load(folder)
    assert (ledger.end, ledger.model) == ("FINISHED", 3)
    told = MlflowClient(tracking_uri=uri).get_run(ledger.runs[""])
    assert told.info.status == "FINISHED"
    assert len(told.outputs.model_outputs) == 1


def test_a_run_goes_on_in_the_same_mlflow_run_after_its_kernel_was_killed(uri: str, in_tmp: Path) -> None:
    task = slow_task().resolve()
    lines = [
        "import os, pathlib, signal, time, mlflow.pytorch",
        "from fl_kit.tracking import tracker",
        "from tests.tasks import *",
        "from fl_kit.strategies import FedAvg",
        "tracker.FIRST, tracker.EVERY, tracker.SHARE = 0.0, 0.01, 1.0",
        "federation = silos(pathlib.Path('data'), a=random_rows(5, 4, 1), b=random_rows(7, 4, 2))",
        f"run = job({str(task)!r}, FedAvg(lr=0.001), 100).run(federation, on=InProcess(), track={uri!r})",
        "while run.status == 'running' and run.tracker._delivery.ledger.sent.get('global/loss', 0) < 3:",
        "    time.sleep(0.005)",
        "os.kill(os.getpid(), signal.SIGKILL)",
    ]
    python(lines, in_tmp, code=-9)
    (folder,) = (path.parent for path in Path("runs").glob("*/job.json"))
    (before,) = load(folder)
    half = mirrored(uri, before.runs[""])
    assert half["global/loss"][-1][0] < 100  # a store that falls with its writer may have lost some: they come again
    assert MlflowClient(tracking_uri=uri).get_run(before.runs[""]).info.status == "RUNNING"

    run = InProcess().resume(folder.name)
    run.tracker = mirror(run, uri)
    run.wait()
    run.tracker.wait()
    assert run.tracker.mlflow_run_id == before.runs[""]
    assert mirrored(uri, before.runs[""]) == series(run)
    assert len(MlflowClient(tracking_uri=uri).search_runs(["1"])) == 1
    assert MlflowClient(tracking_uri=uri).get_run(before.runs[""]).info.status == "FINISHED"


def test_a_lost_ledger_is_found_again_at_the_server(uri: str) -> None:
    run = tracked(uri)
    assert run.folder is not None
    (run.folder / "tracking.json").unlink()
    before = mirrored(uri, run.tracker.mlflow_run_id)
    assert push(run.folder, uri) == run.tracker.mlflow_run_id
    assert mirrored(uri, run.tracker.mlflow_run_id) == before


def test_what_the_server_lost_is_sent_again(uri: str) -> None:
    """The ledger says that it has arrived, and a database that fell in the middle of a write no longer has it."""
    run = tracked(uri)
    before = mirrored(uri, run.tracker.mlflow_run_id)
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        lost = database.execute("DELETE FROM metrics WHERE step > 1").rowcount
    database.close()
    assert lost > 0
    assert mirrored(uri, run.tracker.mlflow_run_id) != before
    push(run.folder, uri)
    assert mirrored(uri, run.tracker.mlflow_run_id) == before


def test_a_stopped_run_that_is_resumed_runs_again(uri: str) -> None:
    run = job(slow_task(), FedAvg(lr=0.001), 60).run(silos(Path("data"), **BOTH), on=InProcess(), track=uri)
    while run.rounds_done < 2:
        assert run.status == "running"
    run.stop()
    run.wait()
    run.tracker.wait()
    again = InProcess().resume(run.id)
    again.tracker = mirror(again, uri)
    assert not again.tracker.finished
    again.wait()
    again.tracker.wait()
    told = MlflowClient(tracking_uri=uri).get_run(again.tracker.mlflow_run_id)
    assert again.tracker.mlflow_run_id == run.tracker.mlflow_run_id
    assert told.info.status == "FINISHED"
    assert {output.step for output in told.outputs.model_outputs} == {run.state().round, 60}
    assert mirrored(uri, told.info.run_id) == series(again)


# Bad input


def test_a_run_that_was_never_mirrored_asks_where_to(in_tmp: Path) -> None:
    run = tracked(None)
    assert run.folder is not None
    with pytest.raises(TrackingError, match="never mirrored, so say where to"):
        push(run.folder)


def test_no_run_folder_names_the_nearest(in_tmp: Path) -> None:
    run = tracked(None)
    with pytest.raises(RunNotFound, match=run.id):
        push(f"runs/{run.id[:-1]}", "sqlite:///none.db")


def test_a_damaged_ledger_says_so(uri: str) -> None:
    run = tracked(uri)
    assert run.folder is not None
    (run.folder / "tracking.json").write_text('{"format": 1, "mirr')
    with pytest.raises(TrackingError, match=r"tracking\.json is damaged"):
        push(run.folder, uri)


def test_a_password_is_kept_nowhere(uri: str, in_tmp: Path, dead: str) -> None:
    secret = dead.replace("//", "//ada:s3cret@")
    run = job(LINEAR, FedAvg(lr=0.05), 1).run(silos(Path("data"), **BOTH), on=InProcess(), track=secret)
    run.wait()
    with pytest.raises(TrackingError) as caught:
        run.tracker.wait()
    with pytest.raises(TrackingError) as pushed:
        push(run, secret)
    shown = [str(caught.value), str(pushed.value), repr(run.tracker), run.tracker.uri]
    files = [p.read_bytes().decode("latin-1") for p in in_tmp.rglob("*") if p.is_file()]
    assert [text for text in shown + files if "s3cret" in text] == []
    assert without_password("https://a:b@host:1/p?q") == "https://host:1/p?q"
    assert without_password("sqlite:///a@b.db") == "sqlite:///a@b.db"


def test_each_server_has_its_own_ledger(tmp_path: Path) -> None:
    first = ledger_for(tmp_path, "http://one", "x")
    first.sent["a/loss"] = 3
    first.save(tmp_path)
    second = ledger_for(tmp_path, "http://two", "x")
    assert second.sent == {}
    second.save(tmp_path)
    assert ledger_for(tmp_path, "http://one", "x") == first
    assert [ledger.uri for ledger in load(tmp_path)] == ["http://one", "http://two"]
    first.save(tmp_path)
    assert [ledger.uri for ledger in load(tmp_path)] == ["http://two", "http://one"]


def test_a_record_is_the_same_from_the_run_and_from_its_folder(in_tmp: Path) -> None:
    run = tracked(None)
    assert run.folder is not None
    ours, theirs = of_run(run), of_folder(run.folder)
    for name in ("id", "job", "plan", "federation"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.end() == theirs.end() == "FINISHED"
    assert ours.events(0) == theirs.events(0)
    state = theirs.state()
    assert state is not None
    assert torch.equal(state.params["weight"], run.state().params["weight"])


def test_mlflow_is_loaded_by_nobody_who_does_not_track(in_tmp: Path) -> None:
    python(["import fl_kit.tracking, fl_kit.job, sim.in_process", "assert 'mlflow' not in sys.modules"], in_tmp)
