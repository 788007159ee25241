"""The workspace's MLflow through the stock `mlflow` client, over TLS on loopback."""

import json
import math
import os
import ssl
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

import sim.azureml.mlflow as part
from sim.azureml.blob_store import BlobStore, Place
from sim.azureml.mlflow.artifacts import STORE
from sim.azureml.mlflow.figures import NAMES_LIMIT, Figures, Point
from sim.azureml.mlflow.runs import PARAMS_LIMIT
from sim.azureml.state import WorkspaceState
from sim.azureml.tokens import bearer
from tests.sim.azureml.served import new_workspace, served

if TYPE_CHECKING:
    from mlflow import MlflowClient

JOB, FIT = "brave_fox", "brave_fox_fit_north"


class Server:
    """A workspace that serves MLflow only, with one job of one step."""

    def __init__(self, state: WorkspaceState, bundle: Path) -> None:
        self.state = state
        self.trust = ssl.create_default_context(cafile=bundle)
        self.uri = f"{state.settings.url}/mlflow/v2.0{state.settings.scope}"

    def call(self, path: str, body: object = None, token: str | None = None) -> tuple[int, Any]:
        """A bare call, such as a step posts without loading MLflow: a body is POSTed."""
        token = bearer(self.state, "mlflow") if token is None else token
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.uri}{path}", data, {"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, context=self.trust, timeout=30) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)


def submit(state: WorkspaceState) -> None:
    """What the workspace keeps of a job with one step."""
    state.documents.put("jobs", JOB, body={"name": JOB, "properties": {"experimentName": "heart"}})
    root = {"runId": JOB, "rootRunId": JOB, "parentRunId": None, "status": "Running", "displayName": "heart, FedAvg"}
    state.documents.put("runs", JOB, body={**root, "startTimeUtc": "1970-01-02T00:00:00Z", "tags": {"team": "a"}})
    step = {"runId": FIT, "rootRunId": JOB, "parentRunId": JOB, "status": "Completed", "displayName": "fit_north"}
    times = {"startTimeUtc": "1970-01-02T00:00:01Z", "endTimeUtc": "1970-01-02T00:00:03.500000+00:00"}
    state.documents.put("runs", FIT, body={**step, **times, "tags": {}})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = new_workspace(tmp_path_factory.mktemp("workspace"))
    submit(state)
    with served(state, part) as tls, pytest.MonkeyPatch.context() as environment:
        running = Server(state, tls.bundle)
        environment.setenv("MLFLOW_TRACKING_URI", running.uri)
        environment.setenv("MLFLOW_TRACKING_TOKEN", bearer(state, "mlflow"))
        environment.setenv("REQUESTS_CA_BUNDLE", str(tls.bundle))
        environment.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        environment.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.uri)


@pytest.fixture
def run(client: "MlflowClient") -> str:
    """The id of a new run that no job stands behind."""
    return str(client.create_run("0").info.run_id)


def refusal(call: Any, *given: Any, **named: Any) -> str:
    """The error code that MLflow's client raises for a call."""
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as refused:
        call(*given, **named)
    return str(refused.value.error_code)


def test_a_job_is_a_run_with_its_name_as_id(client: "MlflowClient") -> None:
    found = client.get_run(JOB)
    assert found.info.run_id == JOB
    assert (found.info.run_name, found.info.status) == ("heart, FedAvg", "RUNNING")
    assert (found.info.start_time, found.info.end_time) == (86_400_000, None)
    assert found.data.tags["team"] == "a"
    assert client.get_experiment(found.info.experiment_id).name == "heart"
    step = client.get_run(FIT)
    assert (step.info.status, step.info.start_time, step.info.end_time) == ("FINISHED", 86_401_000, 86_403_500)
    assert step.data.tags["mlflow.parentRunId"] == step.data.tags["mlflow.rootRunId"] == JOB
    assert step.info.experiment_id == found.info.experiment_id


@pytest.mark.parametrize(
    ("of_job", "of_run"),
    [
        ("NotStarted", "SCHEDULED"),
        ("Queued", "SCHEDULED"),
        ("Preparing", "SCHEDULED"),
        ("Running", "RUNNING"),
        ("Finalizing", "RUNNING"),
        ("CancelRequested", "RUNNING"),
        ("Completed", "FINISHED"),
        ("Failed", "FAILED"),
        ("Canceled", "KILLED"),
    ],
)
def test_a_run_has_its_job_s_status_whatever_a_client_says(
    server: Server, client: "MlflowClient", of_job: str, of_run: str
) -> None:
    name = f"job_{of_job}"
    server.state.documents.put("runs", name, body={"runId": name, "rootRunId": name, "status": of_job})
    client.set_terminated(name, "FAILED" if of_run != "FAILED" else "FINISHED")
    assert client.get_run(name).info.status == of_run


def test_steps_are_found_by_their_parent(client: "MlflowClient") -> None:
    experiment = client.get_experiment_by_name("heart").experiment_id
    for text in (f"tags.mlflow.parentRunId = '{JOB}'", f'tags."mlflow.parentRunId" = "{JOB}"'):
        assert [found.info.run_id for found in client.search_runs([experiment], text)] == [FIT]
    assert client.search_runs([experiment], "tags.`mlflow.parentRunId` = 'another'") == []
    assert client.search_runs(["0"], f"tags.mlflow.parentRunId = '{JOB}'") == []


def test_a_series_comes_back_as_it_was_logged(client: "MlflowClient", run: str) -> None:
    values = [0.1, 1 / 3, 1e-308, 1.7976931348623157e308, -2.0]
    for step, value in enumerate(values):
        client.log_metric(run, "global/loss", value, timestamp=1000 + step, step=step)
    history = client.get_metric_history(run, "global/loss")
    assert [(point.step, point.timestamp, point.value) for point in history] == [
        (step, 1000 + step, value) for step, value in enumerate(values)
    ]
    assert client.get_run(run).data.metrics == {"global/loss": -2.0}
    assert client.get_metric_history(run, "no such") == []


def test_figures_that_are_no_numbers_survive(client: "MlflowClient", run: str) -> None:
    for step, value in enumerate((math.nan, math.inf, -math.inf)):
        client.log_metric(run, "loss", value, step=step)
    values = [point.value for point in client.get_metric_history(run, "loss")]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


def test_the_latest_figure_is_of_the_highest_step_and_then_the_newest(client: "MlflowClient", run: str) -> None:
    for value, timestamp, step in ((1.0, 50, 2), (2.0, 99, 1), (3.0, 40, 2), (4.0, 50, 2), (math.nan, 50, 2)):
        client.log_metric(run, "x", value, timestamp=timestamp, step=step)
    # Step 2 has 1.0, 3.0, 4.0 and NaN; 3.0 is older; of those at 50, 4.0 is the highest and NaN is below all.
    assert client.get_run(run).data.metrics == {"x": 4.0}


def test_a_batch_holds_figures_parameters_and_tags(client: "MlflowClient", run: str) -> None:
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric("a", 1.0, 10, 0), Metric("a", 2.0, 20, 1), Metric("b", 3.0, 30, 0)]
    client.log_batch(run, metrics=metrics, params=[Param("lr", "0.1")], tags=[RunTag("kind", "demo")])
    found = client.get_run(run).data
    assert (found.metrics, found.params, found.tags["kind"]) == ({"a": 2.0, "b": 3.0}, {"lr": "0.1"}, "demo")


def test_what_is_sent_again_after_a_lost_answer_counts_once(server: Server, client: "MlflowClient", run: str) -> None:
    batch = {"run_id": run, "metrics": [{"key": "x", "value": 0.5, "timestamp": 7, "step": 1}]}
    assert [server.call("/api/2.0/mlflow/runs/log-batch", batch)[0] for _ in range(3)] == [200] * 3
    assert len(client.get_metric_history(run, "x")) == 1
    file = server.state.root / "mlflow" / "figures" / f"{run}.jsonl"
    assert len(file.read_text().splitlines()) == 1


def test_a_figure_of_a_run_that_is_said_again_of_its_model_counts_once(client: "MlflowClient", run: str) -> None:
    model = client.create_logged_model("0", source_run_id=run)
    for of_model in (None, model.model_id):
        client.log_metric(run, "x", 0.5, timestamp=7, step=1, model_id=of_model)
    client.log_metric(run, "y", 0.5, timestamp=7, step=1)
    assert len(client.get_metric_history(run, "x")) == 1
    assert [metric.key for metric in client.get_logged_model(model.model_id).metrics] == ["x"]


def test_a_history_in_pages_goes_on_where_it_ended(server: Server, client: "MlflowClient", run: str) -> None:
    def page(token: str = "") -> tuple[list[int], str]:
        path = f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=x&max_results=3"
        status, answer = server.call(path + (f"&page_token={token}" if token else ""))
        assert status == 200
        return [point["step"] for point in answer["metrics"]], answer.get("next_page_token", "")

    for step in range(7):
        client.log_metric(run, "x", 1.0, step=step)
    steps, token = page()
    assert steps == [0, 1, 2]
    steps, token = page(token)
    assert steps == [3, 4, 5]
    assert page(token) == ([6], "")
    # What is logged meanwhile, though of an earlier step and time, does not move what comes later.
    client.log_metric(run, "x", 1.0, step=-1, timestamp=1)
    assert page(token) == ([6, -1], "")
    client.log_metric(run, "x", 1.0, step=9)
    assert page(token) == ([6, -1, 9], "")


def test_a_history_of_several_runs_in_one_call(server: Server, client: "MlflowClient") -> None:
    runs = [client.create_run("0").info.run_id for _ in range(2)]
    for value, run in enumerate(runs):
        client.log_metric(run, "x", float(value), timestamp=5, step=1)
    asked = "&".join(f"run_id={run}" for run in runs)
    for where in ("api", "ajax-api"):
        _, answer = server.call(f"/{where}/2.0/mlflow/metrics/get-history-bulk?{asked}&metric_key=x")
        assert [(point["run_id"], point["value"]) for point in answer["metrics"]] == [(runs[0], 0.0), (runs[1], 1.0)]
    with_limit = f"/api/2.0/mlflow/metrics/get-history-bulk?{asked}&metric_key=x&max_results=1"
    assert len(server.call(with_limit)[1]["metrics"]) == 1


def test_more_names_than_azureml_takes_are_refused_and_nothing_of_the_batch_is_kept(
    client: "MlflowClient", run: str
) -> None:
    from mlflow.entities import Metric

    client.log_batch(run, metrics=[Metric(f"m{number}", 1.0, 1, 0) for number in range(NAMES_LIMIT)])
    client.log_metric(run, "m0", 2.0, step=1)
    batch = [Metric("m0", 3.0, 2, 2), Metric("one too many", 1.0, 1, 0)]
    assert refusal(client.log_batch, run, metrics=batch) == "INVALID_PARAMETER_VALUE"
    assert [point.step for point in client.get_metric_history(run, "m0")] == [0, 1]


def test_parameters_are_final_and_limited(client: "MlflowClient", run: str) -> None:
    from mlflow.entities import Param

    client.log_param(run, "lr", 0.1)
    client.log_param(run, "lr", 0.1)
    assert refusal(client.log_param, run, "lr", 0.2) == "INVALID_PARAMETER_VALUE"
    assert client.get_run(run).data.params == {"lr": "0.1"}
    for start in (0, 100):
        client.log_batch(run, params=[Param(f"p{start + number}", "1") for number in range(99)])
    client.log_param(run, "last", 1)
    assert len(client.get_run(run).data.params) == PARAMS_LIMIT == 200
    assert refusal(client.log_param, run, "one too many", 1) == "INVALID_PARAMETER_VALUE"


def test_tags_are_changed_and_removed(client: "MlflowClient") -> None:
    client.set_tag(JOB, "fl_kit.failures", '[{"silo": "north"}]')
    client.set_tag(JOB, "team", "b")
    assert client.get_run(JOB).data.tags["fl_kit.failures"] == '[{"silo": "north"}]'
    assert client.get_run(JOB).data.tags["team"] == "b"
    client.delete_tag(JOB, "fl_kit.failures")
    assert "fl_kit.failures" not in client.get_run(JOB).data.tags
    assert refusal(client.delete_tag, JOB, "never set") == "RESOURCE_DOES_NOT_EXIST"
    client.set_tag(JOB, "mlflow.parentRunId", "forged")
    assert "mlflow.parentRunId" not in client.get_run(JOB).data.tags


def test_tags_are_limited(client: "MlflowClient", run: str) -> None:
    from mlflow.entities import RunTag

    client.log_batch(run, tags=[RunTag(f"t{number}", "x" * 1000) for number in range(50)])
    client.set_tag(run, "mlflow.note.content", "x" * 5000)
    client.set_tag(run, "t0", "changed")
    assert refusal(client.set_tag, run, "one too many", "x") == "INVALID_PARAMETER_VALUE"
    assert refusal(client.set_tag, run, "t1", "x" * 1001) == "INVALID_PARAMETER_VALUE"
    kept = client.get_run(run).data.tags
    assert (kept["t0"], kept["t1"], "one too many" in kept) == ("changed", "x" * 1000, False)


def test_many_steps_report_to_one_run_at_once(server: Server, client: "MlflowClient", run: str) -> None:
    def report(silo: int) -> None:
        for step in range(20):
            figure = {"run_id": run, "key": f"silo{silo}/loss", "value": silo, "timestamp": step, "step": step}
            assert server.call("/api/2.0/mlflow/runs/log-metric", figure)[0] == 200
            tag = {"run_id": run, "key": f"silo{silo}", "value": str(step)}
            assert server.call("/api/2.0/mlflow/runs/set-tag", tag)[0] == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(report, range(8)))
    found = client.get_run(run).data
    for silo in range(8):
        assert [point.step for point in client.get_metric_history(run, f"silo{silo}/loss")] == list(range(20))
        assert found.tags[f"silo{silo}"] == "19"


def test_the_fluent_interface_joins_the_step_s_own_run(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    name = "brave_fox_aggregate"
    server.state.documents.put("runs", name, body={"runId": name, "rootRunId": JOB, "status": "Running"})
    monkeypatch.setenv("MLFLOW_RUN_ID", name)
    with mlflow.start_run() as active:
        mlflow.log_metric("accuracy", 0.75, step=3)
        mlflow.log_dict({"a": 1}, "report.json")
    assert active.info.run_id == name
    found = mlflow.get_run(name)
    assert found.data.metrics == {"accuracy": 0.75}
    assert found.info.status == "RUNNING"
    assert json.loads(mlflow.artifacts.load_text(f"{found.info.artifact_uri}/report.json")) == {"a": 1}


def test_artifacts_are_uploaded_listed_and_downloaded(client: "MlflowClient", run: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub folder").mkdir(parents=True)
    (source / "top.bin").write_bytes(raw := os.urandom(2_000_000))
    (source / "sub folder" / "ä.txt").write_text("hello", encoding="utf-8")
    client.log_artifacts(run, str(source), "all")
    assert [(found.path, found.is_dir, found.file_size) for found in client.list_artifacts(run)] == [
        ("all", True, None)
    ]
    assert [(found.path, found.is_dir, found.file_size) for found in client.list_artifacts(run, "all")] == [
        ("all/sub folder", True, None),
        ("all/top.bin", False, 2_000_000),
    ]
    assert client.list_artifacts(run, "all/top.bin") == []
    target = Path(client.download_artifacts(run, "all", str(tmp_path / "target")))
    assert (target / "top.bin").read_bytes() == raw
    assert (target / "sub folder" / "ä.txt").read_text(encoding="utf-8") == "hello"


def test_artifacts_are_blobs_where_the_sdk_downloads_them_from(server: Server, client: "MlflowClient") -> None:
    client.log_text(JOB, "hello", "notes/a.txt")
    server.state.documents.put("datastores", STORE, body={"name": STORE})
    store = BlobStore(server.state)
    (name,) = store.list(STORE, f"ExperimentRun/dcid.{JOB}/")
    assert name == f"ExperimentRun/dcid.{JOB}/notes/a.txt"
    assert store.get(Place(datastore=STORE, name=name)).path.read_text() == "hello"


def test_artifacts_by_rest_are_named_from_the_run(server: Server, client: "MlflowClient", run: str) -> None:
    client.log_text(run, "x", "a/b/c.txt")
    _, answer = server.call(f"/api/2.0/mlflow/artifacts/list?run_id={run}&path=a/b")
    assert answer["files"] == [{"path": "a/b/c.txt", "is_dir": False, "file_size": 1}]
    assert answer["root_uri"] == client.get_run(run).info.artifact_uri


@pytest.mark.parametrize("path", ["../../figures/x.jsonl", "a/../../b", "%2e%2e/%2e%2e/settings.json", "a//b", "./a"])
def test_no_artifact_is_outside_its_run(server: Server, run: str, path: str) -> None:
    here = f"/api/2.0/mlflow-artifacts/artifacts/runs/{run}"
    assert server.call(f"{here}/{path}")[0] in (400, 404)
    status, answer = server.call(f"/api/2.0/mlflow-artifacts/artifacts?path=runs/{run}/{path}")
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert server.call(f"/api/2.0/mlflow-artifacts/artifacts/runs/..{path}")[0] == 404


def test_a_link_among_artifacts_is_not_followed(
    server: Server, client: "MlflowClient", run: str, tmp_path: Path
) -> None:
    client.log_text(run, "x", "a.txt")
    (secret := tmp_path / "secret").write_text("not an artifact")
    (server.state.root / "storage" / STORE / "ExperimentRun" / f"dcid.{run}" / "link").symlink_to(secret)
    assert [found.path for found in client.list_artifacts(run)] == ["a.txt"]
    assert server.call(f"/api/2.0/mlflow-artifacts/artifacts/runs/{run}/link")[0] == 400


@pytest.mark.filterwarnings("ignore:[\\s\\S]*Any type hint is inferred as AnyType:UserWarning")
def test_a_pytorch_model_is_logged_and_loaded(client: "MlflowClient") -> None:
    import mlflow
    import numpy as np
    import torch

    model = torch.nn.Linear(2, 1)
    example = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    with mlflow.start_run(experiment_id=client.create_experiment("models")) as active:
        logged = mlflow.pytorch.log_model(model, name="model", input_example=example, pip_requirements=["torch"])
        mlflow.log_metric("accuracy", 0.5, step=1, model_id=logged.model_id)
    loaded = mlflow.pytorch.load_model(f"models:/{logged.model_id}")
    rows = torch.from_numpy(example)
    with torch.no_grad():
        assert torch.equal(loaded(rows), model(rows))
    kept = mlflow.get_logged_model(logged.model_id)
    assert (kept.name, kept.source_run_id, str(kept.status)) == ("model", active.info.run_id, "READY")
    assert [(metric.key, metric.value, metric.run_id) for metric in kept.metrics] == [
        ("accuracy", 0.5, active.info.run_id)
    ]
    assert [output.model_id for output in client.get_run(active.info.run_id).outputs.model_outputs] == [kept.model_id]
    (found,) = client.search_logged_models([kept.experiment_id], f"source_run_id = '{active.info.run_id}'")
    assert found.model_id == kept.model_id


def test_a_logged_model_s_tags_and_end(client: "MlflowClient") -> None:
    made = client.create_logged_model("0", name="plain", tags={"a": "1"}, params={"depth": "3"})
    assert str(made.status) == "PENDING"
    client.set_logged_model_tags(made.model_id, {"a": "2", "b": "3"})
    client.delete_logged_model_tag(made.model_id, "b")
    kept = client.get_logged_model(made.model_id)
    assert (kept.tags, kept.params) == ({"a": "2"}, {"depth": "3"})
    client.delete_logged_model(made.model_id)
    assert refusal(client.get_logged_model, made.model_id) == "RESOURCE_DOES_NOT_EXIST"


def test_experiments(client: "MlflowClient") -> None:
    made = client.create_experiment("cancer", tags={"owner": "ada"})
    found = client.get_experiment_by_name("cancer")
    assert (found.experiment_id, found.tags, found.lifecycle_stage) == (made, {"owner": "ada"}, "active")
    assert refusal(client.create_experiment, "cancer") == "RESOURCE_ALREADY_EXISTS"
    client.set_experiment_tag(made, "owner", "bob")
    client.rename_experiment(made, "tumour")
    assert client.get_experiment_by_name("cancer") is None
    assert client.get_experiment(made).tags == {"owner": "bob"}
    assert {each.name for each in client.search_experiments(filter_string="name LIKE 'tum%'")} == {"tumour"}
    assert client.create_experiment("cancer") != made
    client.delete_experiment(made)
    assert "tumour" not in {each.name for each in client.search_experiments()}
    client.restore_experiment(made)
    assert "tumour" in {each.name for each in client.search_experiments()}
    assert refusal(client.get_experiment, "12345") == "RESOURCE_DOES_NOT_EXIST"


@pytest.fixture(scope="module")
def searched(client: "MlflowClient") -> str:
    """An experiment with three runs: one, two and three, of which three has neither metric nor parameter."""
    experiment = str(client.create_experiment("searched"))
    for number, name in enumerate(("one", "two", "three"), 1):
        made = client.create_run(experiment, start_time=number * 1000, tags={"kind": name.upper()}, run_name=name)
        if number < 3:
            client.log_metric(made.info.run_id, "global/loss", number / 10)
            client.log_param(made.info.run_id, "strategy", f"FedProx {number}")
        if number == 2:
            client.set_terminated(made.info.run_id, "FAILED")
    return experiment


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", {"one", "two", "three"}),
        ("metrics.`global/loss` > 0.1", {"two"}),
        ("metrics.`global/loss` >= 0.1 AND params.strategy != 'FedProx 2'", {"one"}),
        ("params.strategy LIKE 'FedProx%'", {"one", "two"}),
        ("params.strategy like 'fedprox%'", set()),
        ("params.strategy ILIKE 'fedprox _'", {"one", "two"}),
        ("status = 'FAILED'", {"two"}),
        ("attributes.status IN ('FAILED', 'RUNNING')", {"one", "two", "three"}),
        ("attributes.run_name NOT IN ('one')", {"two", "three"}),
        ("tags.kind = 'ONE' and start_time < 2000", {"one"}),
        ("start_time > 1000", {"two", "three"}),
        ("tags.absent != 'x'", set()),
        ("params.strategy IS NULL", {"three"}),
        ("params.strategy IS NOT NULL and status != 'FAILED'", {"one"}),
        ("tags.kind = 'a AND b'", set()),
    ],
)
def test_searches(client: "MlflowClient", searched: str, text: str, names: set[str]) -> None:
    assert {found.info.run_name for found in client.search_runs([searched], text)} == names


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ([], ["three", "two", "one"]),
        (["start_time"], ["one", "two", "three"]),
        (["attributes.start_time DESC"], ["three", "two", "one"]),
        (["metrics.`global/loss` DESC"], ["two", "one", "three"]),
        (["metrics.`global/loss` ASC"], ["one", "two", "three"]),
        (["tags.kind"], ["one", "three", "two"]),
    ],
)
def test_orders(client: "MlflowClient", searched: str, order: list[str], names: list[str]) -> None:
    assert [found.info.run_name for found in client.search_runs([searched], order_by=order)] == names


def test_a_search_in_pages(client: "MlflowClient", searched: str) -> None:
    first = client.search_runs([searched], max_results=2)
    second = client.search_runs([searched], max_results=2, page_token=first.token)
    assert [found.info.run_name for found in [*first, *second]] == ["three", "two", "one"]
    assert second.token is None


@pytest.mark.parametrize(
    "text",
    [
        "tags.kind = ONE",
        "metrics.x = 'text'",
        "status > 'A'",
        "colours.red = 'x'",
        "attributes.colour = 'x'",
        "tags.kind = 'ONE' OR tags.kind = 'TWO'",
        "tags.kind =",
        "tags.kind IN ()",
        "'x' = 'x'",
        "tags.kind = 'ONE' ;",
    ],
)
def test_a_search_that_is_not_understood_is_refused(client: "MlflowClient", searched: str, text: str) -> None:
    assert refusal(client.search_runs, [searched], text) == "INVALID_PARAMETER_VALUE"


def test_a_deleted_run_is_hidden_takes_no_figures_and_can_be_restored(client: "MlflowClient") -> None:
    from mlflow.entities import ViewType

    experiment = client.create_experiment("deleting")
    run = client.create_run(experiment).info.run_id
    client.delete_run(run)
    assert client.search_runs([experiment]) == []
    assert [found.info.run_id for found in client.search_runs([experiment], "", ViewType.DELETED_ONLY)] == [run]
    assert refusal(client.log_metric, run, "x", 1.0) == "INVALID_PARAMETER_VALUE"
    client.restore_run(run)
    client.log_metric(run, "x", 1.0)
    assert [found.data.metrics for found in client.search_runs([experiment])] == [{"x": 1.0}]


@pytest.mark.parametrize(
    ("path", "body", "code", "status"),
    [
        (
            "runs/log-metric",
            {"run_id": "no_such", "key": "x", "value": 1, "timestamp": 1},
            "RESOURCE_DOES_NOT_EXIST",
            404,
        ),
        ("runs/get?run_id=no_such", None, "RESOURCE_DOES_NOT_EXIST", 404),
        ("metrics/get-history?run_id=no_such&metric_key=x", None, "RESOURCE_DOES_NOT_EXIST", 404),
        (
            "runs/log-metric",
            {"run_id": JOB, "key": "x", "value": "high", "timestamp": 1},
            "INVALID_PARAMETER_VALUE",
            400,
        ),
        ("runs/log-metric", {"run_id": JOB, "key": "x", "value": 1}, "INVALID_PARAMETER_VALUE", 400),
        ("runs/log-metric", {"run_id": JOB, "key": "", "value": 1, "timestamp": 1}, "INVALID_PARAMETER_VALUE", 400),
        ("runs/log-batch", {"run_id": JOB, "tags": "x"}, "INVALID_PARAMETER_VALUE", 400),
        ("runs/log-batch", {"run_id": JOB, "metrics": [7]}, "INVALID_PARAMETER_VALUE", 400),
        ("runs/log-batch", b"{", "INVALID_PARAMETER_VALUE", 400),
        ("runs/log-batch", b"[]", "INVALID_PARAMETER_VALUE", 400),
        ("runs/log-metric", {}, "INVALID_PARAMETER_VALUE", 400),
        ("metrics/get-history-bulk?metric_key=x", None, "INVALID_PARAMETER_VALUE", 400),
        (f"metrics/get-history?run_id={JOB}&metric_key=x&max_results=x", None, "INVALID_PARAMETER_VALUE", 400),
        (f"metrics/get-history?run_id={JOB}&metric_key=x&max_results=0", None, "INVALID_PARAMETER_VALUE", 400),
        ("registered-models/create", {"name": "x"}, "ENDPOINT_NOT_FOUND", 404),
    ],
)
def test_bad_calls_get_one_clear_error(server: Server, path: str, body: object, code: str, status: int) -> None:
    got, answer = server.call(f"/api/2.0/mlflow/{path}", body)
    assert (got, answer["error_code"]) == (status, code)
    assert answer["message"]


def test_a_caller_without_a_token_of_the_workspace_is_refused(server: Server) -> None:
    for token in ("", "made.up.token", bearer(server.state, "mlflow", minutes=-1)):
        assert server.call(f"/api/2.0/mlflow/runs/get?run_id={JOB}", token=token)[0] == 401
        assert server.call("/api/2.0/mlflow-artifacts/artifacts/runs/x/y", token=token)[0] == 401


def test_a_metrics_server_that_is_down_is_waited_for(server: Server, client: "MlflowClient", run: str) -> None:
    server.state.faults.metrics_down(times=1)
    began = time.monotonic()
    client.log_metric(run, "x", 1.0)
    assert time.monotonic() - began < 30
    assert len(client.get_metric_history(run, "x")) == 1
    server.state.faults.metrics_down()
    assert server.call(f"/api/2.0/mlflow/runs/get?run_id={run}")[0] == 503
    server.state.faults.clear()
    assert server.call(f"/api/2.0/mlflow/runs/get?run_id={run}")[0] == 200


def test_figures_are_there_after_a_restart_though_the_last_line_was_cut(tmp_path: Path) -> None:
    points = [Point(key="x", value=value, timestamp=1, step=step) for step, value in enumerate((0.5, math.inf, 0.25))]
    Figures(tmp_path).append("run", points)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"key": "x", "val')
    again = Figures(tmp_path)
    assert again.history("run", "x") == points
    again.append("run", [more := Point(key="x", value=1.0, timestamp=2, step=9)])
    assert Figures(tmp_path).history("run", "x") == [*points, more]


def test_a_restarted_workspace_keeps_its_runs(tmp_path: Path) -> None:
    state = new_workspace(tmp_path)
    submit(state)
    with served(state, part) as tls:
        server = Server(state, tls.bundle)
        made = server.call("/api/2.0/mlflow/runs/create", {"experiment_id": "0", "tags": [{"key": "a", "value": "1"}]})
        run = made[1]["run"]["info"]["run_id"]
        server.call("/api/2.0/mlflow/runs/log-metric", {"run_id": run, "key": "x", "value": 1, "timestamp": 1})
        server.call("/api/2.0/mlflow/runs/log-metric", {"run_id": JOB, "key": "x", "value": 2, "timestamp": 1})
    state = WorkspaceState.open(tmp_path)
    with served(state, part) as tls:
        server = Server(state, tls.bundle)
        found = server.call(f"/api/2.0/mlflow/runs/get?run_id={run}")[1]["run"]["data"]
        assert {"key": "a", "value": "1"} in found["tags"]
        assert [metric["value"] for metric in found["metrics"]] == [1.0]
        assert server.call(f"/api/2.0/mlflow/runs/get?run_id={JOB}")[1]["run"]["data"]["metrics"][0]["value"] == 2.0
