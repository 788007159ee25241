import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fl_kit import run_lock
from fl_kit.errors import RunLocked, StoreError
from fl_kit.run_lock import FILE, PATIENCE, Holder, RunLock, boot

HOLDING = "import sys; from pathlib import Path; from fl_kit.run_lock import RunLock; RunLock.take(Path(sys.argv[1])); "
HOLDING += "print('held', flush=True); sys.stdin.read()"


@contextmanager
def another_kernel(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the run."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(folder)], **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def leave(folder: Path, holder: Holder, *, silent: float = 0.0) -> None:
    """What a holder that did not let go has left, so many seconds after its last sign of life."""
    (folder / FILE).write_text(json.dumps(asdict(holder)))
    os.utime(folder / FILE, (time.time() - silent,) * 2)


def elsewhere() -> Holder:
    return replace(Holder.me(), host="ward-7", machine="0" * 16, pid=4711)


def test_the_second_is_refused_and_told_who_holds_it(tmp_path):
    lock = RunLock.take(tmp_path)
    with pytest.raises(RunLocked, match=rf"process {os.getpid()} \(this one\) on .*: go on with it there, or stop it"):
        RunLock.take(tmp_path)
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    RunLock.take(tmp_path).release()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_another_kernel_is_named_and_once_it_is_killed_the_lock_is_free(tmp_path):
    with another_kernel(tmp_path) as process:
        with pytest.raises(RunLocked, match=rf"process {process.pid} on {platform.node()}, started 20.*, since 20"):
            RunLock.take(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        lock = RunLock.take(tmp_path)
    assert f"process {process.pid} on" in lock.gone
    assert lock.gone.endswith(": its process is gone")
    lock.release()


def test_a_machine_that_was_started_anew_holds_nothing(tmp_path):
    leave(tmp_path, replace(Holder.me(), boot="another"))
    lock = RunLock.take(tmp_path)
    assert lock.gone.endswith(": its machine was started anew")
    lock.release()


@pytest.mark.parametrize("knows_locks", [True, False])
def test_a_holder_on_another_machine_is_believed_until_it_is_silent(tmp_path, monkeypatch, knows_locks):
    """The mount may not carry the system's locks from machine to machine, or have none."""
    if not knows_locks:
        monkeypatch.setattr(run_lock, "locked", lambda handle: None)
    leave(tmp_path, elsewhere(), silent=PATIENCE / 2)
    with pytest.raises(RunLocked, match=r"process 4711 on ward-7, .* if that process is gone, try again 90 s after"):
        RunLock.take(tmp_path)
    leave(tmp_path, elsewhere(), silent=PATIENCE + 5)
    lock = RunLock.take(tmp_path)
    assert "process 4711 on ward-7" in lock.gone
    assert "no sign of life for 95 s" in lock.gone
    lock.release()


def test_without_the_system_s_locks_a_holder_here_must_be_silent_too(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "locked", lambda handle: None)
    lock = RunLock.take(tmp_path)
    with pytest.raises(RunLocked, match="this one"):
        RunLock.take(tmp_path)
    lock.release()
    RunLock.take(tmp_path).release()


def test_another_machine_s_clock_does_not_matter(tmp_path, monkeypatch):
    leave(tmp_path, elsewhere())
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(RunLocked):
        RunLock.take(tmp_path)


@pytest.mark.parametrize(
    "torn",
    [b"", b"\0" * 200, b'{"host": "wa', b"[1, 2]", b'{"host": "a", "pid": "many"}', b"[" * 9000, b" " * 20_000 + b"{}"],
)
def test_a_torn_file_names_nobody_and_holds_nothing(tmp_path, torn):
    (tmp_path / FILE).write_bytes(torn)
    lock = RunLock.take(tmp_path)
    assert lock.gone == ""
    lock.release()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system has no such flag")
def test_a_link_is_not_followed(tmp_path):
    """A run folder from elsewhere may hold one."""
    other = tmp_path / "other.txt"
    other.write_text("mine")
    (tmp_path / FILE).symlink_to(other)
    with pytest.raises(StoreError, match=r"lock\.json cannot be written"):
        RunLock.take(tmp_path)
    assert other.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(StoreError, match="is no plain file, so nobody can go on with the run: remove it"):
        RunLock.take(tmp_path)


def test_who_was_taken_over_from_learns_it_before_the_next_round_is_kept(tmp_path):
    """As after a long sleep of the first machine: the mount let another one in."""
    lock = RunLock.take(tmp_path)
    lock.check()
    other = elsewhere()
    leave(tmp_path, other)
    with pytest.raises(RunLocked, match="ward-7"):
        lock.check()
    lock.release()
    assert Holder.read(tmp_path / FILE) == other


def test_one_that_waits_gets_it_when_it_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "LOOK", 0.01)
    first = RunLock.take(tmp_path)
    threading.Timer(0.1, first.release).start()
    with RunLock.take(tmp_path, wait=10):
        assert (tmp_path / FILE).exists()
    assert not (tmp_path / FILE).exists()


def test_of_many_at_once_one_gets_it(tmp_path):
    won, lost, gate = [], [], threading.Barrier(12)

    def race() -> None:
        gate.wait()
        try:
            won.append(RunLock.take(tmp_path))
        except RunLocked:
            lost.append(1)

    for _ in range(5):
        racers = [threading.Thread(target=race) for _ in range(12)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        assert len(won) == 1
        won.pop().release()
    assert len(lost) == 55


def test_a_holder_gives_signs_of_life_and_stops_when_it_lets_go(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT", 0.01)
    before = set(threading.enumerate())  # other tests' locks may still be giving theirs
    lock = RunLock.take(tmp_path)
    (beating,) = (thread for thread in set(threading.enumerate()) - before if thread.name == "fl-kit lock")
    os.utime(tmp_path / FILE, (1.0, 1.0))
    patience = time.monotonic() + 10
    while (tmp_path / FILE).stat().st_mtime == 1.0:
        assert time.monotonic() < patience
        time.sleep(0.005)
    lock.release()
    beating.join(10)
    assert not beating.is_alive()


def test_it_says_when_the_process_began():
    psutil = pytest.importorskip("psutil")
    assert pytest.approx(psutil.Process().create_time(), abs=2) == run_lock.STARTED
    assert boot() == boot()
