"""Every backend is held to the same rules: those found in sim, and AzureML on a local workspace."""

import importlib
import pkgutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import sim
from fl_kit import FedAvg, Federation, Scaffold
from fl_kit.errors import FederationError, RunNotFound, StepFailed, StoreError
from fl_kit.protocols import Run
from fl_kit.tensors import digest
from sim.in_process import InProcess
from tests.contracts.local_azureml import LocalAzureML
from tests.sim.small import digests, federation, job, undisturbed, variant

SIZES = {"north": 20, "south": 13}
STRATEGY = Scaffold(epochs=1, batch_size=8, lr=0.2)
"""It has a memory in each silo and one at the orchestrator: a backend that loses either gives other bits."""

SLOW = """
import time

class SlowLoss(nn.BCEWithLogitsLoss):
    def forward(self, outputs, targets):
        time.sleep(0.02)
        return super().forward(outputs, targets)

loss = SlowLoss()
"""
BROKEN = "def loss(outputs, targets):\n    raise ArithmeticError('no such loss')  # here"


MADE: list[Any] = []
"""Backends to be closed when all is done."""


def found_in(module: Any) -> Iterator[type]:
    for kind in vars(module).values():
        own = isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__
        if own and all(callable(getattr(kind, method, None)) for method in ("start", "resume")):
            yield kind


def backends() -> list[type]:
    """All but Ray, which needs a cluster: tests/sim/test_ray.py holds it to these rules."""
    modules = [importlib.import_module(found.name) for found in pkgutil.walk_packages(sim.__path__, "sim.")]
    found = sorted({kind for module in modules for kind in found_in(module)}, key=lambda kind: kind.__name__)
    return [*(kind for kind in found if kind is not sim.Ray), LocalAzureML]


def make(kind: type, folder: Path) -> Any:
    """The backend with its defaults; its run folders go where the test can see them go."""
    own = {"folder": folder} if any(f.name == "folder" for f in fields(kind)) else {}
    MADE.append(backend := kind(**own))
    return backend


@pytest.fixture(scope="module", autouse=True)
def closing() -> Iterator[None]:
    yield
    for backend in reversed(MADE):  # each points the environment at itself until it is closed
        getattr(backend, "close", lambda: None)()


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one backend did with one job, twice."""

    backend: Any
    first: Any
    again: Any


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), SIZES)


@pytest.fixture(scope="module", params=backends(), ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type:
    return request.param


@pytest.fixture(scope="module")
def ran(kind: type, silos: Federation, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The job once, and once more with its silos listed backwards."""
    backend = make(kind, tmp_path_factory.mktemp(kind.__name__))
    asked = job(strategy=STRATEGY, rounds=2, seed=11)
    backwards = Federation(silos=tuple(reversed(silos.silos)))
    runs = [asked.run(listed, on=backend).wait() for listed in (silos, backwards)]
    return Ran(backend=backend, first=runs[0], again=runs[1])


def test_backends_are_found():
    assert InProcess in backends()


def test_it_gives_a_run_that_completes(ran):
    assert isinstance(ran.first, Run)
    assert ran.first.status == "completed"
    assert ran.first.wait() is ran.first
    assert ran.first.wait(timeout=0.01) is ran.first
    assert len(ran.first.failures) == 0


def test_the_same_job_gives_the_same_bits_however_its_silos_are_listed(ran):
    assert digests(ran.first, range(3)) == digests(ran.again, range(3))
    assert len(set(digests(ran.first, range(3)))) == 3


def test_its_bits_are_those_of_in_process(ran, silos):
    expected = undisturbed(job(strategy=STRATEGY, rounds=2, seed=11), silos)
    assert digests(ran.first, range(3)) == digests(expected, range(3))
    order = ["round", "party", "metric"]
    found, whole = (run.history().sort_values(order, ignore_index=True) for run in (ran.first, expected))
    pd.testing.assert_frame_equal(found, whole, check_exact=True)


def test_each_run_has_an_id_of_its_own(ran):
    assert ran.first.id != ran.again.id
    assert Path(ran.first.id).name == ran.first.id


def test_history_is_tidy(ran):
    frame = ran.first.history()
    assert list(frame.columns) == ["round", "party", "metric", "value"]
    assert set(frame.party) == {*SIZES, "global"}
    assert set(frame["round"]) == {0, 1, 2}
    assert not frame.duplicated(["round", "party", "metric"]).any()


def test_events_tell_the_beginning_and_the_end_and_can_be_read_on(ran):
    events = ran.first.events()
    assert events[0].name == "run/started"
    assert events[0].value["rounds"] == 2
    assert events[0].value["silos"] == sorted(SIZES)
    assert events[-1].name == "run/completed"
    assert [e.round for e in events if e.name == "round/completed"] == [0, 1, 2]
    assert ran.first.events(after=len(events) - 2) == events[-2:]


def test_each_simulated_round_says_what_its_seconds_went_into(ran):
    if isinstance(ran.backend, LocalAzureML):
        pytest.skip("on AzureML each step says it in its own log: nobody else may see a silo's times")
    rounds = [event for event in ran.first.events() if event.name == "round/completed" and event.round > 0]
    assert len(rounds) == 2
    for value in (event.value for event in rounds):
        assert value["compute"] > 0
        assert min(value["wait"], value["transfer"]) >= 0
        # a silo's seconds lie within those of the orchestrator's step that waits for it, and count once
        assert value["compute"] + value["wait"] + value["transfer"] == pytest.approx(value["seconds"], abs=1e-3)
        assert (value["transfer"] > 0) == (not isinstance(ran.backend, InProcess))  # messages there are passed by hand
    assert not any(event.name == "step/timed" for event in ran.first.events())


def test_each_state_can_be_had(ran):
    assert [ran.first.state(r).round for r in range(3)] == [0, 1, 2]
    assert ran.first.state().round == 2
    with pytest.raises(StoreError, match="round 3"):
        ran.first.state(3)


def test_a_completed_run_can_be_attached_again(ran):
    attached = ran.backend.resume(ran.first.id).wait()
    assert attached.id == ran.first.id
    assert attached.status == "completed"
    assert digests(attached, range(3)) == digests(ran.first, range(3))
    pd.testing.assert_frame_equal(attached.history(), ran.first.history(), check_exact=True)


def test_an_unknown_id_names_the_nearest(ran):
    with pytest.raises(RunNotFound, match=ran.first.id):
        ran.backend.resume(ran.first.id + "x")


def test_a_failing_silo_is_named_with_round_step_and_line(kind, silos, tmp_path):
    task = variant(tmp_path, BROKEN)
    run = job(task, rounds=1).run(silos, on=make(kind, tmp_path / "runs"))
    with pytest.raises(StepFailed) as raised:
        run.wait()
    error = raised.value
    # where silos work at the same time, either may be the first to fail
    assert error.silo in SIZES
    assert (error.round, error.op) == (1, "fit")
    line = len(task.read_text().splitlines())
    assert f"variant.py, line {line}: raise ArithmeticError('no such loss')" in str(error)
    assert run.status == "failed"
    assert run.state().round == 0
    (failed,) = [row for row in run.failures.itertuples() if row.silo == error.silo]
    assert (failed.step, failed.kind) == ("fit", "ArithmeticError")
    assert "Traceback" in failed.detail


def test_a_silo_whose_folder_is_missing_is_named_before_anything_runs(kind, silos, tmp_path):
    gone = Federation(silos=(silos["north"], type(silos["north"])(name="south", data=str(tmp_path / "gone"))))
    with pytest.raises(FederationError, match="south"):
        job().run(gone, on=make(kind, tmp_path / "runs"))


def test_stop_ends_soon_and_what_is_done_can_be_resumed(kind, silos, tmp_path):
    backend = make(kind, tmp_path / "runs")
    asked = job(variant(tmp_path, SLOW), strategy=FedAvg(epochs=10, batch_size=8), rounds=2)
    run = asked.run(silos, on=backend)
    while not any(event.name == "round/completed" for event in run.events()):
        assert run.status == "running"
        time.sleep(0.01)
    asked_to = time.monotonic()
    run.stop()
    run.wait()
    assert time.monotonic() - asked_to < 5
    assert run.status == "stopped"
    assert run.state().round < 2
    assert run.events()[-1].name == "run/stopped"
    resumed = backend.resume(run.id).wait()
    assert resumed.status == "completed"
    assert digests(resumed, range(3)) == digests(undisturbed(asked, silos), range(3))


def test_a_silo_that_exceeds_its_deadline_failed(kind, silos, tmp_path):
    asked = job(variant(tmp_path, SLOW), strategy=FedAvg(epochs=200, batch_size=8), rounds=1, deadline=0.7)
    run = asked.run(silos, on=make(kind, tmp_path / "runs"))
    with pytest.raises(StepFailed, match=r"round 1, step 'fit': it took more than its deadline of 0.7 s") as raised:
        run.wait()
    assert raised.value.kind == "DeadlineExceeded"
    assert "DeadlineExceeded" in set(run.failures.kind)


def test_a_silo_that_fails_is_left_out_where_there_is_a_quorum(kind, silos, tmp_path):
    source = "_read = data\ndef data(folder, split):\n    assert 'north' not in folder\n    return _read(folder, split)"
    asked = job(variant(tmp_path, source), rounds=1, min_silos=1)
    run = asked.run(silos, on=make(kind, tmp_path / "runs")).wait()
    assert digests(run, range(2)) == digests(undisturbed(asked, silos.select(["south"])), range(2))
    left_out = [(event.party, event.round) for event in run.events() if event.name == "silo/left-out"]
    assert ("north", 1) in left_out
    assert "north" in set(run.failures.silo)
    assert set(run.history().party) == {"south", "global"}


def test_where_some_silos_take_part_each_goes_on_with_what_it_kept(kind, silos, tmp_path):
    """It starts from given weights too, which have to get to where its orchestrator is."""
    start = {name: torch.full_like(p, 0.25) for name, p in undisturbed(job(rounds=1), silos).state().params.items()}
    asked = job(strategy=STRATEGY, rounds=4, seed=2, per_round=1, init=start)
    fits = [step.party for step in asked.plan(silos).steps if step.op == "fit"]
    assert fits == ["north", "south", "south", "north"], "the test needs a silo that comes back after a gap"
    run = asked.run(silos, on=make(kind, tmp_path / "runs")).wait()
    expected = undisturbed(asked, silos)
    assert digests(run, [0]) == [digest(start)]
    assert digests(run, range(5)) == digests(expected, range(5))
    order = ["round", "party", "metric"]
    found, whole = (each.history().sort_values(order, ignore_index=True) for each in (run, expected))
    pd.testing.assert_frame_equal(found, whole, check_exact=True)
