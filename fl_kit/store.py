"""Where a run's states, memories and events are kept: in a run folder, or in memory.

The run folder is the truth of a run:

    <run id>/
      job.json  plan.json  federation.yaml  environment.json  task/<name>.py     what was asked for
      init.safetensors                                        the weights it started from, where it was given any
      events.jsonl                                                               what happened
      round_003/state/      tensors.safetensors + meta.json                      the state after round 3
      round_003/memories/   the silos' private memories, where a strategy has any (a simulation holds them
                            on one disk; elsewhere they stay in their silos)
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from fl_kit.bounded import inside, name_fault, parse_json, read_text
from fl_kit.errors import FlKitError, MessageError, RunNotFound, StoreError
from fl_kit.events import EventLog
from fl_kit.files import write_text
from fl_kit.given_weights import INIT_FILE
from fl_kit.job import Job
from fl_kit.messages import Groups, Memory, State, complete, read, read_meta, write
from fl_kit.plan import Plan, round_name
from fl_kit.secret_scan import refusal
from fl_kit.silo import Federation, nearest
from fl_kit.task import task_file

Memories = Mapping[str, Memory]


class Store(Protocol):
    """What a run keeps; both stores below are one."""

    events: EventLog

    def save(self, state: State, memories: Memories) -> None:
        """Keep a round's outcome; when it returns, the round can be resumed from."""

    def state(self, round: int) -> State:
        """The state after a round; raises StoreError if it was not kept."""

    def memories(self, round: int) -> dict[str, Memory]:
        """The silos' memories after a round, by silo."""

    def last_round(self) -> int | None:
        """The last round that was kept whole, or None before the start."""


class MemoryStore:
    """Keeps a run in memory only: the last state, or every state with `keep_all`."""

    def __init__(self, *, keep_all: bool = False) -> None:
        self.events = EventLog()
        self.keep_all = keep_all
        self._states: dict[int, State] = {}
        self._memories: dict[int, dict[str, Memory]] = {}

    def save(self, state: State, memories: Memories) -> None:
        if not self.keep_all:
            self._states.clear()
            self._memories.clear()
        self._states[state.round] = state
        self._memories[state.round] = dict(memories)

    def state(self, round: int) -> State:
        if round not in self._states:
            raise StoreError(f"the state of round {round} was not kept in memory; run with a folder to keep each round")
        return self._states[round]

    def memories(self, round: int) -> dict[str, Memory]:
        return dict(self._memories[round])

    def last_round(self) -> int | None:
        return max(self._states, default=None)


class FolderStore:
    """Keeps a run in its own folder. Raises StoreError that names the file for what cannot be read or written."""

    def __init__(self, folder: Path, events: EventLog) -> None:
        self.folder = folder
        self.events = events

    @classmethod
    def create(
        cls, folder: Path, job: Job, plan: Plan, federation: Federation, environment: Mapping[str, Any]
    ) -> "FolderStore":
        """A new run folder; raises StoreError if it exists, so that no run can overwrite another.

        So it does for a task or a setting that holds what looks like a secret: run folders are kept and copied.
        """
        texts = {f"task/{job.task.name}.py": job.task.source, "job.json": job.to_json()}
        if fault := refusal(texts, "a run folder is kept and copied"):
            raise StoreError(fault)
        try:
            folder.mkdir(parents=True, exist_ok=False)
            (folder / "task").mkdir()
            write_text(folder / "task" / f"{job.task.name}.py", job.task.source)
            write_text(folder / "plan.json", plan.to_json())
            federation.save(folder / "federation.yaml")
            write_text(folder / "environment.json", json.dumps(environment, indent=1) + "\n")
            if job.init is not None:
                (folder / INIT_FILE).write_bytes(job.init.to_bytes())
            write_text(folder / "job.json", job.to_json(), durable=True)
        except FileExistsError as error:
            raise StoreError(f"{folder} exists already; a run never overwrites another") from error
        except OSError as error:
            raise StoreError(f"the run folder {folder} cannot be made: {error.strerror}") from error
        return cls(folder, EventLog(folder / "events.jsonl"))

    @classmethod
    def open(cls, runs: Path, run_id: str) -> "FolderStore":
        """The folder of an earlier run; raises RunNotFound with the nearest id."""
        folder = runs / run_id
        if name_fault(run_id) or not (folder / "job.json").is_file():
            known = sorted((p.parent.name for p in runs.glob("*/job.json")), reverse=True)
            raise RunNotFound(f"there is no run {run_id!r} in {runs}{nearest(run_id, known)}")
        events = folder / "events.jsonl"
        return cls(folder, EventLog.load(events) if events.exists() else EventLog(events))

    def job(self) -> Job:
        """The job that was asked for, with its task made from the source kept here."""
        with blaming(self.folder / "job.json"):
            text = self._text("job.json")
            file = task_file(self.folder, text)
        source = self._text(f"task/{file.name}")
        with blaming(self.folder / "job.json", f"with task/{file.name} "):
            return Job.from_json(text, source, self.folder / INIT_FILE)

    def plan(self) -> Plan:
        """The plan that was run."""
        with blaming(self.folder / "plan.json"):
            return Plan.from_json(self._text("plan.json"))

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
            return {**found, "threads": int(found["threads"])}

    def save(self, state: State, memories: Memories) -> None:
        """Events first, the state last: a state on disk has its history, and marks its round as done."""
        place = self.folder / round_name(state.round)
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
        numbers = (path.name.removeprefix("round_") for path in self.folder.glob("round_*"))
        rounds = sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)
        return next((r for r in rounds if self._whole(self.folder / round_name(r))), None)

    def _whole(self, place: Path) -> bool:
        if not complete(place / "state"):
            return False
        note = read_meta(place / "state")
        events = note.get("events", 0)
        if type(events) is not int or events > len(self.events):
            return False
        return not note.get("memories") or complete(place / "memories")

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


def pack(memories: Memories) -> Memory:
    """All silos' memories as one message: group `<silo>.<group>`; a silo's name has no dot."""
    return Memory(
        tensors={f"{silo}.{group}": t for silo, memory in memories.items() for group, t in memory.tensors.items()}
    )


def unpack(packed: Memory) -> dict[str, Memory]:
    silos: dict[str, Groups] = {}
    for key, tensors in packed.tensors.items():
        silo, _, group = key.partition(".")
        silos.setdefault(silo, {})[group] = tensors
    return {silo: Memory(tensors=groups) for silo, groups in silos.items()}
