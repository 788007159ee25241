"""What is killed while a run is on a local AzureML workspace: the workspace, a step, the kernel that submits.

Whatever it was, the run goes on to the bits of one that nobody disturbed. With HYPOTHESIS_PROFILE=explore more moments
are tried.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from fl_kit import Federation, Scaffold
from fl_kit.azureml.backend import AzureML
from fl_kit.errors import StepFailed
from fl_kit.events import ROUND_COMPLETED
from sim.azureml.__main__ import server_of
from sim.azureml.pointing import Pointing, config, variables
from sim.azureml.state import WorkspaceState
from tests.fl_kit.azureml import killed_kernel
from tests.sim.small import digests, federation, job, undisturbed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and finds processes in Linux's /proc"),
]

MORE = settings.get_current_profile_name() == "explore"
SIZES = {"alpha": 20, "bravo": 13} if MORE else {"alpha": 20}
STRATEGY = Scaffold(epochs=1, batch_size=8, lr=0.2)
PATIENCE = 240.0


class Served:
    """A workspace in a process of its own, which can be killed and started anew."""

    def __init__(self, folder: Path, silos: Federation) -> None:
        self.root = folder / "workspace"
        self._start("--federation", str(silos.save(folder / "federation.yaml")))
        state = WorkspaceState.open(self.root)
        self.pointing = Pointing(variables(state, self.root / "tls" / "bundle.pem"), config(state.settings))
        self.pointing.enter()
        self.federation = Federation.load(self.root / "federation.yaml")

    def client(self) -> Any:
        from azure.ai.ml import MLClient
        from azure.identity import DefaultAzureCredential

        return MLClient.from_config(DefaultAzureCredential(), enable_telemetry=False, show_progress=False)

    def kill(self) -> None:
        """SIGKILL; what it was doing is lost, and it is started anew on what its disk has."""
        self._process.kill()
        self._process.wait()
        self._start()

    def close(self) -> None:
        self.pointing.leave()
        self._process.terminate()
        self._process.wait()

    def steps(self) -> list[int]:
        """The processes of steps that run now, below the warm server that forks them."""
        return [pid for forge in children(self._process.pid) for pid in children(forge)]

    def _start(self, *words: str) -> None:
        command = [sys.executable, "-m", "sim.azureml", "serve", "--root", str(self.root), *words]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait_until(lambda: server_of(self.root) == self._process.pid)


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(words[1]) == parent and words[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), SIZES)


@pytest.fixture(scope="module")
def served(silos: Federation, tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        patch.setenv("PYTHONPATH", str(root))
        made = Served(tmp_path_factory.mktemp("served"), silos)
        yield made
        made.close()


def wait_until(happened: Callable[[], Any]) -> Any:
    limit = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < limit, "it takes too long"
        time.sleep(0.02)
    return found


def done(run: Any, round: int) -> bool:
    assert run.status == "running"
    return any((event.name, event.round) == (ROUND_COMPLETED, round) for event in run.events())


def test_a_workspace_and_a_step_that_are_killed_cost_a_retry_and_no_bit(served, silos, tmp_path):
    """The run's kernel lives on: it waits for the workspace, and submits again what was lost."""
    draws = random.Random(7)
    asked = job(strategy=STRATEGY, rounds=2, retries=5)
    backend = AzureML(served.client(), folder=tmp_path / "runs")
    run = asked.run(served.federation, on=backend)
    for _ in range(5 if MORE else 1):
        wait_until(lambda: done(run, 0))
        time.sleep(draws.uniform(0, 3) if MORE else 0.1)
        served.kill()
    os.kill(wait_until(served.steps)[0], signal.SIGKILL)
    assert run.wait(timeout=PATIENCE).status == "completed"
    whole = digests(undisturbed(asked, silos), range(3))
    assert digests(run, range(3)) == whole
    assert "WorkspaceStopped" in set(run.failures.kind)
    again = backend.attach(run.id).wait(timeout=PATIENCE)
    assert (again.jobs, digests(again, range(3))) == (run.jobs, whole)


@pytest.mark.skipif(not MORE, reason="what any lost step says is looked at in test_run.py")
def test_without_retries_a_killed_workspace_says_how_to_go_on(served, silos, tmp_path):
    """And another kernel does, from what the workspace has on its disk."""
    asked = job(strategy=STRATEGY, rounds=1)
    backend = AzureML(served.client(), folder=tmp_path / "runs")
    run = asked.run(served.federation, on=backend)
    wait_until(lambda: done(run, 0))
    served.kill()
    with pytest.raises(StepFailed, match=rf"the workspace was stopped while this ran.*resume\('{run.id}'\)"):
        run.wait(timeout=PATIENCE)
    again = AzureML(served.client(), folder=tmp_path / "runs").resume(run.id).wait(timeout=PATIENCE)
    assert digests(again, range(2)) == digests(undisturbed(asked, silos), range(2))


@pytest.mark.skipif(not MORE, reason="test_killed_kernel.py kills at every moment, and a stand-in takes the jobs")
def test_a_kernel_that_is_killed_while_it_submits(served, silos, tmp_path):
    """Whether the workspace has the run or not: the next kernel goes on with it, and it is there once."""
    asked = job(rounds=killed_kernel.ROUNDS)
    whole = digests(undisturbed(asked, silos.select([killed_kernel.SILO])), range(2))
    runs = tmp_path / "runs"
    fresh = range(1, 61, 4)  # while it registers what the workspace has not seen yet
    known = killed_kernel.in_their_own_process(served.root, runs, [*fresh, 0, -1])[-1]
    rest = [moment for moment in range(1, known + 1) if moment not in fresh]
    killed_kernel.in_their_own_process(served.root, runs, rest)
    client, begun = served.client(), []
    for found in sorted(runs.glob("*/*/job.json")):
        run = AzureML(client, folder=found.parents[1]).resume(found.parent.name).wait(timeout=PATIENCE)
        assert (run.status, run.jobs) == ("completed", (run.id,))
        assert digests(run, range(2)) == whole
        begun.append(int(found.parents[1].name))
    sys.stderr.write(f"killed at {len(fresh) + len(rest)} moments, {len(begun)} runs had begun; all the same bits\n")
    assert {known - 1, known} <= set(begun)
