import errno
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fl_kit import FedAvg, Federation, Scaffold
from fl_kit.errors import StoreError
from fl_kit.store import FolderStore
from fl_kit.tensors import digest
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.sim.doomed import Doomed, doomed
from tests.sim.small import LOGISTIC, digests, federation, job, undisturbed, variant

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="forks, and sends POSIX signals")
STRATEGIES = {name: kind(epochs=2, batch_size=8, lr=0.2) for name, kind in (("FedAvg", FedAvg), ("Scaffold", Scaffold))}
SLOW = """
import time

class SlowLoss(nn.BCEWithLogitsLoss):
    def forward(self, outputs, targets):
        time.sleep(0.004)
        return super().forward(outputs, targets)

loss = SlowLoss()
"""


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"))


@pytest.fixture(scope="module")
def victims() -> Iterator[Doomed]:
    with doomed() as starter:
        yield starter


@pytest.fixture
def request_of(silos: Federation, tmp_path: Path) -> dict[str, Any]:
    """What a run in another process is asked for."""
    saved = silos.save(tmp_path / "federation.yaml")
    return {"federation": saved, "runs": tmp_path / "runs", "strategy": "FedAvg", "task": LOGISTIC, "rounds": 3}


def wait_for_state(folder: Path, round: int | None) -> None:
    """Until that round's state is kept; None does not wait."""
    patience = time.monotonic() + 30
    while round is not None and not (folder / f"round_{round:03d}" / "state" / "meta.json").exists():
        assert time.monotonic() < patience
        time.sleep(0.005)


def figures(run: SimulatedRun) -> pd.DataFrame:
    return run.history().sort_values(["round", "party", "metric"], ignore_index=True)


def assert_same(resumed: SimulatedRun, whole: SimulatedRun) -> None:
    """Every round's bits, and every figure, once."""
    rounds = range(whole.job.rounds + 1)
    assert resumed.status == "completed"
    assert digests(resumed, rounds) == digests(whole, rounds)
    pd.testing.assert_frame_equal(figures(resumed), figures(whole), check_exact=True)


MOMENTS = [(None, 0.0), (0, 0.0), (0, 0.06), (1, 0.02), (1, 0.1), (2, 0.06), (3, 0.0)]
"""Kill so many seconds after that round's state is kept; a round takes about 0.13 s."""


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(silos, victims, request_of, tmp_path, strategy):
    slow = variant(tmp_path, SLOW)
    whole = undisturbed(job(slow, strategy=STRATEGIES[strategy], rounds=4), silos)
    rounds_done = []
    for round, seconds in MOMENTS:
        run_id = victims.start(**{**request_of, "task": slow, "strategy": strategy, "rounds": 4})
        wait_for_state(request_of["runs"] / run_id, round)
        time.sleep(seconds)
        victims.send(signal.SIGKILL)
        assert victims.end() == {"code": -signal.SIGKILL}
        rounds_done.append(FolderStore.open(request_of["runs"], run_id).last_round())
        assert_same(InProcess(folder=request_of["runs"]).resume(run_id).wait(), whole)
    assert {0, 1, 2, 3} <= set(rounds_done)


@needs_fork
@pytest.mark.slow
def test_a_run_killed_before_a_write_goes_on_to_the_same_bits(silos, victims, request_of):
    """Before every ninth, by the system itself; tests/sim/test_power_loss.py stops before each of them.

    Scaffold writes all that there is: events, memories and states.
    """
    whole = undisturbed(job(strategy=STRATEGIES["Scaffold"], rounds=2), silos)
    kept = set()
    for number in itertools.count(1, 9):
        run_id = victims.start(**{**request_of, "strategy": "Scaffold", "rounds": 2, "kill_before_write": number})
        end = victims.end()
        if "ended" in end:
            break
        assert end == {"code": -signal.SIGKILL}
        kept.add(FolderStore.open(request_of["runs"], run_id).last_round())
        assert_same(InProcess(folder=request_of["runs"]).resume(run_id).wait(), whole)
    assert (end["ended"], end["code"]) == ("completed", 0)
    assert number > 30
    assert {None, 0, 1} <= kept


@needs_fork
def test_a_run_killed_twice_goes_on_all_the_same(silos, victims, request_of):
    whole = undisturbed(job(), silos)
    run_id = victims.start(**request_of, kill_before_write=12)
    assert victims.end() == {"code": -signal.SIGKILL}
    backend = InProcess(folder=request_of["runs"])
    again = backend.resume(run_id)
    again.stop()
    again.wait()
    assert_same(backend.resume(run_id).wait(), whole)


@needs_fork
def test_an_interrupt_in_a_round_stops_the_run_cleanly(silos, victims, request_of, tmp_path):
    slow = variant(tmp_path, SLOW)
    run_id = victims.start(**{**request_of, "task": slow, "rounds": 40})
    wait_for_state(request_of["runs"] / run_id, 1)
    time.sleep(0.1)  # into the next round
    pressed = time.monotonic()
    victims.send(signal.SIGINT)
    end = victims.end()
    assert time.monotonic() - pressed < 1
    assert (end["ended"], end["error"], end["code"]) == ("stopped", "KeyboardInterrupt", 0)
    assert end["figures"] > 0
    assert end["state"] >= 1
    store = FolderStore.open(request_of["runs"], run_id)
    assert store.events.read()[-1].name == "run/stopped"
    assert store.last_round() == end["state"]
    shorter = undisturbed(job(slow, rounds=2), silos)
    assert digest(store.state(1).params) == shorter.digest(1)


def test_a_stopped_run_goes_on_to_the_same_bits(silos, tmp_path):
    slow = job(variant(tmp_path, SLOW), strategy=STRATEGIES["Scaffold"])
    backend = InProcess(folder=tmp_path / "runs")
    run = slow.run(silos, on=backend)
    while run.rounds_done < 1:
        time.sleep(0.01)
    run.stop()
    assert run.wait().status == "stopped"
    assert not run.state().memory["control_sum"]["weight"].isnan().any()
    resumed = backend.resume(run.id)
    assert resumed.id == run.id
    assert_same(resumed.wait(), undisturbed(slow, silos))
    names = [event.name for event in resumed.events()]
    assert names.count("run/stopped") == names.count("run/resumed") == names.count("run/completed") == 1


def test_a_completed_run_is_given_as_it_is(silos, tmp_path):
    backend = InProcess(folder=tmp_path)
    run = job().run(silos, on=backend).wait()
    files = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    again = backend.resume(run.id).wait()
    assert_same(again, run)
    assert again.events() == run.events()
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == files


def test_the_task_that_ran_is_the_one_that_goes_on_even_if_its_file_changed(silos, tmp_path):
    task = variant(tmp_path, "")
    backend = InProcess(folder=tmp_path / "runs")
    run = job(task).run(silos, on=backend)
    run.stop()
    run.wait()
    task.write_text("raise RuntimeError('edited since')", encoding="utf-8")
    assert_same(backend.resume(run.id).wait(), undisturbed(job(), silos))


@pytest.mark.parametrize(
    ("strategy", "moment"),
    [
        ("FedAvg", "before the events"),
        ("FedAvg", "before the state"),
        ("Scaffold", "before the memories"),
        ("Scaffold", "before the state"),
    ],
)
def test_a_disk_that_fills_up_keeps_what_was_done(silos, tmp_path, monkeypatch, strategy, moment):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(message: Any, folder: Path, **settings: Any) -> None:
        if folder.parent.name == "round_002" and folder.name == ("memories" if "memories" in moment else "state"):
            full()
        intact(message, folder, **settings)

    def write_at(path: Path, size: int, data: bytes) -> None:
        if (path.parent / "round_001" / "state" / "meta.json").exists() and b"round/started" in data:
            full()
        appended(path, size, data)

    whole = undisturbed(job(strategy=STRATEGIES[strategy]), silos)
    with monkeypatch.context() as patch:
        from fl_kit import events, store

        intact, appended = store.write, events.write_at
        if "events" in moment:
            patch.setattr(events, "write_at", write_at)
        else:
            patch.setattr(store, "write", write)
        run = job(strategy=STRATEGIES[strategy]).run(silos, on=InProcess(folder=tmp_path))
        with pytest.raises(StoreError) as raised:
            run.wait()
    assert "round 2" in str(raised.value)
    assert str(run.folder) in str(raised.value)
    assert os.strerror(errno.ENOSPC) in str(raised.value)
    assert run.status == "failed"
    assert run.rounds_done == 1
    assert run.state().round >= 1
    assert digests(run, [0, 1]) == digests(whole, [0, 1])
    assert len(run.history()) > 0
    assert_same(InProcess(folder=tmp_path).resume(run.id).wait(), whole)


@needs_fork
def test_a_file_that_the_system_will_not_let_grow_is_a_store_error(silos, victims, request_of):
    """The events outgrow a limit on the size of files: the system's own error, without a stand-in."""
    request = {**request_of, "rounds": 12}
    limit = len(job(rounds=12).plan(silos).to_json()) + 100
    run_id = victims.start(**request, file_limit=limit)
    end = victims.end()
    assert (end["ended"], end["error"]) == ("failed", "StoreError")
    assert str(request_of["runs"] / run_id) in end["message"]
    assert "round " in end["message"]
    assert end["figures"] > 0
    resumed = InProcess(folder=request_of["runs"]).resume(run_id)
    assert_same(resumed.wait(), undisturbed(job(rounds=12), silos))


@needs_fork
def test_tensors_that_do_not_fit_are_a_store_error(silos, victims, request_of, tmp_path):
    wide = variant(tmp_path, "def model():\n    return nn.Sequential(nn.Linear(3, 2000), nn.Linear(2000, 1)).double()")
    run_id = victims.start(**{**request_of, "task": wide}, file_limit=50_000)
    end = victims.end()
    assert (end["ended"], end["error"]) == ("failed", "StoreError")
    assert "round 0" in end["message"]
    assert str(request_of["runs"] / run_id) in end["message"]
    resumed = InProcess(folder=request_of["runs"]).resume(run_id)
    assert_same(resumed.wait(), undisturbed(job(wide), silos))
