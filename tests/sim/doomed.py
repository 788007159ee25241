"""Runs in processes of their own that tests kill, interrupt or starve of disk space.

One process imports torch and then forks a child for each line of JSON on its standard input. A child says
`{"id": …, "pid": …}` when its run has started, and `{"ended": …}` if it comes to an end by itself; its parent
says `{"code": …}` when it is gone.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Doomed:
    """The forking process, from a test's side; one child at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._pid = 0

    def start(self, **request: Any) -> str:
        """Start a run in a child; gives its id. A child that a failed test left behind is killed first."""
        assert self._process.stdin is not None
        if self._pid:
            self.send(signal.SIGKILL)
            self.end()
        self._process.stdin.write(json.dumps({key: str(value) for key, value in request.items()}) + "\n")
        self._process.stdin.flush()
        found = self._hear()
        assert "pid" in found, f"the run did not start: {found}"
        self._pid = found["pid"]
        return str(found["id"])

    def send(self, number: signal.Signals) -> None:
        """Send the child a signal."""
        os.kill(self._pid, number)

    def end(self) -> dict[str, Any]:
        """What the child said at its end, and its exit code: −9 if it was killed."""
        found: dict[str, Any] = {}
        while "code" not in found:
            found.update(self._hear())
        self._pid = 0
        return found

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@contextmanager
def doomed() -> Iterator[Doomed]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sim.doomed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as process:
        try:
            yield Doomed(process)
        finally:
            process.kill()


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def kill_before_write(number: int) -> None:
    """Let this process kill itself before its `number`-th operation on the disk."""
    import safetensors.torch

    done = 0

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def before(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return before

    for owner, name in [
        (os, "fsync"),
        (Path, "replace"),
        (Path, "unlink"),
        (Path, "write_text"),
        (safetensors.torch, "save_file"),
    ]:
        setattr(owner, name, counted(getattr(owner, name)))


def prepare(request: dict[str, str]) -> tuple[Any, Any]:
    """The job and its federation; what takes long to import is then there for every later child."""
    import pandas  # noqa: F401

    from fl_kit import FedAvg, Federation, Job, Scaffold

    strategy = {"FedAvg": FedAvg, "Scaffold": Scaffold}[request["strategy"]](epochs=2, batch_size=8, lr=0.2)
    job = Job(task=request["task"], strategy=strategy, rounds=int(request["rounds"]))
    federation = Federation.load(request["federation"])
    job.plan(federation)
    return job, federation


def child(request: dict[str, str], job: Any, federation: Any) -> None:
    from fl_kit import FlKitError
    from sim.in_process import InProcess

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "file_limit" in request:
        import resource

        limit = int(request["file_limit"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    run = job.run(federation, on=InProcess(folder=request["runs"]))
    if "kill_before_write" in request:
        kill_before_write(int(request["kill_before_write"]))
    say(id=run.id, pid=os.getpid())
    error: BaseException | None = None
    try:
        run.wait()
    except (KeyboardInterrupt, FlKitError) as raised:
        error = raised
    say(
        ended=run.status,
        error=type(error).__name__,
        message=str(error),
        figures=len(run.history()),
        state=run.state().round if run.rounds_done or run.status == "completed" else -1,
    )


def serve() -> None:
    import sim.in_process  # noqa: F401 - torch, once for every child

    for line in sys.stdin:
        request = json.loads(line)
        prepared = prepare(request)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(request, *prepared)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        say(code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    serve()
