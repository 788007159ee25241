"""Runs through the real MLClient to a local workspace: the bits, figures and errors of a run in this process."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fl_kit import FedAvg, Federation, FedProx, Scaffold
from fl_kit.azureml.backend import AzureML
from fl_kit.azureml.run import AzureMLRun
from fl_kit.errors import FlKitError, QuorumLost, RunNotFound, StepFailed, StoreError
from fl_kit.events import ENGINE, NOTE, ROUND_COMPLETED, RUN_FAILED, RUN_RESUMED, RUN_STOPPED, SILO_LEFT_OUT
from fl_kit.execute import run_step
from fl_kit.job import Job
from fl_kit.messages import State
from fl_kit.tensors import digest
from fl_kit.workbench import Workbench
from sim.azureml import LocalWorkspace
from tests.sim.small import digests, federation, undisturbed, variant
from tests.sim.small import job as asked

pytestmark = pytest.mark.slow

SIZES = {"alpha": 20, "bravo-2": 13}
SLOW = """
import time
from functools import partial

class SlowLoss(nn.BCEWithLogitsLoss):
    def forward(self, outputs, targets):
        time.sleep(0.05)
        return super().forward(outputs, targets)

loss = SlowLoss()
"""
BROKEN = "def loss(outputs, targets):\n    raise ArithmeticError('no such loss')  # here"


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), SIZES)


@pytest.fixture(scope="module")
def local(silos: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWorkspace]:
    """A workspace for the silos, to which this process points while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        with LocalWorkspace.for_federation(silos, tmp_path_factory.mktemp("workspace") / "root") as made:
            yield made


@pytest.fixture(scope="module")
def client(local: LocalWorkspace) -> Any:
    return local.client()


@pytest.fixture
def backend(client: Any, local: LocalWorkspace, tmp_path: Path) -> Iterator[AzureML]:
    yield AzureML(client, folder=tmp_path / "runs")
    local.faults.clear()


def ended(run: AzureMLRun) -> AzureMLRun:
    """The run when it has ended, however it did; never waits for ever."""
    with contextlib.suppress(FlKitError):
        assert run.wait(timeout=240).status != "running", "the run takes too long"
    return run


def in_order(run: Any) -> pd.DataFrame:
    return run.history().sort_values(["round", "party", "metric"], ignore_index=True)


def lifecycle(run: Any) -> list[tuple[str, int]]:
    """What happened in each round, whatever the order: a simulation keeps a state while the next round begins."""
    told = (event for event in run.events() if event.party == "orchestrator" and event.name != ENGINE)
    return sorted((event.name, event.round) for event in told)


@pytest.mark.parametrize(
    "strategy",
    [FedAvg(batch_size=8), FedProx(mu=0.1, batch_size=8), Scaffold(batch_size=8)],
    ids=lambda s: type(s).__name__,
)
def test_it_gives_the_bits_and_figures_of_in_process(backend, local, silos, strategy):
    job = asked(strategy=strategy, rounds=2, seed=5)
    run = job.run(local.federation, on=backend).wait(timeout=240)
    assert run.status == "completed"
    expected = undisturbed(job, silos)
    assert digests(run, range(3)) == digests(expected, range(3))
    pd.testing.assert_frame_equal(in_order(run), in_order(expected), check_exact=True)
    assert [event.round for event in run.events() if event.name == ROUND_COMPLETED] == [0, 1, 2]
    assert lifecycle(run) == lifecycle(expected)
    assert len(run.failures) == 0
    again = backend.attach(run.id).wait(timeout=60)
    assert again.events() == run.events()
    assert "done" in run.logs("bravo-2", 2)
    assert "round_002/orchestrator/report" in run.logs("orchestrator", 2)
    with pytest.raises(FlKitError, match="nobody has no log of round 2"):
        run.logs("nobody", 2)
    with pytest.raises(StoreError, match="round 3"):
        run.state(3)


def test_a_failing_silo_is_named_with_round_step_line_and_traceback(backend, local, tmp_path):
    task = variant(tmp_path, BROKEN)
    run = asked(task, rounds=1).run(local.federation, on=backend)
    with pytest.raises(StepFailed) as raised:
        run.wait(timeout=240)
    error = raised.value
    assert (error.round, error.op, error.kind) == (1, "fit", "ArithmeticError")
    assert error.silo in SIZES
    line = len(task.read_text().splitlines())
    assert f"variant.py, line {line}: raise ArithmeticError('no such loss')" in str(error)
    assert "Traceback" in error.detail
    assert run.status == "failed"
    assert run.events()[-1].name == "run/failed"
    assert run.state().round == 0
    assert error.silo in set(run.failures.silo)


def walked(job: Job, silos: Federation, absent: set[tuple[int, str]]) -> list[str]:
    """The digests of a run in which some silos miss some rounds, walked step by step."""
    plan, bench = job.plan(silos), Workbench(job.task, seed=job.seed)
    state: State = run_step(job, plan.by_id["round_000/orchestrator/init"], {"updates": []}, bench)["state"]
    memories: dict[str, Any] = {}
    found = [digest(state.params)]
    for round in range(1, job.rounds + 1):
        updates = []
        for silo in silos.silos:
            if (round, silo.name) not in absent:
                inputs = {"data": silo.data, "state": state, "memory": memories.get(silo.name)}
                outputs = run_step(job, plan.by_id[f"round_{round:03d}/{silo.name}/fit"], inputs, bench)
                memories[silo.name] = outputs["memory"]
                updates.append(outputs["update"])
        step = plan.by_id[f"round_{round:03d}/orchestrator/aggregate"]
        state = run_step(job, step, {"state": state, "updates": iter(updates)}, bench)["state"]
        found.append(digest(state.params))
    return found


def test_with_a_quorum_a_lost_silo_is_left_out_and_goes_on_with_the_memory_that_counted(backend, local, silos):
    local.faults.compute_down("round_001/fit_bravo_2")
    local.faults.step_lost("round_003/fit_alpha")
    job = asked(strategy=Scaffold(batch_size=8), rounds=4, min_silos=1)
    run = job.run(local.federation, on=backend)
    ended(run)
    left_out = [(event.round, event.party) for event in run.events() if event.name == SILO_LEFT_OUT]
    assert left_out == [(1, "bravo-2"), (3, "alpha")]
    rows = [(row.silo, row.round, row.step, row.kind) for row in run.failures.itertuples()]
    assert rows == [("bravo-2", 1, "fit", "ComputeNotReachable"), ("alpha", 3, "fit", "NodeLost")]
    reasons = [event.value for event in run.events() if event.name == SILO_LEFT_OUT]
    assert reasons == ["compute 'bravo-2' does not answer", "the node that ran the step was lost"]
    assert backend.attach(run.id).wait(timeout=60).events() == run.events()
    assert digests(run, range(5)) == walked(job, silos, {(1, "bravo-2"), (3, "alpha")})
    assert run.status == "completed"
    run.wait()


def test_below_the_quorum_the_run_says_who_is_missing(backend, local):
    local.faults.compute_down("round_002/fit_*", times=2)
    run = asked(rounds=2, min_silos=1).run(local.federation, on=backend)
    with pytest.raises(QuorumLost, match=r"round 2: 0 of 2 silos.*missing: alpha, bravo-2"):
        run.wait(timeout=240)
    assert run.state().round == 1
    assert run.status == "failed"


FAULTS = {
    "compute_down": ("ComputeNotReachable", "compute 'alpha' does not answer"),
    "step_lost": ("NodeLost", "the node that ran the step was lost"),
    "datastore_refused": ("DataAccessError", "DataAccessError(PermissionDenied): the identity of 'alpha' may not use"),
}
"""Those that end a step: what its row must say. One that is preempted, or starts slowly, does not fail."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_step_that_could_not_speak_has_a_row_in_azuremls_words(backend, local, fault):
    getattr(local.faults, fault)("round_001/fit_alpha")
    run = asked(rounds=1).run(local.federation, on=backend)
    kind, message = FAULTS[fault]
    with pytest.raises(
        StepFailed, match=r"AzureML\(client\).resume\(.* goes on from round 1.*Job\(retries=1\)"
    ) as raised:
        run.wait(timeout=240)
    assert (raised.value.silo, raised.value.round, raised.value.op) == ("alpha", 1, "fit")
    assert raised.value.kind == kind
    (row,) = run.failures.itertuples()
    assert (row.silo, row.round, row.step, row.kind) == ("alpha", 1, "fit", kind)
    assert row.message.startswith(message)
    attached = ended(backend.attach(run.id))
    assert attached.events() == run.events()
    resumed = backend.resume(run.id).wait(timeout=240)
    assert resumed.status == "completed"


def test_a_lost_step_is_tried_again_without_the_user_and_gives_the_same_bits(backend, local, silos):
    local.faults.step_lost("round_001/fit_alpha")
    local.faults.compute_down("round_002/fit_bravo_2", times=2)
    job = asked(strategy=Scaffold(batch_size=8), rounds=2, retries=2)
    run = job.run(local.federation, on=backend).wait(timeout=240)
    assert run.status == "completed"
    assert run.jobs == (run.id, *(f"{run.id}-{number}" for number in (2, 3, 4)))
    assert digests(run, range(3)) == digests(undisturbed(job, silos), range(3))
    rows = [(row.silo, row.round, row.kind) for row in run.failures.itertuples()]
    down = ("bravo-2", 2, "ComputeNotReachable")
    assert rows == [("alpha", 1, "NodeLost"), down, down]
    told = [str(event.value) for event in run.events() if event.name == NOTE]
    assert [text.partition(":")[0] for text in told] == [
        "round 1 is submitted again (retry 1 of 2)",
        "round 2 is submitted again (retry 1 of 2)",
        "round 2 is submitted again (retry 2 of 2)",
    ]
    assert [event.name for event in run.events()].count(RUN_RESUMED) == 3
    assert RUN_FAILED not in {event.name for event in run.events()}
    assert backend.attach(run.id).wait(timeout=60).events() == run.events()


def test_a_step_that_is_lost_too_often_ends_the_run(backend, local):
    local.faults.compute_down("round_001/fit_alpha", times=0)
    run = asked(rounds=1, retries=1).run(local.federation, on=backend)
    with pytest.raises(StepFailed, match=r"does not answer. The step was lost 2 times; .* goes on from round 1"):
        run.wait(timeout=240)
    assert len(run.failures) == 2
    assert len(run.jobs) == 2


def test_a_quorum_that_lost_machines_took_is_sought_again(backend, local, silos):
    local.faults.compute_down("round_001/fit_*", times=2)
    job = asked(rounds=1, min_silos=1, retries=1)
    run = job.run(local.federation, on=backend).wait(timeout=240)
    assert digests(run, range(2)) == digests(undisturbed(job, silos), range(2))
    assert run.status == "completed"
    assert set(run.failures.kind) == {"ComputeNotReachable", "QuorumLost"}


def test_a_step_that_fails_by_itself_is_not_submitted_again(backend, local, tmp_path):
    """It was tried again already, inside its own command."""
    run = asked(variant(tmp_path, BROKEN), rounds=1, retries=1).run(local.federation, on=backend)
    with pytest.raises(StepFailed, match="no such loss"):
        run.wait(timeout=240)
    assert run.jobs == (run.id,)


def test_stop_ends_soon_and_what_is_done_can_be_resumed(backend, local, silos, tmp_path):
    job = asked(variant(tmp_path, SLOW), strategy=FedAvg(epochs=4, batch_size=4), rounds=2)
    run = job.run(local.federation, on=backend)
    while not any(event.name == ROUND_COMPLETED for event in run.events()):
        assert run.status == "running"
        time.sleep(0.05)
    began = time.monotonic()
    run.stop()
    run.wait(timeout=60)
    assert time.monotonic() - began < 10
    assert run.status == "stopped"
    assert run.events()[-1].name == RUN_STOPPED
    done = run.state().round
    assert done < 2
    resumed = backend.resume(run.id).wait(timeout=240)
    assert resumed.status == "completed"
    assert digests(resumed, range(3)) == digests(undisturbed(job, silos), range(3))
    assert resumed.jobs == (run.id, f"{run.id}-2")
    assert RUN_RESUMED in {event.name for event in resumed.events()}
    rounds = [event.round for event in resumed.events() if event.name == ROUND_COMPLETED]
    assert rounds == [0, 1, 2]
    assert backend.attach(run.id).wait(timeout=60).events() == resumed.events()
    assert backend.resume(run.id).wait(timeout=60).jobs == resumed.jobs


def test_in_chunks_it_gives_the_same_bits_and_events(backend, client, local, silos, tmp_path):
    job = asked(strategy=Scaffold(batch_size=8), rounds=3)
    chunked = AzureML(client, folder=tmp_path / "runs", rounds_per_pipeline=2)
    run = job.run(local.federation, on=chunked).wait(timeout=240)
    assert run.jobs == (run.id, f"{run.id}-2")
    expected = undisturbed(job, silos)
    assert digests(run, range(4)) == digests(expected, range(4))
    pd.testing.assert_frame_equal(in_order(run), in_order(expected), check_exact=True)
    assert backend.attach(run.id).wait(timeout=60).events() == run.events()


def test_without_its_metrics_server_a_run_still_gives_its_bits(backend, local, silos):
    job = asked(strategy=FedAvg(batch_size=8), rounds=1)
    run = job.run(local.federation, on=backend)
    local.faults.metrics_down()
    assert run.wait(timeout=12).status == "running"
    local.faults.clear()
    run.wait(timeout=240)
    assert [event.round for event in run.events() if event.name == ROUND_COMPLETED] == [0, 1]
    assert digests(run, range(2)) == digests(undisturbed(job, silos), range(2))


def test_a_step_that_hangs_is_ended_by_its_limit(client, local, tmp_path):
    """It does not look at its deadline any more, so AzureML's own limit must."""
    hangs = "import time\ndef loss(outputs, targets):\n    time.sleep(600)"
    job = asked(variant(tmp_path, hangs), strategy=FedAvg(), rounds=1, evaluate_every=0, deadline=1)
    run = job.run(local.federation, on=AzureML(client, folder=tmp_path / "runs", margin=7))
    with pytest.raises(StepFailed) as raised:
        run.wait(timeout=240)
    assert (raised.value.round, raised.value.op) == (1, "fit")


def test_an_unknown_id_names_the_nearest(backend, local):
    run = asked(rounds=1).run(local.federation, on=backend)
    with pytest.raises(RunNotFound, match=run.id):
        backend.attach(run.id + "x")
    run.stop()
    ended(run)


@pytest.mark.parametrize("fault", ["preempted", "slow_start"])
def test_a_step_that_azureml_starts_again_or_late_has_not_failed(backend, local, silos, fault):
    {"preempted": local.faults.preempted, "slow_start": partial(local.faults.slow_start, seconds=1)}[fault](
        "round_001/fit_alpha"
    )
    job = asked(rounds=1)
    run = job.run(local.federation, on=backend).wait(timeout=240)
    assert digests(run, range(2)) == digests(undisturbed(job, silos), range(2))
    assert len(run.failures) == 0


def test_what_another_kernel_has_submitted_is_taken_as_it_is(client, local, tmp_path):
    """Two kernels follow a run in chunks: each chunk is submitted once, and both see the same events."""
    job = asked(rounds=2)
    chunked = AzureML(client, folder=tmp_path / "runs", rounds_per_pipeline=1)
    run = job.run(local.federation, on=chunked)
    other = chunked.attach(run.id)
    assert ended(other).events() == ended(run).events()
    assert run.jobs == other.jobs == (run.id, f"{run.id}-2")
    assert digests(run, range(3)) == digests(other, range(3))
