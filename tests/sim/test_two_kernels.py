"""Two kernels on one run: the second is refused, and goes on once the first is gone."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from fl_kit import FedAvg, Federation
from fl_kit.errors import RunLocked
from fl_kit.events import NOTE
from fl_kit.run_lock import FILE
from fl_kit.store import FolderStore
from sim.in_process import InProcess
from tests.sim.doomed import doomed
from tests.sim.small import digests, federation, job, undisturbed, variant

WAITING = """
import time
from pathlib import Path

class WaitingLoss(nn.BCEWithLogitsLoss):
    def forward(self, outputs, targets):
        while not (Path(__file__).parent / "go").exists():
            time.sleep(0.01)
        return super().forward(outputs, targets)

loss = WaitingLoss()
"""


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), {"north": 12, "south": 9})


def slow(folder: Path) -> Path:
    return variant(folder, WAITING.replace("Path(__file__).parent", f"Path({str(folder)!r})"))


def test_a_run_that_goes_on_is_not_gone_on_with_twice(silos, tmp_path):
    backend = InProcess(folder=tmp_path / "runs")
    asked = job(slow(tmp_path), rounds=1)
    run = asked.run(silos, on=backend)
    with pytest.raises(RunLocked, match=rf"run {run.id} is held by process {os.getpid()} \(this one\)"):
        backend.resume(run.id)
    (tmp_path / "go").touch()
    run.wait()
    again = backend.resume(run.id).wait()
    assert digests(again, range(2)) == digests(run, range(2)) == digests(undisturbed(asked, silos), range(2))
    assert not (run.folder / FILE).exists()


def test_a_run_that_failed_lets_go(silos, tmp_path):
    asked = job(variant(tmp_path, "def loss(outputs, targets):\n    raise ArithmeticError"), rounds=1)
    run = asked.run(silos, on=InProcess(folder=tmp_path / "runs"))
    with pytest.raises(Exception, match="ArithmeticError"):
        run.wait()
    assert not (run.folder / FILE).exists()


def test_what_the_other_kernel_wrote_since_is_known(silos, tmp_path):
    """The run is opened here, then gone on with and stopped elsewhere, and then gone on with here."""
    whole = job(rounds=2).run(silos, on=InProcess(folder=tmp_path)).wait()
    here = FolderStore.open(tmp_path, whole.id)
    elsewhere = FolderStore.open(tmp_path, whole.id)
    elsewhere.hold()
    elsewhere.events.append(whole.events()[0])
    elsewhere.events.flush()
    elsewhere.release()
    here.hold()
    assert here.events.read() == elsewhere.events.read()
    here.events.append(whole.events()[0])
    here.events.flush()
    here.release()
    assert len(FolderStore.open(tmp_path, whole.id).events) == len(whole.events()) + 2


def test_who_was_taken_over_from_keeps_no_more_rounds(silos, tmp_path):
    run = job(rounds=1).run(silos, on=InProcess(folder=tmp_path)).wait()
    store = FolderStore.open(tmp_path, run.id)
    store.hold()
    (run.folder / FILE).write_text("{}")
    with pytest.raises(RunLocked):
        store.save(run.state(), {})
    store.release()


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and sends POSIX signals")
def test_another_kernel_is_named_and_taken_over_from_when_it_is_killed(silos, tmp_path):
    request = {"federation": silos.save(tmp_path / "federation.yaml"), "runs": tmp_path / "runs", "rounds": 2}
    backend, task = InProcess(folder=tmp_path / "runs"), slow(tmp_path)
    with doomed() as victims:
        run_id = victims.start(**request, strategy="FedAvg", task=task)
        while not (tmp_path / "runs" / run_id / "round_000").exists():
            time.sleep(0.01)
        with pytest.raises(RunLocked, match=r"is held by process \d+ on") as refused:
            backend.resume(run_id)
        assert str(os.getpid()) not in str(refused.value)
        victims.send(signal.SIGKILL)
        victims.end()
        (tmp_path / "go").touch()
        run = backend.resume(run_id).wait()
    (note,) = [event.value for event in run.events() if event.name == NOTE]
    assert note.startswith("the run is taken over from process ")
    assert note.endswith("its process is gone")
    whole = undisturbed(job(task, strategy=FedAvg(epochs=2, batch_size=8, lr=0.2), rounds=2), silos)
    assert digests(run, range(3)) == digests(whole, range(3))
