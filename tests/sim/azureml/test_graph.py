"""From a submitted job to steps: references, nesting, optional inputs, and jobs that cannot run."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.azureml.errors import WorkspaceError
from sim.azureml.graph import Graph, graph_of
from sim.azureml.job_step import JobStep, Location, Result, Target, Value, command_line, seconds

FIT = {
    "type": "command",
    "command": "fit ${{inputs.data}} $[[--state ${{inputs.state}}]] --lr ${{inputs.lr}} ${{outputs.update}}",
    "code": "azureml:/w/codes/c/versions/1",
    "environment": "azureml:/w/environments/e/versions/1",
    "inputs": {
        "data": {"type": "uri_folder"},
        "state": {"type": "uri_folder", "optional": True},
        "lr": {"type": "number", "default": "0.5"},
    },
    "outputs": {"update": {"type": "uri_folder"}},
    "environment_variables": {"A": "component", "B": "component"},
    "resources": {"instance_count": 2},
}
AGGREGATE = {
    "type": "command",
    "command": "aggregate $[[${{inputs.first}}]] $[[${{inputs.second}}]] ${{outputs.state}}",
    "inputs": {name: {"type": "uri_folder", "optional": "true"} for name in ("first", "second")},
    "outputs": {"state": {"type": "uri_folder"}},
}


def refer(text: str) -> dict[str, str]:
    return {"job_input_type": "literal", "value": f"${{{{parent.{text}}}}}"}


ROUND = {
    "type": "pipeline",
    "inputs": {"state": {"type": "uri_folder", "optional": True}, "where": {"type": "string", "default": "orch"}},
    "outputs": {"state": {"type": "uri_folder"}},
    "jobs": {
        "aggregate": {
            "componentId": "aggregate",
            "computeId": "/w/computes/orchestrator",
            "inputs": {"first": refer("jobs.fit_a.outputs.update"), "second": refer("jobs.fit_b.outputs.update")},
            "outputs": {"state": {"value": "${{parent.outputs.state}}", "type": "literal"}},
        },
        "fit_a": {
            "componentId": "fit",
            "type": "command",
            "computeId": "/w/computes/a",
            "inputs": {
                "data": {"job_input_type": "uri_folder", "uri": "azureml://datastores/a/paths/data/"},
                "state": refer("inputs.state"),
            },
            "outputs": {"update": {"uri": "azureml://datastores/o/paths/${{name}}/u", "job_output_type": "uri_folder"}},
            "environment_variables": {"B": "node ${{parent.inputs.where}}"},
            "limits": {"timeout": 100},
            "distribution": {"process_count_per_instance": 3},
        },
        "fit_b": {
            "componentId": "fit",
            "computeId": "azureml:${{parent.inputs.where}}",
            "inputs": {"data": {"uri": "azureml:rows:3", "job_input_type": "uri_folder"}, "lr": {"value": "0.1"}},
        },
    },
}
COMPONENTS: dict[str, Any] = {"fit": FIT, "aggregate": AGGREGATE, "round": ROUND}


def two_rounds() -> dict[str, Any]:
    return {
        "jobType": "Pipeline",
        "settings": {"continue_on_step_failure": True, "default_datastore": "/w/datastores/o"},
        "inputs": {"start": {"jobInputType": "uri_folder", "uri": "azureml://datastores/o/paths/start"}},
        "outputs": {"final": {"jobOutputType": "uri_folder", "uri": "azureml://datastores/o/paths/final"}},
        "jobs": {
            "round_001": {"type": "pipeline", "componentId": "round", "inputs": {"state": refer("inputs.start")}},
            "round_002": {
                "type": "pipeline",
                "componentId": "round",
                "inputs": {"state": refer("jobs.round_001.outputs.state"), "where": {"value": "b"}},
                "outputs": {"state": {"value": "${{parent.outputs.final}}", "type": "literal"}},
            },
        },
    }


def graph(job: dict[str, Any]) -> Graph:
    return graph_of(job, COMPONENTS.__getitem__)


def steps(job: dict[str, Any]) -> dict[str, JobStep]:
    return {step.path: step for step in graph(job).steps}


def one_node(node: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"jobType": "Pipeline", "jobs": {"n": {"componentId": "aggregate", **node}, **more}}


def test_nested_pipelines_become_a_flat_list_of_steps_each_after_what_it_reads():
    found = graph(two_rounds())
    order = [step.path for step in found.steps]
    assert sorted(order) == sorted(f"round_00{r}/{name}" for r in (1, 2) for name in ("fit_a", "fit_b", "aggregate"))
    for step in found.steps:
        assert all(order.index(before) < order.index(step.path) for before in step.after)
    assert found.continues
    assert found.datastore == "o"


def test_a_state_goes_from_an_inner_aggregate_to_the_next_rounds_fit():
    found = steps(two_rounds())
    assert found["round_001/fit_a"].inputs["state"] == Location(
        uri="azureml://datastores/o/paths/start", kind="uri_folder"
    )
    assert found["round_002/fit_a"].inputs["state"] == Result(step="round_001/aggregate", output="state")
    assert found["round_002/aggregate"].inputs == {
        "first": Result(step="round_002/fit_a", output="update"),
        "second": Result(step="round_002/fit_b", output="update"),
    }


def test_an_output_that_was_lifted_takes_its_place_from_the_level_above():
    found = graph(two_rounds())
    by_path = {step.path: step for step in found.steps}
    assert by_path["round_002/aggregate"].outputs["state"] == Target(
        uri="azureml://datastores/o/paths/final", kind="uri_folder", lifted=True
    )
    assert by_path["round_001/aggregate"].outputs["state"].uri == ""
    assert found.outputs == {"final": Result(step="round_002/aggregate", output="state")}


def test_an_optional_input_that_nobody_gives_is_absent():
    assert "state" not in steps(two_rounds())["round_001/fit_b"].inputs
    assert steps(two_rounds())["round_001/fit_b"].optional == {"state"}


def test_defaults_come_from_the_component_and_give_way_to_the_node():
    found = steps(two_rounds())
    assert found["round_001/fit_a"].inputs["lr"] == Value(text="0.5")
    assert found["round_001/fit_b"].inputs["lr"] == Value(text="0.1")
    assert found["round_001/fit_a"].variables == {"A": "component", "B": "node orch"}


def test_a_compute_may_be_an_input_of_the_pipeline():
    found = steps(two_rounds())
    assert found["round_001/fit_b"].compute == "orch"
    assert found["round_002/fit_b"].compute == "b"
    assert found["round_002/fit_a"].compute == "a"


def test_limits_machines_and_processes():
    step = steps(two_rounds())["round_001/fit_a"]
    assert (step.timeout, step.instances, step.processes) == (100.0, 2, 3)


def test_a_command_job_is_one_step_without_a_path():
    job = {
        "jobType": "Command",
        "command": "echo ${{inputs.n}} $[[--k ${{inputs.k}}]] ${{outputs.o}}",
        "computeId": "/w/computes/cpu",
        "inputs": {"n": {"value": "3", "jobInputType": "literal"}, "none": None},
        "outputs": {"o": {"jobOutputType": "uri_file"}, "default": None},
        "limits": {"timeout": "PT1M"},
        "environmentVariables": {"A": "b"},
    }
    found = graph(job)
    (step,) = found.steps
    assert (step.path, step.compute, step.timeout) == ("", "cpu", 60.0)
    assert step.inputs == {"n": Value(text="3")}
    assert step.optional == {"k"}
    assert step.outputs == {"o": Target(uri="", kind="uri_file"), "default": Target(uri="", kind="uri_folder")}
    assert found.outputs["o"] == Result(step="", output="o")


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"jobType": "Sweep"}, "not 'Sweep'"),
        ({"jobType": "Pipeline", "jobs": {}}, "no nodes"),
        (one_node({"type": "parallel"}), "no 'parallel' nodes"),
        (one_node({"componentId": "fit"}), "node n: its input 'data' is not given, and is not optional"),
        (one_node({"inputs": {"third": {"value": "1"}}}), "no input 'third'"),
        (one_node({"inputs": {"first": refer("jobs.m.outputs.state")}}), "from node m, and there is none"),
        (one_node({"inputs": {"first": refer("jobs.n.outputs.x")}}), "node n has no output 'x'"),
        (one_node({"inputs": {"first": refer("jobs.n.outputs.state")}}), "wait for one another: n"),
        (one_node({"limits": {"timeout": "soon"}}), "'soon' is no time limit"),
        (one_node({"computeId": "${{parent.inputs.x}}"}), "stands for no value"),
    ],
)
def test_a_job_that_cannot_run_is_refused_with_what_is_wrong(job, message):
    with pytest.raises(WorkspaceError, match=message) as caught:
        graph(job)
    assert caught.value.status == 400


def test_two_nodes_that_wait_for_one_another_are_named():
    node = {"componentId": "aggregate", "inputs": {"first": refer("jobs.n.outputs.state")}}
    with pytest.raises(WorkspaceError, match="wait for one another: m, n"):
        graph(one_node({"inputs": {"first": refer("jobs.m.outputs.state")}}, m=node))


def test_a_block_stands_only_if_all_its_inputs_are_given():
    step = JobStep(
        path="s", code="", environment="", compute="", command="run $[[--a ${{inputs.a}} --b ${{ inputs.b }}]] end"
    )
    assert command_line(step, {"a": "1", "b": "2"}, {}) == "run --a 1 --b 2 end"
    assert command_line(step, {"a": "1"}, {}) == "run  end"


def test_a_command_that_uses_what_is_not_given_is_refused():
    step = JobStep(path="s", code="", environment="", compute="", command="run ${{outputs.o}}")
    with pytest.raises(WorkspaceError, match=r"s: its command uses \$\{\{outputs\.o\}\}, which is not given"):
        command_line(step, {}, {"other": "x"})


@given(st.text())
def test_a_value_is_put_in_as_it_is_and_never_read_again(value):
    step = JobStep(path="s", code="", environment="", compute="", command="<${{inputs.a}}>$[[(${{inputs.a}})]]")
    assert command_line(step, {"a": value}, {}) == f"<{value}>({value})"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), (90, 90.0), ("90", 90.0), ("PT1M30S", 90.0), ("PT1H", 3600.0), ("P1DT2S", 86402.0), (0.5, 0.5)],
)
def test_time_limits(given, expected):
    assert seconds(given) == expected
