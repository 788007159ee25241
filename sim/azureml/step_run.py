"""One step, from the queue to its end: mounts, process, time limit, faults, log and record."""

import shutil
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sim.azureml import runs
from sim.azureml.blob_store import Place
from sim.azureml.errors import WorkspaceError
from sim.azureml.faults import Fault, Kind
from sim.azureml.job_step import JobStep, Value, command_line
from sim.azureml.launcher import Launcher
from sim.azureml.places import path_of, short_uri
from sim.azureml.processes import Launch, Process, View
from sim.azureml.snapshots import copy_code, prepared, unpacked
from sim.azureml.state import WorkspaceState
from sim.azureml.step_environment import StepPlace, bundle, rank_variables, step_variables

WATCH = 0.05
"""Seconds between looks at the clock and at requests to stop, while a step runs; its end is heard at once."""

SILENCE = 0.5
"""Seconds for which a lost step does not respond before it counts as failed; minutes on AzureML."""

TEMPORARY = ("work", "home", "temporary", "changes")
"""A step's folders that are gone when it has ended."""

HANGING = Fault(kind="timeout", pattern="*", times=1, seconds=0)
"""What ends a step that hangs on purpose: nobody waits for its limit."""

TOLD = 4000
"""Characters of the log's end that an error repeats."""


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """A step that is to run.

    inputs   name → place, for what lies in a datastore and is there; values are in the step
    outputs  name → place
    stop     set when the job is canceled, or ends because another step failed
    """

    state: WorkspaceState
    launcher: Launcher
    step: JobStep
    run: str
    job: str
    experiment: str
    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]
    stop: threading.Event

    def execute(self) -> str:
        """Run it; gives the status in which it ended, which its record has too."""
        try:
            self._attempt()
        except WorkspaceError as error:
            runs.fail(self.state, self.run, str(error), code=error.code)
        finally:
            self._tidy()
        return runs.status_of(self.state, self.run)

    @property
    def folder(self) -> Path:
        return self.state.job_folder(self.job) / self.run

    def _attempt(self) -> None:
        if self._fault("compute down"):
            message = f"compute {self.step.compute!r} does not answer"
            raise WorkspaceError(message, status=400, code="ComputeNotReachable")
        slow = self._fault("slow start")
        if slow:
            self.stop.wait(slow.seconds)
        while not self.stop.is_set():
            runs.move(self.state, self.run, runs.PREPARING)
            place = self._prepare()
            preempted = self._fault("preempted")
            lost = None if preempted else self._fault("step lost")
            line = command_line(self.step, place.inputs, place.outputs)
            struck = self.state.faults.strike_silo(line)
            runs.move(self.state, self.run, runs.RUNNING)
            processes = self._start(place, struck.command(line, place.temporary) if struck else line)
            outcome = self._watch(processes, preempted or lost or (HANGING if struck and struck.hangs else None))
            if struck and outcome == 0:
                struck.damage(Path(place.outputs["update"]))
            if outcome == "preempted":
                self._say("The node was preempted; the job is queued again.")
                runs.move(self.state, self.run, runs.QUEUED)
                continue
            self._finish(outcome)
            return
        self._canceled()

    def _canceled(self) -> None:
        """A lone command's record is the job's, which knows why it was to stop."""
        if self.run != self.job:
            runs.move(self.state, self.run, runs.CANCELED)

    def _prepare(self) -> StepPlace:
        """Folders, code, and what lies in datastores; raises WorkspaceError if something cannot be mounted."""
        if self._fault("datastore refused"):
            names = sorted({place.datastore for place in (*self.inputs.values(), *self.outputs.values())})
            message = f"DataAccessError(PermissionDenied): the identity of {self.step.compute!r} may not use {names}"
            raise WorkspaceError(message, status=400, code="DataAccessError")
        inputs = {name: str(self._mounted(name, place)) for name, place in self.inputs.items()}
        values = {name: source.text for name, source in self.step.inputs.items() if isinstance(source, Value)}
        outputs = {name: str(self._made(name, place)) for name, place in self.outputs.items()}
        place = StepPlace(
            run=self.run,
            job=self.job,
            experiment=self.experiment,
            folder=self.folder,
            inputs={**values, **inputs},
            outputs=outputs,
        )
        self._tidy()
        for name in (*TEMPORARY, "user_logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not self._laid_over:
            copy_code(self.state, self.step.code, place.work)
        return place

    def _tidy(self) -> None:
        """Remove what a step leaves beside its logs."""
        scratch = self.folder / "changes" / "scratch" / "work"
        if scratch.exists():
            scratch.chmod(0o700)  # the kernel leaves it closed to everybody
        for name in TEMPORARY:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _mounted(self, name: str, place: Place) -> Path:
        path = path_of(self.state, place)
        if not path.exists():
            message = f"DataAccessError(NotFound): input {name!r}: there is nothing at {short_uri(place)}"
            raise WorkspaceError(message, status=400, code="DataAccessError")
        return path

    def _made(self, name: str, place: Place) -> Path:
        """An output's folder, or the folder of an output that is a file."""
        path = path_of(self.state, place)
        folder = path.parent if self.step.outputs[name].kind == "uri_file" else path
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"output {name!r}: {short_uri(place)} cannot be made: {error.strerror}"
            raise WorkspaceError(message, status=400, code="DataAccessError") from error
        return path

    def _start(self, place: StepPlace, line: str) -> list[Process]:
        """The step's processes: one, or one for each rank."""
        variables = step_variables(self.state, self.step, place)
        archives = {place.work / name: folder for name, folder in unpacked(self.state, self.step.code).items()}
        world = self._world
        port = free_port() if world > 1 else 0
        return [
            self.launcher.start(
                Launch(
                    command=line,
                    folder=place.work,
                    variables=variables if world == 1 else {**variables, **rank_variables(self.step, rank, port)},
                    log=self.folder / (runs.LOG if world == 1 else f"user_logs/std_log_process_{rank:02d}.txt"),
                    view=self._view(place, archives.values()),
                    unpacked=archives,
                )
            )
            for rank in range(world)
        ]

    def _view(self, place: StepPlace, archives: Iterable[Path]) -> View:
        inputs = [path_of(self.state, found) for found in self.inputs.values()]
        outputs = [
            Path(path).parent if self.step.outputs[name].kind == "uri_file" else Path(path)
            for name, path in place.outputs.items()
        ]
        return View(
            readable=(*inputs, *archives, bundle(self.state)),
            writable=(*outputs, place.work, place.home, place.temporary),
            code=(prepared(self.state, self.step.code), place.work, place.changes) if self._laid_over else (),
        )

    @property
    def _laid_over(self) -> bool:
        """Whether the step's code is shown through its view; ranks that share a folder share a copy."""
        return self.launcher.lays_over and bool(self.step.code) and self._world == 1

    @property
    def _world(self) -> int:
        return self.step.instances * self.step.processes

    def _watch(self, processes: list[Process], fault: Fault | None) -> int | str:
        """The exit status, or why the step was ended: "canceled", "timeout", "preempted", "step lost"."""
        started = time.monotonic()
        while True:
            codes = [process.wait(WATCH if place == 0 else 0) for place, process in enumerate(processes)]
            failed = next((code for code in codes if code), None)
            elapsed = time.monotonic() - started
            outcome: int | str | None = None
            if fault is not None and elapsed >= fault.seconds:
                outcome = fault.kind
            elif failed is not None or None not in codes:
                outcome = failed or 0
            elif self.stop.is_set():
                outcome = "canceled"
            elif self.step.timeout is not None and elapsed > self.step.timeout:
                outcome = "timeout"
            if outcome is not None:
                for process in processes:
                    process.kill()
                return outcome

    def _finish(self, outcome: int | str) -> None:
        if self.run == self.job and outcome != "canceled":
            runs.linger(self.state, self.run)
        if outcome == 0:
            runs.move(self.state, self.run, runs.COMPLETED)
        elif outcome == "canceled":
            self._canceled()
        elif outcome == "timeout":
            message = f"the step took longer than its limit of {self.step.timeout:g} s and was ended"
            runs.fail(self.state, self.run, message, code="JobTimeout")
        elif outcome == "step lost":
            runs.move(self.state, self.run, runs.NOT_RESPONDING)
            self.stop.wait(SILENCE)
            runs.fail(self.state, self.run, "the node that ran the step was lost", code="NodeLost")
        else:
            runs.fail(self.state, self.run, self._complaint(int(outcome)))

    def _complaint(self, code: int) -> str:
        """What AzureML says of a command that failed, with the end of its log."""
        how = f"was ended by signal {-code}" if code < 0 else f"exited with status code {code}"
        log = self.folder / runs.LOG
        end = log.read_text(encoding="utf-8", errors="replace")[-TOLD:] if log.exists() else ""
        text = f"Execution failed. User process {how}. Please check log file '{runs.LOG}' for error details."
        return f"{text} Error: {end}".rstrip()

    def _fault(self, kind: Kind) -> Fault | None:
        return self.state.faults.strikes(kind, self.step.name, self.step.path, self.step.compute)

    def _say(self, line: str) -> None:
        with (self.folder / runs.LOG).open("a", encoding="utf-8") as log:
            log.write(f"{line}\n")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
