"""Workers that end, cannot begin or cannot be had: the run goes on with the same bits, and says what happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fl_kit import FedAvg
from fl_kit.errors import IncompatibleError
from fl_kit.silo import Federation
from sim.engines.workers import cores, engine
from sim.engines.workers.engine import Workers
from sim.engines.workers.round import HERE
from sim.engines.workers.shared import Shelf
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.sim.engines.standing import PATIENCE, run_by
from tests.tasks import DROPOUT, digests, job, random_rows, silos, write_task

ROOT = Path(__file__).parents[3]
SMALL: dict[str, Any] = {"lr": 0.1, "batch_size": 4}
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    rows = {name: random_rows(size, 4, size) for name, size in {"ash": 11, "birch": 4, "cedar": 9}.items()}
    return silos(tmp_path_factory.mktemp("silos"), **rows)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are started for the smallest job, and a machine of one core has some too."""
    monkeypatch.setattr(engine, "PAYS", 0.0)
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)


def notes(run: SimulatedRun) -> list[str]:
    return [str(event.value) for event in run.events() if event.name == "note"]


def said(run: SimulatedRun) -> str:
    """What the run says of its engine when it begins."""
    (event,) = [event for event in run.events() if event.name == "run/engine"]
    return str(event.value)


@pytest.mark.usefixtures("at_once")
def test_a_task_that_no_other_process_can_import_is_named_and_computed_here(
    federation: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workers, "helps", False)
    monkeypatch.setitem(sys.modules, "only_of_this_notebook", ModuleType("only_of_this_notebook"))
    source = "import only_of_this_notebook\nfrom tests.tasks.dropout import data, loss, model\n"
    settings = job(write_task(tmp_path, source), FedAvg(**SMALL), 2)
    run = InProcess(folder=None, keep="all", engine="workers", workers=2).start(settings, federation)
    pool = run._engine.pool  # type: ignore[union-attr]
    run.wait(PATIENCE)
    assert digests(run) == digests(run_by("exact", settings, federation))
    (note,) = notes(run)
    assert note.startswith("the silos' steps are computed one after the other, since the task 'made_up' cannot be")
    assert "No module named 'only_of_this_notebook'" in note
    assert "only_of_this_notebook" in repr(run)
    assert set(pool.made) == {HERE}


@pytest.mark.usefixtures("at_once")
def test_where_there_is_no_room_for_shared_memory_this_process_computes_alone(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Shelf, area: str, tensors: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Shelf, "put", full)
    settings = job(DROPOUT, FedAvg(**SMALL), 2)
    run = run_by("workers", settings, federation, workers=2)
    assert digests(run) == digests(run_by("exact", settings, federation))
    assert notes(run) == [
        "the silos' steps are computed one after the other, since the model cannot be shared: "
        "[Errno 28] No space left on device"
    ]


def test_a_small_run_starts_no_process(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    run = InProcess(folder=None, engine="workers").start(job(DROPOUT, FedAvg(**SMALL), 2), federation)
    pool = run._engine.pool  # type: ignore[union-attr]
    run.wait(PATIENCE)
    assert said(run) == "workers: up to 2 silos at once, in this process and 1 more"
    assert not pool.started


def test_one_that_takes_longer_starts_them(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    monkeypatch.setattr(engine, "PAYS", 0.01)
    monkeypatch.setattr(engine, "FIRST", 0.0)
    run = InProcess(folder=None, engine="workers").start(job(DROPOUT, FedAvg(**SMALL), 8), federation)
    pool = run._engine.pool  # type: ignore[union-attr]
    run.wait(PATIENCE)
    assert next(pool._names) == 2, "one was started, and ended with the run"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"load": lambda task, folder, split: task.module.data(folder, split)}, "(load=…)"),
        ({"workers": 1}, "workers=1 is this process alone"),
        ({"threads": 2}, "there is one core to compute on"),
    ],
)
def test_what_it_cannot_do_is_done_by_the_exact_engine_which_says_why(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    run = InProcess(folder=None, engine="workers", **settings).start(job(DROPOUT, FedAvg(**SMALL), 1), federation)
    run.wait(PATIENCE)
    assert said(run).startswith("exact: one silo after the other, since workers cannot do it here: ")
    assert why in said(run)
    assert why in repr(run)


def test_so_it_is_where_a_silo_has_a_policy_or_is_the_only_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    alone = silos(tmp_path, ash=random_rows(8, 4, 1))
    run = run_by("workers", job(DROPOUT, FedAvg(**SMALL), 1), alone)
    assert said(run).endswith("one silo trains in a round")
    (tmp_path / "ash" / "policy.toml").write_text("")
    found = InProcess(folder=None, engine="workers", workers=2).start(job(DROPOUT, FedAvg(**SMALL), 1), alone)
    found._ended.wait(PATIENCE)
    assert said(found).endswith("a silo has a policy of its own, which is asked before each of its steps")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 0}, "workers=0"),
        ({"workers": -2}, "at least 1"),
        ({"workers": 1.5}, "workers=1.5"),
        ({"workers": True}, "workers=True"),
        ({"workers": 2, "engine": "exact"}, "one silo after the other"),
    ],
)
def test_workers_that_cannot_be_are_refused_at_once(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(IncompatibleError, match="workers") as refused:
        InProcess(folder=None, **settings)
    assert said in str(refused.value)


def test_more_workers_than_cores_are_warned_of_once(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    run = run_by("workers", job(DROPOUT, FedAvg(**SMALL), 2), federation, workers=3)
    (note,) = notes(run)
    assert note.startswith("3 workers share 2 usable cores: no round gets faster")
    assert note.endswith("workers=2 is as many as pay")


def test_the_cores_are_those_that_the_system_grants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert cores.usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.usable_cores() == (os.cpu_count() or 1)


NOTEBOOK = """
import json, sys
from pathlib import Path
from sim.in_process import InProcess
assert not any(name.startswith("sim.engines.workers") for name in sys.modules), "costs something at import"
from fl_kit import FedAvg, Federation, Silo
from sim.engines.workers import engine
from tests.tasks import job
engine.PAYS = 0.0
task, *folders = sys.argv[1:]
federation = Federation(silos=tuple(Silo(name=Path(folder).name, data=folder) for folder in folders))
run = InProcess(folder=None, engine="workers", workers=2).start(job(task, FedAvg(), 2), federation)
pool = run._engine.pool
while not any(worker.tasks for worker in pool._workers):
    assert not run._ended.wait(0.1), run._error
(worker,) = pool._workers
print(json.dumps([worker.process.pid, str(pool._shelf.folder)]), flush=True)
run.wait()
"""
ENDLESS = """
import time
from tests.tasks.dropout import data, loss, model  # noqa: F401

def fit(model, data, context):
    while True:
        time.sleep(0.01)
        context.check()
"""


@linux
def test_a_notebook_that_is_killed_leaves_no_worker_and_no_shared_memory(
    federation: Federation, tmp_path: Path
) -> None:
    folders = [silo.data for silo in federation.silos]
    command = [sys.executable, "-c", NOTEBOOK, str(write_task(tmp_path, ENDLESS)), *folders]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as notebook:
        assert notebook.stdout is not None
        try:
            pid, folder = json.loads(notebook.stdout.readline())
            assert Path(folder).is_dir()
            assert "worker" in Path(f"/proc/{pid}/cmdline").read_text()
        finally:
            notebook.send_signal(signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while (Path(f"/proc/{pid}").exists() or Path(folder).exists()) and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert not Path(folder).exists()
