"""Which engine computes a run, and what the run says of it."""

import pytest

from fl_kit.errors import IncompatibleError
from fl_kit.events import ENGINE
from fl_kit.workbench import Workbench
from sim import InProcess
from sim.engines.choice import checked, engine_for
from sim.engines.engine import Simulation
from sim.engines.exact import Exact
from sim.engines.workers import engine as workers
from sim.faults import Drop
from tests.sim.small import federation, job


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory):
    return federation(tmp_path_factory.mktemp("silos"))


@pytest.fixture
def simulation(silos, monkeypatch) -> Simulation:
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    asked = job()
    return Simulation(job=asked, federation=silos, bench=Workbench(asked.task, seed=0), threads=1, own_load=False)


def with_own_load(simulation: Simulation) -> Simulation:
    return Simulation(**{**vars(simulation), "own_load": True})


def test_auto_takes_workers_where_they_can_work(simulation):
    assert type(engine_for("auto", simulation, disturbed=False)) is workers.Workers
    assert type(engine_for("auto", simulation, disturbed=False, begun="workers")) is workers.Workers


def test_auto_is_exact_where_they_cannot_and_says_why(simulation, monkeypatch):
    found = engine_for("auto", with_own_load(simulation), disturbed=False)
    assert type(found) is Exact
    assert found.words.startswith("exact: one silo after the other, since the rows are read by a function of the")
    monkeypatch.setattr(workers, "usable_cores", lambda: 1)
    assert engine_for("auto", simulation, disturbed=False).words.endswith("since there is one core to compute on")
    assert engine_for("auto", simulation, disturbed=True).words.endswith("since faults strike single steps")


def test_what_was_asked_for_and_cannot_be_is_named(simulation):
    found = engine_for("workers", with_own_load(simulation), disturbed=False)
    assert type(found) is Exact
    assert "since workers cannot do it here: the rows are read" in found.words


def test_a_run_that_was_begun_exactly_goes_on_exactly(simulation):
    assert type(engine_for("workers", simulation, disturbed=False, begun="exact")) is Exact
    assert engine_for("exact", simulation, disturbed=False).words == "exact: one silo after the other"


@pytest.mark.parametrize(
    ("asked", "count", "message"),
    [
        ("exakt", None, "InProcess\\(engine='exakt'\\): there is no such engine; did you mean 'exact'"),
        ("auto", 0, "workers=0\\): must be a whole number of at least 1"),
        ("auto", True, "workers=True\\): must be a whole number"),
        ("exact", 2, "the exact engine computes one silo after the other; say engine='workers'"),
    ],
)
def test_what_there_is_not_is_refused(asked, count, message):
    with pytest.raises(IncompatibleError, match=message):
        checked(asked, count)
    with pytest.raises(IncompatibleError, match=message):
        InProcess(engine=asked, workers=count)


def test_a_run_says_what_computes_it(silos):
    run = job().run(silos, on=InProcess(folder=None, engine="exact")).wait()
    assert [event.value for event in run.events() if event.name == ENGINE] == ["exact: one silo after the other"]
    assert "exact: one silo after the other" in repr(run)
    struck = job(min_silos=1).run(silos, on=InProcess(folder=None, faults={"alpha": Drop(rounds=(2,))})).wait()
    assert "since faults strike single steps" in repr(struck)
