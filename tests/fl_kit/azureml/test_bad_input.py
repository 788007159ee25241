"""Bad input, and what goes wrong on the way, through the real client: one clear error each time, and nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from fl_kit import FedAvg, Federation, Job
from fl_kit.azureml.backend import AzureML
from fl_kit.errors import StepFailed
from fl_kit.events import NOTE, ROUND_COMPLETED, SILO_LEFT_OUT
from sim.azureml import LocalWorkspace
from sim.azureml.credential import LocalCredential
from sim.faults import Corrupt
from tests.fl_kit.azureml.test_run import SLOW, ended
from tests.sim.small import digests, federation, undisturbed, variant
from tests.sim.small import job as asked
from tests.sim.test_bad_input import MALFORMED

pytestmark = pytest.mark.slow

SIZES = {"alpha": 20, "bravo": 13}


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), SIZES)


@pytest.fixture(scope="module")
def local(silos: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWorkspace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        with LocalWorkspace.for_federation(silos, tmp_path_factory.mktemp("workspace") / "root") as made:
            yield made


@pytest.fixture
def backend(local: LocalWorkspace, tmp_path: Path) -> AzureML:
    return AzureML(local.client(), folder=tmp_path / "runs")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("workspace", "the workspace 'other' was not found"),
        ("subscription", "the subscription '11111111-0000-0000-0000-000000000001' could not be found"),
    ],
)
def test_an_unknown_workspace_or_subscription_is_named_and_leaves_no_run_folder(local, tmp_path, name, words):
    from azure.ai.ml import MLClient

    own = local.state.settings
    unknown = {"workspace": "other", "subscription": "11111111-0000-0000-0000-000000000001"}
    place = {"workspace": own.name, "subscription": own.subscription, name: unknown[name]}
    client = MLClient(
        LocalCredential(local.state),
        place["subscription"],
        own.resource_group,
        place["workspace"],
        enable_telemetry=False,
    )
    with pytest.raises(HttpResponseError, match=words):
        AzureML(client, folder=tmp_path / "runs").start(asked(), local.federation)
    assert [path for path in (tmp_path / "runs").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("what", ["compute", "datastore"])
def test_a_place_that_is_not_there_is_named_by_the_workspace_too(local, backend, what):
    """`check` names it before; a job that is submitted all the same is refused as a whole."""
    data = {"datastore": {"data": "azureml://datastores/nowhere/paths/data/"}}.get(what, {})
    away = replace(local.federation["alpha"], **{what: "nowhere", **data})
    made = replace(local.federation, silos=(away, local.federation["bravo"]))
    with pytest.raises(HttpResponseError, match=f"there is no {what} 'nowhere'"):
        backend.start(asked(), made)
    assert [path.name for path in Path(backend.folder).iterdir()] == ["audit.jsonl"]  # what was tried is recorded


def test_what_the_environment_lacks_and_nobody_could_see_is_named_by_silo_and_step(local, backend, tmp_path):
    """A module that is imported by a name made up while it runs: `check` sees those that the source names."""
    source = "import importlib\ndef loss(outputs, targets):\n    importlib.import_module('not_' + 'here')"
    run = asked(variant(tmp_path, source), rounds=1).run(local.federation, on=backend)
    with pytest.raises(StepFailed, match="No module named 'not_here'") as raised:
        run.wait(timeout=240)
    assert (raised.value.round, raised.value.op, raised.value.kind) == (1, "fit", "ModuleNotFoundError")
    assert raised.value.silo in SIZES


def test_a_malformed_update_is_named_or_left_out_as_in_a_simulation(local, backend, silos, tmp_path):
    task = Job(task=variant(tmp_path, MALFORMED), strategy=FedAvg(), rounds=1).task
    strategy = task.module.Spoiled(how="nan", silo="bravo", epochs=1, batch_size=8, lr=0.2)
    quorum = Job(task=task, strategy=strategy, rounds=1, min_silos=1)
    run = quorum.run(local.federation, on=backend).wait(timeout=240)
    assert digests(run, range(2)) == digests(undisturbed(quorum, silos), range(2))
    ((party, reason),) = [(event.party, str(event.value)) for event in run.events() if event.name == SILO_LEFT_OUT]
    assert party == "bravo"
    assert reason.startswith("malformed update")
    all_needed = Job(task=task, strategy=strategy, rounds=1).run(local.federation, on=backend)
    with pytest.raises(StepFailed, match="bravo, round 1, step 'fit': malformed update"):
        all_needed.wait(timeout=240)


def test_an_update_that_is_damaged_on_the_way_is_asked_for_again(local, backend, silos):
    """Once: then the bits are those of the undisturbed run. The run is strict, so its round is submitted again."""
    local.disturb({"bravo": Corrupt()})
    job = asked(rounds=1, retries=1)
    run = job.run(local.federation, on=backend).wait(timeout=240)
    local.faults.clear()
    assert len(run.jobs) == 2
    assert digests(run, range(2)) == digests(undisturbed(job, silos), range(2))
    assert set(run.failures.kind) == {"MessageError"}
    assert {"bravo", "orchestrator"} == set(run.failures.silo)


def test_a_step_that_is_killed_is_named_and_tried_again(local, backend, tmp_path):
    """137 is how a container says that its process was killed, for want of memory mostly."""
    source = "import os\ndef loss(outputs, targets):\n    print('so far so good', flush=True)\n    os._exit(137)"
    job = asked(variant(tmp_path, source), rounds=1, evaluate_every=0, retries=1)
    run = job.run(local.federation, on=backend)
    with pytest.raises(
        StepFailed, match=r"status code 137. Its log ends with: so far so good. .*lost 2 times"
    ) as raised:
        run.wait(timeout=240)
    assert (raised.value.round, raised.value.op) == (1, "fit")
    assert raised.value.silo in set(run.failures.silo)
    assert len(run.jobs) in (2, 3)  # whose step dies first ends the round; each silo's may be lost once


def until_a_round_is_done(run: Any) -> None:
    while not any(event.name == ROUND_COMPLETED for event in run.events()):
        assert run.status == "running"
        time.sleep(0.05)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_workspace_that_is_stopped_and_started_in_the_middle_of_a_run(silos, tmp_path, monkeypatch, retries):
    """Without retries the run says what happened and can be resumed; with them it goes on by itself."""
    monkeypatch.chdir(tmp_path)
    workspace = LocalWorkspace.for_federation(silos, tmp_path / "root").start()
    try:
        job = asked(variant(tmp_path, SLOW), strategy=FedAvg(epochs=6, batch_size=4), rounds=2, retries=retries)
        backend = AzureML(workspace.client(), folder=tmp_path / "runs")
        run = job.run(workspace.federation, on=backend)
        until_a_round_is_done(run)
        workspace.stop()
        time.sleep(1)
        workspace.start()
        ended(run)
        assert any("does not answer" in str(event.value) for event in run.events() if event.name == NOTE)
        if retries == 0:
            assert run.status == "failed"
            assert "the workspace was stopped while this ran" in str(run.events()[-1].value)
            run = backend.resume(run.id).wait(timeout=240)
        assert run.status == "completed"
        assert digests(run, range(3)) == digests(undisturbed(job, silos), range(3))
    finally:
        workspace.stop()


KERNEL = """
import sys, time
from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential
from fl_kit import FedAvg, Federation
from fl_kit.azureml import AzureML
from tests.sim.small import job

folder, task, federation, subscription, group, name = sys.argv[1:]
client = MLClient(DefaultAzureCredential(), subscription, group, name, enable_telemetry=False)
asked = job(task, strategy=FedAvg(epochs=4, batch_size=4), rounds=2)
run = asked.run(Federation.load(federation), on=AzureML(client, folder=folder))
print(run.id, flush=True)
seen = 0
while True:
    for event in run.events(after=seen):
        print(event.to_json(), flush=True)
        seen += 1
    time.sleep(0.05)
"""


def test_a_kernel_that_is_killed_while_watching_loses_nothing(local, backend, silos, tmp_path, root):
    """Another one attaches, gets the events that the first one saw and those that follow, and the same bits."""
    task = variant(tmp_path, SLOW)
    file = local.federation.save(tmp_path / "federation.yaml")
    own = local.state.settings
    names = [own.subscription, own.resource_group, own.name]
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(backend.folder), str(task), str(file), *names],
        cwd=root,
        env={**os.environ, **local.environment(), "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: list[str] = []
    try:
        assert kernel.stdout is not None
        run_id = kernel.stdout.readline().strip()
        for line in kernel.stdout:
            seen.append(line.strip())
            if json.loads(line)["name"] == ROUND_COMPLETED:
                break
    finally:
        kernel.send_signal(signal.SIGKILL)
        kernel.communicate()
    run = backend.attach(run_id).wait(timeout=240)
    assert [event.to_json() for event in run.events()][: len(seen)] == seen
    assert run.status == "completed"
    job = asked(task, strategy=FedAvg(epochs=4, batch_size=4), rounds=2)
    assert digests(run, range(3)) == digests(undisturbed(job, silos), range(3))
