"""A kernel that is killed in the middle of a step: the next one goes on, whatever the first has left behind."""

import os
import signal
import sys
from typing import Any

import pytest

from fl_kit import FedAvg, Federation
from fl_kit.errors import StepFailed
from fl_kit.tensors import digest
from sim.processes import Processes
from sim.step_process import ATTEMPT
from tests.sim.small import federation, job, undisturbed


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), {"north": 20})


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_a_killed_step_and_what_a_power_cut_tore_do_no_harm(silos, tmp_path, monkeypatch):
    """The step is killed by the system; then its kernel's folder is torn as a power cut may tear what is not synced."""
    import subprocess

    asked = job(strategy=FedAvg(batch_size=8, lr=0.2), rounds=1)
    backend = Processes(folder=tmp_path)
    begin = subprocess.Popen

    def killed(command: list[str], **settings: Any) -> Any:
        process = begin(command, **settings)
        if any("/fit" in word for word in command if word.startswith("--step=")):
            os.killpg(process.pid, signal.SIGKILL)
        return process

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", killed)
        run = asked.run(silos, on=backend)
        with pytest.raises(StepFailed, match="north, round 1"):
            run.wait()
    (run.folder / "bundle" / "manifest.json").unlink()
    steps = run.folder / "steps" / "round_000"
    (state,) = steps.rglob("state/tensors.safetensors")
    state.write_bytes(bytes(state.stat().st_size))
    orphan = run.folder / "steps" / "round_001" / "north" / "fit" / f"{ATTEMPT}0"
    (orphan / "update").mkdir(parents=True)
    again = backend.resume(run.id).wait()
    whole = undisturbed(asked, silos)
    assert [digest(again.state(r).params) for r in (0, 1)] == [digest(whole.state(r).params) for r in (0, 1)]
    assert not list(run.folder.rglob(f"{ATTEMPT}*"))
