"""Faults to order: counted, matched by name, and done to a run."""

import json
import time
from collections.abc import Iterator
from datetime import datetime

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from sim.azureml import runs
from sim.azureml.executor import Executor
from sim.azureml.faults import Faults
from sim.azureml.runs import COMPLETED, FAILED
from sim.azureml.tokens import STEP_AUDIENCE, bearer
from tests.sim.azureml.steps import complaint, executing, log, make_workspace, node, pipeline, records, run, text, write


@pytest.fixture(autouse=True, scope="module")
def brisk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "SHORTEST", 0.0)
        yield


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    with executing(make_workspace(tmp_path_factory.mktemp("faults") / "root")) as executor:
        yield executor
        assert executor.state.faults.strikes("compute down", "any") is None


@given(st.integers(1, 20), st.integers(0, 30))
def test_a_fault_strikes_as_often_as_it_was_asked_to(times, calls):
    faults = Faults()
    faults.step_lost("a", times=times)
    assert sum(faults.strikes("step lost", "a") is not None for _ in range(calls)) == min(times, calls)


def test_a_fault_without_a_count_strikes_until_it_is_cleared():
    faults = Faults()
    faults.metrics_down()
    assert all(faults.strikes("metrics down") for _ in range(50))
    faults.clear()
    assert faults.strikes("metrics down") is None


def test_a_pattern_is_held_against_each_name_and_each_kind_apart():
    faults = Faults()
    faults.preempted("fit_*", after=0.5)
    assert faults.strikes("step lost", "fit_alpha") is None
    assert faults.strikes("preempted", "aggregate", "round_001/aggregate", "cpu") is None
    fault = faults.strikes("preempted", "aggregate", "fit_alpha")
    assert fault is not None
    assert fault.seconds == 0.5


@pytest.mark.parametrize(("times", "seconds"), [(-1, 0.0), (1, -0.5)])
def test_a_fault_cannot_strike_less_than_never(times, seconds):
    with pytest.raises(ValueError, match="0 or more seconds"):
        Faults().slow_start(times=times, seconds=seconds)


def test_a_compute_that_is_down_fails_its_steps_before_they_start(executor):
    executor.state.faults.compute_down("alpha")
    nodes = {"a": write("a", computeId="alpha"), "b": write("b", computeId="bravo")}
    assert run(executor, "down", pipeline(nodes, settings={"continue_on_step_failure": True})) == FAILED
    found = records(executor.state, "down")
    assert complaint(found["a"]) == ("ComputeNotReachable", "compute 'alpha' does not answer")
    assert found["a"]["startTimeUtc"] is None
    assert found["b"]["status"] == COMPLETED
    assert run(executor, "up", pipeline(nodes)) == COMPLETED


def test_a_slow_start_is_time_in_the_queue(executor):
    executor.state.faults.slow_start("s", seconds=0.4)
    assert run(executor, "slow", pipeline({"s": write("a")})) == COMPLETED
    record = records(executor.state, "slow")["s"]
    waited = datetime.fromisoformat(record["startTimeUtc"]) - datetime.fromisoformat(record["createdUtc"])
    assert waited.total_seconds() >= 0.4


def test_a_preempted_step_runs_again_from_the_start(executor):
    executor.state.faults.preempted("p", after=0.3)
    command = "echo begin && sleep 0.6 && python write.py ${{outputs.o}} done"
    assert run(executor, "preempt", pipeline({"p": node(command)})) == COMPLETED
    assert text(executor.state, "preempt", "p") == "done"
    lines = log(executor.state, "preempt", "p").splitlines()
    assert lines == ["begin", "The node was preempted; the job is queued again.", "begin", "wrote done"]


def test_a_lost_step_stops_responding_and_then_has_failed(executor):
    executor.state.faults.step_lost("round/l", after=0.2)
    inner = pipeline({"l": node("sleep 20")})
    outer = {"round": {"type": "pipeline", "componentId": json.dumps({"jobs": inner["jobs"]})}}
    began = time.monotonic()
    assert run(executor, "lost", pipeline(outer)) == FAILED
    assert time.monotonic() - began < 10
    found = records(executor.state, "lost")
    assert complaint(found["round/l"]) == ("NodeLost", "the node that ran the step was lost")
    assert found["round"]["status"] == FAILED
    assert found["round/l"]["parentRunId"] == found["round"]["runId"]


def test_a_datastore_that_refuses_is_named(executor):
    executor.state.faults.datastore_refused("r")
    job = pipeline({"r": node("true", inputs={"i": "azureml://datastores/orchestrator/paths/data"})})
    assert run(executor, "refused", job) == FAILED
    code, message = complaint(records(executor.state, "refused")["r"])
    assert code == "DataAccessError"
    assert message.startswith("DataAccessError(PermissionDenied)")
    assert "'orchestrator'" in message


def test_a_metrics_server_that_is_down_answers_503_and_then_again_as_before(served):
    state = served.state
    address = f"{served.url}/mlflow/v2.0{state.settings.scope}/api/2.0/mlflow/experiments/get-by-name"

    def ask() -> requests.Response:
        return requests.get(
            address,
            params={"experiment_name": "none"},
            headers={"Authorization": f"Bearer {bearer(state, STEP_AUDIENCE)}"},
            verify=str(state.root / "tls" / "bundle.pem"),
            timeout=30,
        )

    before = ask().status_code
    served.faults.metrics_down(times=2)
    found = [ask() for _ in range(3)]
    assert before == 404
    assert [answer.status_code for answer in found] == [503, 503, before]
    assert found[0].json()["error"]["message"] == "the metrics server is down"
