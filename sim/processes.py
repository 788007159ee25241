"""Processes: each step is a process of its own, started by the very command that runs in a real silo."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from fl_kit import errors
from fl_kit.approvals import PACKED, brought
from fl_kit.bundle import Bundle, bundle_digest, verify, write_bundle
from fl_kit.errors import BundleError, FlKitError, MessageError, QuorumLost, StepFailed
from fl_kit.events import SILO_LEFT_OUT, STEP_FAILED, Event, EventLog
from fl_kit.execute import Inputs, Outputs
from fl_kit.job import Job
from fl_kit.legs import Leg, first_leg, part_of
from fl_kit.messages import Memory, Message, State, Update, read, write
from fl_kit.plan import ORCHESTRATOR, Plan, Step, step_folder
from fl_kit.protocols import Emit
from fl_kit.retention import Keep, checked
from fl_kit.run_ids import new_id
from fl_kit.silo import Federation
from fl_kit.spent import Meter, timed
from fl_kit.store import KEEP_KEY, STEPS, FolderStore
from fl_kit.workbench import Workbench, choose_device
from sim.engine import Runner
from sim.faults import in_step
from sim.faults.disturbance import Disturbance, Given
from sim.faults.in_step import Words
from sim.faults.striking import refuse_hanging
from sim.in_process import FAULTS, environment
from sim.kept_updates import KeptInFolder
from sim.run import SimulatedRun

PAUSE = 0.05
"""Seconds between two looks at a step's process."""
ATTEMPT = "attempt-"
"""Begins the name of the folder that a step writes into until it has ended."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Simulates each step as `python -m fl_kit.step` on folders: the bundle, the door and the bits of a real run.

    Slower than InProcess by the start of a Python for each step. A step sees its bundle and its folders, but
    nothing keeps it from others of this machine: it proves the wiring, not the privacy.

    folder   where run folders are made; the steps' own folders are in `<run id>/steps`
    threads  torch threads of each step; the bits may depend on it
    faults   silo → a fault of `sim.faults`, or several
    margin   seconds beyond the job's deadline and grace, for a silo's step to start and to end; one that hangs is ended
             then
    approvals  a folder of approvals, or a file, that silos' own policies (`policy.toml`) ask for
    keep     which rounds' states, and outputs of their steps, stay: "all", "last", or so many of the last ones; None
             means all, and of a run that is resumed what it was begun with

    >>> run = job.run(federation, on=Processes()).wait()  # doctest: +SKIP
    """

    folder: str | Path = "runs"
    threads: int = 1
    margin: float = 60.0
    faults: Given = field(default_factory=dict)
    approvals: str | Path | None = None
    keep: Keep | None = None

    def __post_init__(self) -> None:
        if self.keep is not None:
            checked(self.keep, "Processes")

    def start(self, job: Job, federation: Federation, *, paused: bool = False) -> SimulatedRun:
        """Start a run and give it at once; raises as InProcess.start does."""
        plan = job.plan(federation)
        brought(self.approvals, None)  # what is wrong with them is said before there is a run folder
        federation.check()
        disturbance = Disturbance.given(self.faults, federation).faults_only("Processes")
        refuse_hanging(disturbance.faults(), job)
        run_id = new_id(job.task.name)
        place = self._runs / run_id
        own = {FAULTS: disturbance.recorded(), KEEP_KEY: self.keep or "all"}
        found = {**environment(self.threads, choose_device(job.device)), **own}
        store = FolderStore.create(place, job, plan, federation, found)
        write_bundle(job, plan, place / "bundle")
        legs = [first_leg(job, plan, federation)]
        return self._run(run_id, legs, federation, store, disturbance).start(paused=paused)

    def resume(self, run_id: str, *, paused: bool = False) -> SimulatedRun:
        """Go on with an unfinished run from its last whole round; raises as InProcess.resume does."""
        store = FolderStore.open(self._runs, run_id)
        store.keep = self.keep or store.keep
        federation = store.federation().check()
        disturbance = Disturbance.restored(store.environment().get(FAULTS, {}))
        if self.faults:
            disturbance = Disturbance.given(self.faults, federation).faults_only("Processes")
        run = self._run(run_id, store.legs(), federation, store, disturbance)
        return run.start(resumed=True, paused=paused)

    def undo(self, run_id: str, to_round: int) -> SimulatedRun:
        """A new run that goes on from an earlier round of another one; as InProcess.undo does."""
        store = FolderStore.open(self._runs, run_id)
        return self.resume(store.branch(self._runs / new_id(store.job().task.name), to_round), paused=True)

    @property
    def _runs(self) -> Path:
        return Path(self.folder).resolve()

    def _run(
        self, run_id: str, legs: list[Leg], federation: Federation, store: FolderStore, disturbance: Disturbance
    ) -> SimulatedRun:
        brought(self.approvals, store.folder)

        def runner(leg: Leg) -> Runner:
            job, plan = leg.job, leg.plan
            process = StepProcess(
                bundle=sound_bundle(job, plan, store.folder / part_of(legs.index(leg)) / "bundle"),
                plan=plan,
                work=store.folder / STEPS,
                threads=self.threads,
                limit=None if job.patience is None else job.patience + self.margin,
            )
            if not disturbance.faults():
                return process
            bench = Workbench(job.task, seed=job.seed, device="cpu", bundle=bundle_digest(job, plan))
            struck, events = partial(StepProcess.on_a_faulty_machine, process), store.events.read()
            return disturbance.striking(process, job=job, plan=plan, bench=bench, events=events, struck=struck)

        return SimulatedRun(
            run_id=run_id,
            legs=legs,
            federation=federation,
            store=store,
            runner=runner,
            threads=self.threads,
            kept=KeptInFolder(store.folder),
            undo=self.undo,
        )


def sound_bundle(job: Job, plan: Plan, folder: Path) -> Bundle:
    """The bundle that a run was begun with, or a new one where a kill or a power cut left it unfinished."""
    try:
        return verify(folder)
    except BundleError:
        shutil.rmtree(folder, ignore_errors=True)
        return write_bundle(job, plan, folder)


@dataclass(frozen=True, kw_only=True)
class StepProcess:
    """Runs one step in a process: inputs are handed over as folders, outputs read from folders.

    A step writes into a folder of this attempt, whose outputs are then put in their place: the step of a kernel that
    was killed lives on, and must not write among those of the next.

    work   where each step's outputs go: `<work>/round_003/cleveland/fit/update`
    limit  seconds after which a silo's step is ended, if it has not ended by itself; None means never
    words  of `sim.faults.in_step`, for a machine with faults
    """

    bundle: Bundle
    plan: Plan
    work: Path
    threads: int
    limit: float | None
    words: Words = field(default_factory=dict)
    made: set[Path] = field(default_factory=set)
    """Messages that this kernel put there; one that an earlier kernel left may have been torn by a power cut."""

    def on_a_faulty_machine(self, words: Words) -> "StepProcess":
        """The same, with these faults."""
        return replace(self, words=words)

    @property
    def approvals(self) -> Path:
        """The file of the run's approvals, if there are any."""
        return self.work.parent / PACKED

    def __call__(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        folder = self.work / step.id
        # an update that is delivered twice lands twice in the same folder
        found = dict(self._inputs(step, inputs))
        with attempt_in(folder) as attempt:
            self._run(step, inputs, found, attempt, emit, check)
        self.made.update(folder / name for name in step.outputs)
        meter = Meter()
        try:
            with meter.transferring():
                return {name: read_output(name, folder / name) for name in step.outputs}
        except MessageError as error:
            raise StepFailed(str(error), op=step.op, silo=step.party, round=step.round, kind="MessageError") from error
        finally:
            emit(timed(meter.spent, round=step.round, party=step.party))

    def _run(
        self,
        step: Step,
        inputs: Inputs,
        found: Mapping[str, Path],
        folder: Path,
        emit: Emit,
        check: Callable[[], None],
    ) -> None:
        """Run the step's process in a folder and tell its events; raises what made it fail. `found` as of `_inputs`."""
        events = folder / "events.jsonl"
        given = [f"--input={name}={place}" for name, place in found.items()]
        command = [
            *(sys.executable, "-B", *self._machine(), "fl_kit.step"),
            *(f"--bundle={self.bundle.folder}", f"--step={step.id}"),
            *([f"--approvals={self.approvals}"] if self.approvals.exists() else []),
            *([f"--data={inputs['data']}"] if "data" in step.inputs else []),
            *given,
            *(f"--output={name}={folder / name}" for name in step.outputs),
            *(f"--events={events}", f"--threads={self.threads}"),
        ]
        code, complaint = self._execute(command, folder, check, None if step.party == ORCHESTRATOR else self.limit)
        told = EventLog.load(events).read() if events.exists() else []
        absent = {silo for silo in step.updates if f"update/{silo}" not in found}
        for event in told:
            own = event.name == STEP_FAILED and code != 0
            if not own and (event.name != SILO_LEFT_OUT or event.party not in absent):  # those the caller tells of
                emit(event)
        if code != 0:
            raise failure(step, told, complaint, code)

    def _machine(self) -> list[str]:
        """What runs a module: Python itself, or a faulty machine."""
        return [in_step.__file__, *(f"{name}={value}" for name, value in self.words.items())] if self.words else ["-m"]

    def _inputs(self, step: Step, inputs: Inputs) -> Iterator[tuple[str, Path]]:
        """Name and folder of each input but the data; what a resumed run has only in its store is written first."""
        for update in inputs.get("updates", ()) if step.updates else ():
            yield f"update/{update.silo}", self._place(step.updates[update.silo], update)
        if "state" in step.inputs:
            yield "state", self._place(step.inputs["state"], inputs["state"])
        if "memory" in step.inputs:
            yield "memory", self._memory(step, inputs.get("memory") or Memory())

    def _memory(self, step: Step, memory: Memory) -> Path:
        """The memory that counts: not always that of the round before, since a silo may have been left out."""
        place = self.work / step.id / "memory_before"
        write(memory, place)
        return place

    def _place(self, source: str, message: Message) -> Path:
        place = step_folder(self.work, source)
        if place not in self.made:
            write(message, place)
            self.made.add(place)
        return place

    def _execute(
        self, command: list[str], folder: Path, check: Callable[[], None], limit: float | None
    ) -> tuple[int, str]:
        """Exit code and what was said on stderr; a run that is stopped, or a limit, ends the step's process."""
        variables = {
            **os.environ,
            "PYTHONPATH": str(self.bundle.folder),
            "OMP_NUM_THREADS": str(self.threads),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        log = folder / "stderr.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=out, stderr=out, start_new_session=True
            )
            try:
                start = time.monotonic()
                while process.poll() is None:
                    check()
                    over = time.monotonic() - start > limit if limit is not None else False
                    if over or self.words.get("hang"):  # of a step that hangs on purpose nobody waits for the end
                        return 1, f"DeadlineExceeded: it did not end within {limit:g} s"
                    time.sleep(PAUSE)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return process.returncode, log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def attempt_in(folder: Path) -> Iterator[Path]:
    """A new folder below a step's own, whose contents are moved there at the end, in place of what was there."""
    for earlier in folder.glob(f"{ATTEMPT}*"):
        shutil.rmtree(earlier, ignore_errors=True)
    attempt = folder / f"{ATTEMPT}{secrets.token_hex(4)}"
    attempt.mkdir(parents=True)
    try:
        yield attempt
    finally:
        for made in list(attempt.iterdir()):
            place = folder / made.name
            if place.is_dir():
                shutil.rmtree(place)
            made.replace(place)
        attempt.rmdir()


def read_output(name: str, folder: Path) -> Message:
    if name == "update":
        return read(Update, folder)
    return read(State, folder) if name == "state" else read(Memory, folder)


def failure(step: Step, told: list[Event], complaint: str, code: int) -> FlKitError:
    """What made a step's process fail: its own failed event, else the signal that ended it, else its last line."""
    for event in reversed(told):
        if event.name == STEP_FAILED and isinstance(event.value, dict):
            value = event.value
            return StepFailed(
                str(value["message"]),
                op=step.op,
                silo=step.party,
                round=step.round,
                kind=str(value["kind"]),
                detail=str(value["detail"]),
            )
    if code < 0:
        return StepFailed(f"its process was ended by signal {-code}", op=step.op, silo=step.party, round=step.round)
    last = complaint.strip().splitlines()[-1] if complaint.strip() else "it said nothing"
    name, _, message = last.partition(": ")
    if name == QuorumLost.__name__:
        return QuorumLost(message)
    if known(name):
        return StepFailed(message, op=step.op, silo=step.party, round=step.round, kind=name)
    return StepFailed(f"its process failed: {last}", op=step.op, silo=step.party, round=step.round)


def known(name: str) -> bool:
    """Whether fl-kit has an error of that name."""
    kind = getattr(errors, name, None)
    return isinstance(kind, type) and issubclass(kind, FlKitError)
