"""Kernels that end in the middle of a submission to AzureML: `python -m tests.fl_kit.azureml.killed_kernel`.

One process imports the SDK and then forks a kernel for each moment that it is told, which kills itself there. A moment
is an operation on the disk, or a request to the workspace, before it is sent or after it was answered; they are
counted from 1; no kernel comes to 0 or to −1. Those that are not killed say how many moments they had, in JSON.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[3]
ROUNDS, SILO = 1, "alpha"
"""Of the run: as little as a submission can be about."""


class Moments:
    """Counts, and kills this process before or after the one that was chosen."""

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.pass_one()
            return operation(*args, **kwargs)

        return call

    def around(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.pass_one()
            answer = operation(*args, **kwargs)
            self.pass_one()
            return answer

        return call

    def watch(self, *, real: bool) -> "Moments":
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "write_text")):
            setattr(owner, name, self.before(getattr(owner, name)))
        if real:
            from azure.core.pipeline.transport import RequestsTransport

            RequestsTransport.send = self.around(RequestsTransport.send)  # type: ignore[method-assign]
        return self


class OnDisk:
    """A workspace that only takes jobs: each is a file in a folder. Its requests are moments of whoever submits."""

    def __init__(self, folder: Path, moments: Moments | None = None) -> None:
        self.folder = folder
        self.passed = moments.pass_one if moments else lambda: None

    def job(self, name: str) -> Any | None:
        file = self.folder / f"{name}.json"
        return (
            SimpleNamespace(name=name, status="Running", tags=json.loads(file.read_text())) if file.exists() else None
        )

    def submit(self, client: Any, pipeline: Any, folder: Path) -> None:
        self.passed()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{pipeline.job['name']}.json").open("x") as file:  # a name is taken once
            json.dump(pipeline.job["tags"], file)
        self.passed()

    def stand_in(self, put: Callable[[Any, str, Any], None]) -> None:
        """Be what fl-kit finds behind the SDK; `put` is setattr, or a test's own that is undone."""
        from fl_kit.azureml import submissions
        from fl_kit.azureml.workspace import Workspace

        put(submissions, "submit", self.submit)
        put(Workspace, "job", lambda workspace, name: self.job(name))
        put(Workspace, "tracking", lambda workspace: None)


def silo_of(name: str) -> Any:
    from fl_kit import Federation, Orchestrator, Silo

    one = Silo(name=name, data=f"azureml://datastores/{name}/paths/d/", compute=name, datastore=name)
    return Federation(silos=(one,), orchestrator=Orchestrator(compute="o", datastore="o"))


def in_their_own_process(root: Path, runs: Path, moments: Iterable[int]) -> list[int]:
    """Let a kernel be killed at each moment; gives how many moments those had that were not killed."""
    module = "tests.fl_kit.azureml.killed_kernel"
    command = [sys.executable, "-W", "ignore", "-m", module, str(root), str(runs), *map(str, moments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line)["moments"] for line in told.splitlines()]


def main(root: Path, runs: Path, moments: list[int]) -> None:
    """Submit a run in a kernel of its own for each moment, in the folder `<runs>/<moment>`.

    root  of a local workspace; what is none gets the jobs of one that only takes them, in `<root>/<moment>`
    """
    from fl_kit import Federation
    from fl_kit.azureml.backend import AzureML
    from fl_kit.azureml.run import AzureMLRun
    from tests.sim.small import job

    asked = job(rounds=ROUNDS)
    if real := (root / "federation.yaml").exists():
        from azure.ai.ml import MLClient
        from azure.identity import DefaultAzureCredential

        client: Any = MLClient.from_config(DefaultAzureCredential(), enable_telemetry=False, show_progress=False)
        federation = Federation.load(root / "federation.yaml").select([SILO])
    else:
        client, federation = SimpleNamespace(workspace_name="ws"), silo_of(SILO)
    asked.plan(federation)
    for moment in moments:
        pid = os.fork()
        if pid == 0:
            watched = Moments(moment).watch(real=real)
            if not real:
                OnDisk(root / str(moment), watched).stand_in(setattr)
            AzureMLRun.watch = lambda self, **how: self  # type: ignore[method-assign]  # it has submitted: that is all
            try:
                AzureML(client, folder=runs / str(moment)).start(asked, federation)
                sys.stdout.write(json.dumps({"moments": watched.count}) + "\n")
                sys.stdout.flush()
            except BaseException:  # noqa: BLE001 - it is printed, and this process goes
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(word) for word in sys.argv[3:]])
