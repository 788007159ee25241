"""Jobs through the unmodified MLClient: submit, look, stream, list, cancel; and what is refused at submission."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from sim.azureml.executor import Executor
from sim.azureml.places import place_of
from sim.azureml.state import WorkspaceState
from sim.azureml.tokens import STEP_AUDIENCE, bearer

WRITE = "import pathlib, sys\npathlib.Path(sys.argv[1], 'x').write_text(sys.argv[2])\nprint('wrote', sys.argv[2])\n"
READ = "import pathlib, sys\nprint('read', pathlib.Path(sys.argv[1], 'x').read_text())\nopen(sys.argv[2] + '/y', 'w')\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "write.py").write_text(WRITE)
    (folder / "read.py").write_text(READ)
    return folder


@pytest.fixture
def environment(client: Any) -> str:
    from azure.ai.ml.entities import Environment

    client.environments.create_or_update(Environment(name="plain", version="1", image="none"))
    return "plain:1"


def two_steps(code: Path, environment: str, *, output: str = "", compute: str = "alpha") -> Any:
    """A pipeline in a pipeline, whose second step reads what the first wrote."""
    from azure.ai.ml import Input, Output, command, dsl

    folder = {"o": Output(type="uri_folder")}
    write = command(
        name="write",
        inputs={"t": Input(type="string")},
        outputs=folder,
        code=code,
        command="python write.py ${{outputs.o}} ${{inputs.t}}",
        environment=environment,
    ).component
    read = command(
        name="read",
        inputs={"i": Input(type="uri_folder"), "k": Input(type="uri_folder", optional=True)},
        outputs=folder,
        code=code,
        command="python read.py ${{inputs.i}} ${{outputs.o}} $[[${{inputs.k}}]]",
        environment=environment,
    ).component

    @dsl.pipeline(name="round")
    def round_of(text: Input(type="string")):  # type: ignore[valid-type]
        first = write(t=text)
        first.name, first.compute = "first", compute
        if output:
            first.outputs.o = Output(type="uri_folder", path=output)
        second = read(i=first.outputs.o)
        second.name, second.compute = "second", "orchestrator"
        return {"final": second.outputs.o}

    @dsl.pipeline(name="whole")
    def whole() -> Any:
        node = round_of(text="hello")
        node.name = "round_001"
        return {"final": node.outputs.final}

    job = whole()
    place = "azureml://datastores/orchestrator_store/paths/fl/${{name}}/final"
    job.outputs.final = Output(type="uri_folder", path=place)
    return job


def ended(client: Any, name: str, seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while (status := client.jobs.get(name).status) not in ("Completed", "Failed", "Canceled"):
        assert time.monotonic() < end, f"{name} is still {status}"
        time.sleep(0.1)
    return str(getattr(status, "value", status))


def test_a_pipeline_runs_and_is_seen_through_the_sdk(client, workspace, code, environment, capsys):
    job = client.jobs.create_or_update(two_steps(code, environment), experiment_name="fl", tags={"a": "b"})
    client.jobs.stream(job.name)
    streamed = capsys.readouterr().out
    assert "[round_001/second] Completed" in streamed
    job = client.jobs.get(job.name)
    assert (job.status, job.experiment_name, job.tags) == ("Completed", "fl", {"a": "b"})
    (round_001,) = client.jobs.list(parent_job_name=job.name)
    assert (round_001.display_name, round_001.status) == ("round_001", "Completed")
    steps = {step.display_name: step for step in client.jobs.list(parent_job_name=round_001.name)}
    assert {name: step.status for name, step in steps.items()} == {"first": "Completed", "second": "Completed"}
    assert client.jobs.get(steps["first"].name).compute == "alpha"
    assert (workspace.storage("orchestrator_store") / "fl" / job.name / "final" / "y").exists()
    assert job.name in [found.name for found in client.jobs.list()]
    assert step_log(client, steps["second"].name) == "read hello\n"


def step_log(client: Any, run: str) -> str:
    """A step's log by the address that run history gives, as the SDK fetches it: without a token."""
    files = client.jobs._runs_operations.get_run_details(run).log_files
    (address,) = files.values()
    assert requests.get(address.partition("?")[0], timeout=30).status_code == 403
    answer = requests.get(address, timeout=30)
    assert answer.status_code == 200
    return answer.text


def test_named_outputs_are_spelled_as_the_service_spells_them(client, workspace, code, environment):
    """And so 1.35.2 does not find them: a defect that the SDK has on Azure too."""
    job = client.jobs.create_or_update(two_steps(code, environment))
    assert ended(client, job.name) == "Completed"
    data = client.jobs._runs_operations.get_run_data(job.name).run_metadata
    assert data.outputs["final"].type == "UriFolder"
    found = client.jobs._dataset_dataplane_operations.get_batch_dataset_uris([data.outputs["final"].asset_id])
    uri = found.values_property[data.outputs["final"].asset_id].uri
    assert place_of(workspace.state, uri).name == f"fl/{job.name}/final"


def test_a_failing_command_raises_with_its_own_words(client, code, environment, capsys):
    from azure.ai.ml import command
    from azure.ai.ml.exceptions import JobException

    line = "echo ${{inputs.n}} && exit 3"
    job = command(inputs={"n": 7}, code=code, command=line, environment=environment, compute="alpha")
    job = client.jobs.create_or_update(job)
    with pytest.raises(JobException, match="User process exited with status code 3") as caught:
        client.jobs.stream(job.name)
    assert "Error: 7" in str(caught.value)
    assert "Streaming user_logs/std_log.txt" in capsys.readouterr().out
    assert client.jobs.get(job.name).status == "Failed"


def test_cancel_words_and_archive(client, code, environment):
    from azure.ai.ml import command

    job = command(code=code, command="sleep 60", environment=environment, compute="alpha")
    job = client.jobs.create_or_update(job)
    client.jobs.begin_cancel(job.name).result()
    assert ended(client, job.name, 20) == "Canceled"
    client.jobs.archive(job.name)
    assert job.name not in [found.name for found in client.jobs.list()]
    client.jobs.restore(job.name)
    assert job.name in [found.name for found in client.jobs.list()]
    if not hasattr(client.jobs, "update"):
        pytest.skip("this azure-ai-ml has no jobs.update: 1.35 has")
    client.jobs.update(job.name, display_name="other", tags={"c": "d"})
    assert client.jobs.get(job.name).display_name == "other"
    assert client.jobs.get(job.name).tags == {"c": "d"}


@pytest.mark.parametrize(
    ("output", "compute", "message"),
    [
        (
            "azureml://datastores/bravo_store/paths/x",
            "alpha",
            "step round_001/first on compute 'alpha' would write to datastore 'bravo_store', which belongs to silo 'br",
        ),
        (
            "azureml://datastores/alpha_store/paths/private",
            "alpha",
            "step round_001/second on compute 'orchestrator' would read from datastore 'alpha_store'",
        ),
        (
            "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/bravo_store/paths/x",
            "alpha",
            "would write to datastore 'bravo_store'",
        ),
        ("azureml://datastores/nowhere/paths/x", "alpha", "there is no datastore 'nowhere'"),
        ("azureml://datastores/alpha_store/paths/../../x", "alpha", "is no path in datastore 'alpha_store'"),
        ("wasbs://elsewhere/x", "alpha", "is no place in this workspace"),
    ],
)
def test_a_job_that_leaves_its_silo_is_refused_as_a_whole(
    client, workspace, code, environment, output, compute, message
):
    from azure.core.exceptions import HttpResponseError

    before = len(list(workspace.state.documents.list("runs")))
    with pytest.raises(HttpResponseError, match=message.replace("(", r"\(")) as caught:
        client.jobs.create_or_update(two_steps(code, environment, output=output, compute=compute))
    assert caught.value.status_code == 400
    assert len(list(workspace.state.documents.list("runs"))) == before


COMMAND = {"jobType": "Command", "command": "true", "computeId": "alpha"}


@pytest.mark.parametrize(
    ("name", "properties", "status", "message"),
    [
        ("ok", {**COMMAND, "computeId": "gone"}, 400, "the job: there is no compute 'gone'"),
        ("ok", {**COMMAND, "computeId": ""}, 400, "the job has no compute"),
        ("ok", {**COMMAND, "codeId": "azureml:/w/codes/c/versions/9"}, 400, "there is no code"),
        (
            "ok",
            {**COMMAND, "environmentId": "azureml:/w/environments/e/versions/9"},
            400,
            "there is no environment e:9",
        ),
        ("ok", {"jobType": "Pipeline", "jobs": {"n": {"componentId": "x"}}}, 400, "there is no component 'x'"),
        ("ok", {"jobType": "AutoML"}, 400, "runs pipeline and command jobs, not 'AutoML'"),
        (".hidden", COMMAND, 400, "is no name for a job"),
    ],
)
def test_what_a_job_needs_must_be_there(workspace, name, properties, status, message):
    answer = call(workspace, "PUT", f"jobs/{name}", {"properties": properties})
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]
    assert call(workspace, "GET", f"jobs/{name}").status_code == 404


def test_a_job_cannot_be_submitted_with_a_steps_token_nor_without_one(workspace):
    body = {"properties": COMMAND}
    assert call(workspace, "PUT", "jobs/none", body, token="").status_code == 401
    assert call(workspace, "PUT", "jobs/none", body, token=bearer(workspace.state, STEP_AUDIENCE)).status_code == 403


def test_unknown_jobs_and_runs_are_404(workspace):
    for path in ("jobs/none", "jobs/none/cancel"):
        answer = call(workspace, "POST" if path.endswith("cancel") else "GET", path)
        assert answer.status_code == 404
        assert "there is no job 'none'" in answer.json()["error"]["message"]


def call(workspace: Any, method: str, path: str, body: Any = None, token: str | None = None) -> requests.Response:
    state = workspace.state
    token = bearer(state, "test") if token is None else token
    return requests.request(
        method,
        f"{workspace.url}{state.settings.scope}/{path}",
        data=None if body is None else json.dumps(body),
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=30,
    )


def test_the_executor_ends_with_the_workspace(state: WorkspaceState):
    executor = Executor(state)
    state.close()
    assert executor.pool._shutdown
