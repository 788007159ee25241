"""Where a run's states, memories and events are kept: in a run folder, or in memory.

The run folder is the truth of a run:

    <run id>/
      job.json  plan.json  federation.yaml  environment.json  task/<name>.py     what was asked for
      init.safetensors                                        the weights it started from, where it was given any
      changes/001/job.json  plan.json  leg.json                                  what was changed on its way
      events.jsonl                                                               what happened
      lock.json                                               the kernel that goes on with the run, while one does
      round_003/state/      tensors.safetensors + meta.json                      the state after round 3
      round_003/memories/   the silos' private memories, where a strategy has any (a simulation holds them
                            on one disk; elsewhere they stay in their silos)
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fl_kit.bounded import inside, name_fault, parse_json, read_text
from fl_kit.errors import FlKitError, MessageError, RunNotFound, StoreError
from fl_kit.events import NOTE, Event, EventLog, now
from fl_kit.files import make_folder, sync, write_text
from fl_kit.given_weights import INIT_FILE
from fl_kit.job import Job
from fl_kit.legs import Leg, first_leg, part_of
from fl_kit.messages import Memory, State, complete, read, read_meta, write
from fl_kit.packed_memories import pack, unpack
from fl_kit.plan import ORCHESTRATOR, Plan, round_name
from fl_kit.retention import Keep, checked, oldest_kept
from fl_kit.run_lock import RunLock
from fl_kit.secret_scan import refusal
from fl_kit.silo import Federation, nearest
from fl_kit.task import task_file

FORMAT = 1
"""Of a run folder. One of an older format, or from before there was a number, is read; so is every number below."""
FORMAT_KEY, KEEP_KEY = "format", "keep"
"""In environment.json."""
STEPS = "steps"
"""The folder in which steps' own outputs lie, where a simulation keeps any: `steps/round_003/cleveland/fit/update`."""

Memories = Mapping[str, Memory]


class Store(Protocol):
    """What a run keeps: FolderStore and MemoryStore are one."""

    events: EventLog

    def save(self, state: State, memories: Memories) -> None:
        """Keep a round's outcome; when it returns, the round can be resumed from."""

    def state(self, round: int) -> State:
        """The state after a round; raises StoreError if it was not kept."""

    def memories(self, round: int) -> dict[str, Memory]:
        """The silos' memories after a round, by silo."""

    def last_round(self) -> int | None:
        """The last round that was kept whole, or None before the start."""

    def hold(self) -> None:
        """Be the one who goes on with the run, until `release`; raises RunLocked if another kernel does."""

    def release(self) -> None:
        """Let others go on with it."""


class FolderStore:
    """Keeps a run in its own folder. Raises StoreError that names the file for what cannot be read or written.

    keep  which rounds stay: an older one is removed when a newer one is safe
    """

    keep: Keep = "all"

    def __init__(self, folder: Path, events: EventLog) -> None:
        self.folder = folder
        self.events = events
        self._lock: RunLock | None = None

    @classmethod
    def create(
        cls, folder: Path, job: Job, plan: Plan, federation: Federation, environment: Mapping[str, Any]
    ) -> "FolderStore":
        """A new run folder, on the disk with all that a resume needs when this returns.

        Raises StoreError if it exists, so that no run can overwrite another; and for a task or a setting that holds
        what looks like a secret: run folders are kept and copied.
        """
        if folder.exists():
            raise StoreError(f"{folder} exists already; a run never overwrites another")
        texts = {f"task/{job.task.name}.py": job.task.source, "job.json": job.to_json()}
        if fault := refusal(texts, "a run folder is kept and copied"):
            raise StoreError(fault)
        try:
            make_folder(folder.parent, durable=True)
            folder.mkdir(exist_ok=False)
            (folder / "task").mkdir()
            files = {
                f"task/{job.task.name}.py": job.task.source,
                "plan.json": plan.to_json(),
                "environment.json": json.dumps({FORMAT_KEY: FORMAT, **environment}, indent=1) + "\n",
            }
            for name, text in files.items():
                write_text(folder / name, text)
            federation.save(folder / "federation.yaml")
            if job.init is not None:
                (folder / INIT_FILE).write_bytes(job.init.to_bytes())
            for path in (
                *(file for file in folder.rglob("*") if file.is_file()),
                folder / "task",
                folder,
                folder.parent,
            ):
                sync(path)
            write_text(folder / "job.json", job.to_json(), durable=True)  # last: it says that all the others are there
        except OSError as error:
            raise StoreError(f"the run folder {folder} cannot be made: {error.strerror}") from error
        store = cls(folder, EventLog(folder / "events.jsonl"))
        store.keep = checked(environment.get(KEEP_KEY, "all"), "environment")
        return store

    @classmethod
    def open(cls, runs: Path, run_id: str) -> "FolderStore":
        """The folder of an earlier run.

        Raises RunNotFound with the nearest id, StoreError for a folder that a newer fl-kit has made.
        """
        folder = runs / run_id
        if name_fault(run_id) or not (folder / "job.json").is_file():
            known = sorted((p.parent.name for p in runs.glob("*/job.json")), reverse=True)
            raise RunNotFound(f"there is no run {run_id!r} in {runs}{nearest(run_id, known)}")
        store, events = cls(folder, EventLog()), folder / "events.jsonl"
        store._read_settings()
        store.events = EventLog.load(events, vouched=store._vouched()) if events.exists() else EventLog(events)
        return store

    def job(self, part: str = "") -> Job:
        """The job that was asked for, with its task made from the source kept here.

        part  where a later leg's is, such as `changes/001/`
        """
        with blaming(self.folder / part / "job.json"):
            text = self._text(f"{part}job.json")
            file = task_file(self.folder, text)
        source = self._text(f"task/{file.name}")
        with blaming(self.folder / part / "job.json", f"with task/{file.name} "):
            return Job.from_json(text, source, self.folder / INIT_FILE)

    def plan(self, part: str = "") -> Plan:
        """The plan that was run; `part` as for `job`."""
        with blaming(self.folder / part / "plan.json"):
            return Plan.from_json(self._text(f"{part}plan.json"))

    def legs(self) -> list[Leg]:
        """What the run began with, and each change that was made on its way."""
        found = [first_leg(self.job(), self.plan(), self.federation())]
        while (self.folder / (part := part_of(len(found))) / "job.json").is_file():
            with blaming(self.folder / part / "leg.json"):
                about = parse_json(self._text(f"{part}leg.json"))
                after, silos, words = int(about["after"]), tuple(map(str, about["silos"])), str(about["words"])
            found.append(Leg(job=self.job(part), plan=self.plan(part), silos=silos, after=after, words=words))
        return found

    def federation(self) -> Federation:
        """The federation that took part."""
        with blaming(self.folder / "federation.yaml"):
            found = Federation.load(self.folder / "federation.yaml")
            if missing := sorted(set(self.plan().silos) - set(found.names)):
                raise ValueError(f"the plan's silo {missing[0]!r} is not in it")
            return found

    def environment(self) -> dict[str, Any]:
        """Versions, threads and device of the run."""
        with blaming(self.folder / "environment.json"):
            found = dict(parse_json(self._text("environment.json")))
            found.pop(FORMAT_KEY, None)
            return {**found, "threads": int(found["threads"])}

    def _read_settings(self) -> None:
        """Look at what is needed to read all the rest: the format, and which rounds are kept."""
        file = self.folder / "environment.json"
        with blaming(file):
            found = dict(parse_json(self._text("environment.json")))
            format = found.get(FORMAT_KEY, 1)
            if type(format) is not int:
                raise ValueError(f"its format is {format!r}")
            if format > FORMAT:
                raise StoreError(
                    f"{self.folder} is a run folder of format {format}, made by a newer fl-kit; this one reads formats "
                    f"up to {FORMAT}: install the newer one to go on with the run"
                )
            self.keep = checked(found.get(KEEP_KEY, "all"), "environment")

    def save(self, state: State, memories: Memories) -> None:
        """Events first, the state last: a state on disk has its history, and marks its round as done.

        Each waits for the disk, so no power cut leaves a state without what came before it.
        """
        place = self.folder / round_name(state.round)
        if self._lock is not None:
            self._lock.check()
        try:
            note = {"events": len(self.events), "memories": len(memories)}
            self.events.flush()
            if memories:
                write(pack(memories), place / "memories", durable=True)
            write(state, place / "state", durable=True, note=note)
        except (OSError, StoreError) as error:
            raise StoreError(
                f"round {state.round} cannot be written to {place}: {error}. "
                "Rounds before it are whole: make room, then resume the run"
            ) from error
        self._forget(state.round)

    def _forget(self, newest: int) -> None:
        """Remove what `keep` does not ask for, now that a round is safe; what cannot go now goes with the next one."""
        if self.keep == "all":
            return
        there = [round for round in self._rounds() if round <= newest]
        oldest = oldest_kept(filter(self._is_whole, there), self.keep)
        for round in (round for round in there if round < oldest):
            for place in (self.folder, self.folder / STEPS):
                shutil.rmtree(place / round_name(round), ignore_errors=True)

    def hold(self) -> None:
        """Be the one kernel that goes on with the run, until `release`; what others wrote so far is then known.

        Raises RunLocked that names who holds it. A holder that is gone is told of in the events.
        """
        self._lock = RunLock.take(self.folder)
        try:
            if self.events.path is not None and self.events.path.exists():
                self.events.reload(vouched=self._vouched())
        except StoreError:
            self.release()
            raise
        if self._lock.gone:
            value = f"the run is taken over from {self._lock.gone}"
            round = self.last_round() or 0
            self.events.append(Event(time=now(), round=round, party=ORCHESTRATOR, name=NOTE, value=value))

    def release(self) -> None:
        """Let others go on with it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def state(self, round: int) -> State:
        try:
            return read(State, self.folder / round_name(round) / "state")
        except MessageError as error:
            raise StoreError(f"the state of round {round} cannot be read: {error}") from error

    def memories(self, round: int) -> dict[str, Memory]:
        place = self.folder / round_name(round) / "memories"
        if not place.exists():
            return {}
        try:
            return unpack(read(Memory, place))
        except MessageError as error:
            raise StoreError(f"the silos' memories of round {round} cannot be read: {error}") from error

    def last_round(self) -> int | None:
        """The last round whose state, memories and events are all there; what a damaged one held is made again."""
        return next(filter(self._is_whole, self._rounds()), None)

    def rounds(self) -> list[int]:
        """The rounds that are kept whole, the oldest first."""
        return sorted(filter(self._is_whole, self._rounds()))

    def _rounds(self) -> list[int]:
        """The rounds that have a folder, whole or not, the newest first."""
        numbers = (path.name.removeprefix("round_") for path in self.folder.glob("round_*"))
        return sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)

    def _is_whole(self, round: int) -> bool:
        place = self.folder / round_name(round)
        if not complete(place / "state"):
            return False
        note = read_meta(place / "state")
        events = note.get("events", 0)
        if type(events) is not int or events > len(self.events):
            return False
        return not note.get("memories") or complete(place / "memories")

    def _vouched(self) -> int:
        """How many events were on the disk when the newest state was written."""
        states = (self.folder / round_name(round) / "state" for round in self._rounds())
        told = next((read_meta(state).get("events", 0) for state in states if complete(state)), 0)
        return told if type(told) is int else 0

    def _text(self, name: str) -> str:
        try:
            return read_text(inside(self.folder, name))
        except OSError as error:
            raise StoreError(f"{self.folder / name} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise StoreError(f"{self.folder / name} cannot be read: {error}") from error


@contextmanager
def blaming(file: Path, more: str = "") -> Iterator[None]:
    """Whatever is wrong with what a file holds becomes a StoreError that names it."""
    try:
        yield
    except StoreError:
        raise
    except (FlKitError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{file} {more}is damaged: {error}") from error
