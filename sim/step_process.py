"""One step as a process of its own: inputs handed over as folders, outputs read from folders."""

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
from pathlib import Path

from fl_kit import errors
from fl_kit.approvals import PACKED
from fl_kit.bundle import Bundle
from fl_kit.errors import FlKitError, MessageError, QuorumLost, StepFailed
from fl_kit.events import SILO_LEFT_OUT, STEP_FAILED, Event, EventLog
from fl_kit.execute import Inputs, Outputs
from fl_kit.messages import Memory, Message, State, Update, read, write
from fl_kit.plan import ORCHESTRATOR, Plan, Step, step_folder
from fl_kit.protocols import Emit
from fl_kit.spent import Meter, timed
from sim.faults import in_step
from sim.faults.in_step import Words

PAUSE = 0.05
"""Seconds between two looks at a step's process."""
ATTEMPT = "attempt-"
"""Begins the name of the folder that a step writes into until it has ended."""


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
