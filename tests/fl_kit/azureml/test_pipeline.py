"""Pipelines are compiled, then read by the real SDK; nothing here needs a network."""

import hashlib
import re
from collections import Counter
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Job, Orchestrator, Scaffold, Silo, Target
from fl_kit.azureml.layout import Layout, identifiers
from fl_kit.azureml.nodes import Terms
from fl_kit.azureml.phases import phases
from fl_kit.azureml.pipeline import Pipeline, compile_pipeline
from fl_kit.azureml.submit import write_files
from fl_kit.errors import FederationError, PlanError
from tests.sim.small import LOGISTIC

OWN = "azureml:torch:3"
DIGEST = hashlib.sha256(b"bundle").hexdigest()


def silo(name: str, **more: Any) -> Silo:
    found = {"data": f"azureml://datastores/{name}_store/paths/data/", "compute": f"{name}-cluster"}
    return Silo(**{"name": name, "datastore": f"{name}_store", **found, **more})


def federation(*silos: Silo) -> Federation:
    return Federation(silos=silos, orchestrator=Orchestrator(compute="middle", datastore="middle_store"))


TWO = federation(silo("north"), silo("south-east"))


def terms(federation: Federation = TWO, code: str = "code", **settings: Any) -> Terms:
    asked = Job(**{"task": LOGISTIC, "strategy": FedAvg(), "rounds": 3, **settings})
    return Terms(job=asked, federation=federation, code=code, digest=DIGEST, limit=None, threads=1)


def compiled(about: Terms, *, attempt: int = 0, **chosen: Any) -> Pipeline:
    layout = Layout("run-1", about.job.plan(about.federation), about.federation, attempt)
    return compile_pipeline(about, layout, **chosen)


def paths(pipeline: Pipeline) -> list[str]:
    """Every output path that is submitted."""
    return [out["path"] for call in pipeline.job["jobs"].values() for out in call["outputs"].values()]


def command(pipeline: Pipeline, node: str) -> str:
    found = {c["jobs"][node]["component"]["command"] for c in pipeline.components.values() if node in c["jobs"]}
    (text,) = found
    return str(text)


def test_each_round_calls_the_one_registered_component():
    pipeline = compiled(terms())
    assert list(pipeline.job["jobs"]) == ["round_000", "round_001", "round_002", "round_003", "round_003_report"]
    called = Counter(call["component"].split(":")[1] for call in pipeline.job["jobs"].values())
    assert called == {"fl_logistic_init": 1, "fl_logistic_aggregate": 3, "fl_logistic_report": 1}
    assert len(pipeline.components) == 3


def test_a_round_hands_its_state_to_the_next():
    jobs = compiled(terms()).job["jobs"]
    assert jobs["round_002"]["inputs"]["state"] == {"path": "${{parent.jobs.round_001.outputs.state}}"}
    assert jobs["round_003_report"]["inputs"]["state"] == {"path": "${{parent.jobs.round_003.outputs.state}}"}
    assert jobs["round_002"]["inputs"]["round"] == "round_002"


def test_shared_outputs_go_to_the_orchestrators_datastore_and_private_ones_stay_in_the_silos_own():
    outputs = compiled(terms(strategy=Scaffold())).job["jobs"]["round_002"]["outputs"]
    root = "azureml://datastores"
    assert {name: out["path"] for name, out in outputs.items()} == {
        "north_update": f"{root}/middle_store/paths/fl/run-1/round_002/north/update/",
        "north_memory": f"{root}/north_store/paths/fl/run-1/north/memory/round_002/",
        "south_east_update": f"{root}/middle_store/paths/fl/run-1/round_002/south-east/update/",
        "south_east_memory": f"{root}/south-east_store/paths/fl/run-1/south-east/memory/round_002/",
        "state": f"{root}/middle_store/paths/fl/run-1/round_002/orchestrator/state/",
    }


@pytest.mark.parametrize("strategy", [FedAvg(), Scaffold()])
def test_every_submitted_output_has_a_path_of_its_own_and_needs_nothing_of_azureml_to_find_it(strategy):
    pipeline = compiled(terms(strategy=strategy, rounds=12))
    found = paths(pipeline)
    steps = Job(task=LOGISTIC, strategy=strategy, rounds=12).plan(TWO).steps
    assert len(found) == sum(len(step.outputs) for step in steps)
    assert len(set(found)) == len(found)
    assert not any("${{" in path for path in found)


def test_rounds_that_are_submitted_again_write_beside_the_first_attempt():
    first, again = compiled(terms(strategy=Scaffold())), compiled(terms(strategy=Scaffold()), attempt=2, first=2)
    assert not set(paths(first)) & set(paths(again))
    state = again.job["jobs"]["round_002"]["outputs"]["state"]["path"]
    assert state.endswith("/fl/run-1/round_002-2/orchestrator/state/")


def test_a_chunk_begins_with_the_state_that_the_one_before_left():
    chunk = compiled(terms(), first=3, name="run-1-2")
    assert list(chunk.job["jobs"]) == ["round_003", "round_003_report"]
    assert chunk.job["name"] == "run-1-2"
    state = chunk.job["jobs"]["round_003"]["inputs"]["state"]
    left = "azureml://datastores/middle_store/paths/fl/run-1/round_002/orchestrator/state/"
    assert state == {"type": "uri_folder", "path": left}
    again = compiled(terms(), first=4, earlier=lambda source: f"azureml://elsewhere/{source}")
    state = again.job["jobs"]["round_003_report"]["inputs"]["state"]
    assert state["path"] == "azureml://elsewhere/round_003/orchestrator/aggregate:state"
    assert list(compiled(terms(), last=2).job["jobs"]) == ["round_000", "round_001"]


def test_nothing_is_reused_and_a_failed_silo_ends_the_run_unless_there_is_a_quorum():
    assert compiled(terms()).job["settings"] == {"force_rerun": True, "continue_on_step_failure": False}
    assert compiled(terms(min_silos=1)).job["settings"]["continue_on_step_failure"] is True
    for component in compiled(terms()).components.values():
        assert all(node["component"]["is_deterministic"] is False for node in component["jobs"].values())


def test_with_a_quorum_the_orchestrator_does_without_an_update():
    text = command(compiled(terms(min_silos=1)), "aggregate")
    assert '$[[--input "update/south-east=${{inputs.update_south_east}}"]]' in text
    assert '--input "state=${{inputs.state}}"' in text
    assert "$[[" not in command(compiled(terms()), "aggregate")


def test_a_silo_reads_its_memory_from_its_own_datastore_only():
    calls = compiled(terms(strategy=Scaffold())).job["jobs"]
    assert "north_memories" not in calls["round_001"]["inputs"]
    own = "azureml://datastores/north_store/paths/fl/run-1/north/memory/"
    assert calls["round_002"]["inputs"]["north_memories"]["path"] == own
    calls = compiled(terms(strategy=Scaffold(), min_silos=1)).job["jobs"]
    assert calls["round_002"]["inputs"]["north_memories"]["path"] == "azureml://datastores/north_store/paths/"


def test_a_silo_that_a_stop_may_keep_from_ever_training_needs_no_folder_of_memories():
    """AzureML mounts no folder that is not there, and a stop rule may end the job before a silo's first turn."""
    asked = {"strategy": Scaffold(), "per_round": 1}
    own, root = (
        "azureml://datastores/north_store/paths/fl/run-1/north/memory/",
        "azureml://datastores/north_store/paths/",
    )
    for more, path, words in (({}, own, False), ({"stop": Target(metric="loss", value=0.1)}, root, True)):
        pipeline = compiled(terms(**asked, **more))
        inputs = next(c["inputs"] for c in pipeline.job["jobs"].values() if "north_memories" in c["inputs"])
        assert inputs["north_memories"]["path"] == path
        assert ("run" in inputs) is words


def test_rounds_of_different_silos_are_components_of_their_own():
    plan = terms(strategy=Scaffold(), per_round=1, rounds=8)
    pipeline, names = compiled(plan), [s.party for s in plan.job.plan(plan.federation).steps if s.op == "fit"]
    calls = pipeline.job["jobs"]
    shapes = {c["component"] for name, c in calls.items() if name in {f"round_{r:03d}" for r in range(1, 9)}}
    assert len(set(names)) <= len(shapes) <= 2 * len(set(names))  # with and without a memory
    for round, silo in enumerate(names, 1):
        component = pipeline.components[calls[f"round_{round:03d}"]["component"].removeprefix("azureml:")]
        assert [job["inputs"]["party"] for job in component["jobs"].values()] == [silo, "orchestrator"]


def test_a_step_runs_the_command_of_a_laptop_with_the_bundles_digest():
    text = command(compiled(terms()), "fit_north")
    assert f"python -m fl_kit.step --bundle . --digest {DIGEST}" in text
    assert "--step ${{inputs.round}}/${{inputs.party}}/fit" in text


def test_where_and_as_whom_a_silos_steps_run():
    kubernetes = silo("north", instance_type="gpu-small", identity="managed", instance_count=2, processes=4)
    vm = silo("south", identity="user", variables={"A": "1"})
    about = terms(federation(kubernetes, vm))
    about = Terms(**{**vars(about), "limit": 600})
    nodes = {k: v for c in compiled(about).components.values() for k, v in c["jobs"].items()}
    north, south = nodes["fit_north"], nodes["fit_south"]
    assert north["compute"] == "azureml:north-cluster"
    assert north["resources"] == {"instance_count": 2, "instance_type": "gpu-small"}
    assert north["distribution"] == {"type": "pytorch", "process_count_per_instance": 4}
    assert north["identity"] == {"type": "managed"}
    assert north["limits"] == {"timeout": 600}
    assert "resources" not in south
    assert south["identity"] == {"type": "user_identity"}
    assert south["environment_variables"] == {"A": "1"}
    assert "limits" not in nodes["aggregate"]


def test_each_form_of_a_silos_data():
    about = terms(federation(silo("asset", data="heart:3"), silo("mounted", data="/mnt/data"), silo("path")))
    pipeline = compiled(about)
    inputs = pipeline.job["jobs"]["round_001"]["inputs"]
    assert inputs["asset_data"] == {"type": "uri_folder", "path": "azureml:heart:3"}
    assert inputs["mounted_data"] == "/mnt/data"
    assert inputs["path_data"]["path"] == "azureml://datastores/path_store/paths/data/"
    for url in ("https://acc.blob.core.windows.net/box/x", "AzureML://datastores/s_store/paths/x", "azureml:heart:3"):
        compiled_url = compiled(terms(federation(silo("s", data=url)))).job["jobs"]["round_001"]["inputs"]
        assert compiled_url["s_data"] == {"type": "uri_folder", "path": url}


def test_a_version_follows_from_what_a_component_says_not_from_where_it_lies():
    here, there = compiled(terms(code="/a/code")), compiled(terms(code="/b/elsewhere"))
    assert here.components.keys() == there.components.keys()
    other = compiled(Terms(**{**vars(terms()), "digest": "0" * 64}))
    assert not here.components.keys() & other.components.keys()


def last(pipeline: Pipeline) -> str:
    return list(pipeline.components)[-1]


@pytest.mark.parametrize(
    "settings", [{}, {"rounds": 1}, {"strategy": Scaffold(), "per_round": 1, "rounds": 5}], ids=str
)
def test_the_last_component_is_another_where_any_other_is(settings):
    """So a workspace that has the last one was sent all of them, and need be asked for no more."""
    about = terms(**settings)
    whole = compiled(about)
    assert {label for call in whole.job["jobs"].values() for label in [call["component"].removeprefix("azureml:")]} == (
        whole.components.keys()
    )
    part = compiled(about, first=0, last=2)
    assert len(part.components) < len(whole.components)
    assert last(part).partition(":")[0] == last(whole).partition(":")[0]
    assert last(part) not in whole.components


def test_a_round_is_one_component_in_every_chunk_of_a_run():
    about = terms(rounds=3)
    chunks = [compiled(about, first=first, last=first + 1) for first in range(3)] + [compiled(about, first=3)]
    called = [chunk.job["jobs"].get(f"round_{round:03d}") for round, chunk in enumerate(chunks)]
    rounds = {call["component"] for call in called[1:] if call}
    assert len(rounds) == 1
    assert compiled(about).job["jobs"]["round_001"]["component"] in rounds


def test_components_name_the_code_that_was_uploaded_and_keep_their_names():
    here = compiled(terms())
    there = here.with_code("azureml:/w/codes/c/versions/1")
    nodes = [node for component in there.components.values() for node in component["jobs"].values()]
    assert {node["component"]["code"] for node in nodes} == {there.code} == {"azureml:/w/codes/c/versions/1"}
    assert there.with_code(here.code) == here


def test_each_environment_has_a_name_and_is_registered_once():
    silos = federation(silo("north"), silo("south"), silo("gpu", environment="cuda"), silo("own", environment=OWN))
    pipeline = compiled(terms(silos))
    nodes = {k: v for c in pipeline.components.values() for k, v in c["jobs"].items()}
    named = {node: found["component"]["environment"] for node, found in nodes.items()}
    assert named["fit_own"] == OWN
    assert named["fit_north"] == named["fit_south"] == named["aggregate"] == named["init"] != named["fit_gpu"]
    assert {f"azureml:{label}" for label in pipeline.environments} == {named["fit_north"], named["fit_gpu"]}
    changed = compiled(terms(federation(silo("north", packages=("torch==2.4.0",)))))
    assert len(changed.environments.keys() - pipeline.environments.keys()) == 1


def test_a_party_without_a_place_is_named_with_all_others():
    nowhere = Federation(silos=(Silo(name="north", data="x"), silo("south")))
    with pytest.raises(FederationError, match=r"orchestrator: no compute(.|\n)*orchestrator: no datastore(.|\n)*north"):
        compiled(terms(nowhere))


def test_phases_that_the_plan_has_not():
    with pytest.raises(PlanError, match="no phases from 5 on"):
        compiled(terms(), first=5)


def test_names_that_azureml_takes():
    names = ["long-beach", "long_beach", "7th", "orchestrator-1"]
    found = identifiers(names)
    assert found == {
        "long-beach": "long_beach",
        "long_beach": "long_beach_2",
        "7th": "s_7th",
        "orchestrator-1": "orchestrator_1",
    }
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", ident) for ident in found.values())


def test_a_plan_in_phases():
    plan = Job(task=LOGISTIC, strategy=FedAvg(), rounds=2).plan(TWO)
    found = phases(plan)
    assert [step for phase in found for step in phase.steps] == list(plan.steps)
    assert found[1].shape == found[2].shape


@pytest.fixture(scope="module")
def sdk() -> Any:
    return pytest.importorskip("azure.ai.ml")


@pytest.mark.parametrize(
    "settings",
    [{}, {"strategy": Scaffold(), "min_silos": 1}, {"strategy": Scaffold()}],
    ids=["FedAvg", "quorum", "Scaffold"],
)
def test_the_real_sdk_reads_and_validates_it(sdk, tmp_path, settings):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.txt").write_text("a")
    mixed = federation(
        silo("north", instance_type="gpu", identity="managed", instance_count=2, processes=2),
        silo("south-east", identity="user", data="/mnt/data", environment=OWN),
    )
    about = Terms(**{**vars(terms(mixed, code=str(tmp_path / "code"), **settings)), "limit": 90})
    pipeline = compiled(about)
    scope = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    uploaded = pipeline.with_code(f"azureml:{scope}/codes/c/versions/1")
    for label, file in write_files(uploaded, tmp_path / "sent").items():
        if label in uploaded.components:
            component = sdk.load_component(file)
            assert component._validate().passed, component._validate().error_messages
            assert {node.component.code for node in component.jobs.values()} == {f"{scope}/codes/c/versions/1"}
    files = write_files(pipeline, tmp_path / "yaml")
    for label in pipeline.environments:
        environment = sdk.load_environment(files[label])
        assert f"{environment.name}:{environment.version}" == label
        assert "torch==" in environment._to_rest_object().properties.conda_file
    for label in pipeline.components:
        component = sdk.load_component(files[label])
        assert component._validate().passed, component._validate().error_messages
        assert component._to_rest_object().name == label.partition(":")[0]
    job = sdk.load_job(files["job"])
    assert job._validate().passed, job._validate().error_messages
    wire = job._to_rest_object().as_dict()["properties"]
    found = [out["uri"] for node in wire["jobs"].values() for out in node.get("outputs", {}).values()]
    assert sorted(found) == sorted(paths(pipeline))
    modes = {out["mode"] for node in wire["jobs"].values() for out in node.get("outputs", {}).values()}
    assert modes == {"Upload"}
    assert wire["settings"]["force_rerun"] is True


@pytest.mark.slow
def test_ten_silos_and_fifty_rounds_are_read_in_seconds(sdk, tmp_path):
    import time

    (tmp_path / "code").mkdir()
    ten = federation(*(silo(f"silo-{i}") for i in range(10)))
    began = time.process_time()
    pipeline = compiled(terms(ten, code=str(tmp_path / "code"), rounds=50))
    job = sdk.load_job(write_files(pipeline, tmp_path / "yaml")["job"])
    assert job._validate().passed
    wire = job._to_rest_object().as_dict()
    assert time.process_time() - began < 15
    assert len(wire["properties"]["jobs"]) == 52
