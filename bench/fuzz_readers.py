"""The readers that `bench.fuzz` tries, and the valid inputs that it starts from."""

import base64
import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from bench.fuzz import Reader
from bench.fuzz_changes import Input
from fl_kit import FedAvg, Federation, Job, Scaffold, Silo
from fl_kit.approvals import Approval, packed, read_approvals
from fl_kit.archive import archive_of
from fl_kit.bounded import parse_json
from fl_kit.bundle import MANIFEST, bytes_digest, manifest_of, verify
from fl_kit.errors import MessageError
from fl_kit.events import METRIC, NOTE, STEP_FAILED, Event, EventLog
from fl_kit.given_weights import GivenWeights
from fl_kit.messages import Memory, Message, Origin, State, Update, read, write
from fl_kit.model_state import ModelState
from fl_kit.plan import Plan
from fl_kit.policy import Policy
from fl_kit.regression.bands import load_bands
from fl_kit.reporting import read_note
from fl_kit.store import FolderStore
from fl_kit.task import Task
from fl_kit.tracking.ledger import Ledger
from fl_kit.tracking.ledger import load as load_ledger
from fl_kit.tracking.record import of_folder
from fl_kit.untold import Report, read_untold, write_untold
from fl_kit.update_form import SumsForm, UpdateForm, size_limit
from fl_kit.yaml_lines import parse_yaml

TASK = Task(
    name="fuzzed",
    source="from torch import nn\n\n\ndef model():\n    return nn.Linear(3, 1)\n\n\ndef data(folder, split):\n"
    "    return []\n\n\nloss = nn.MSELoss()\n",
)
FEDERATION = Federation(
    silos=(
        Silo(name="ash", data="data/ash", region="west", tags={"ward": "3"}),
        Silo(name="birch", data="b", processes=2),
    )
)
JOBS = (
    Job(task=TASK, strategy=FedAvg(lr=(0.1, 0.05), steps=3), rounds=2, min_silos=1, seed=2**40, device="cpu"),
    Job(task=TASK, strategy=Scaffold(), rounds=1, deadline=60, device="cpu"),
)
PLANS = tuple(job.plan(FEDERATION) for job in JOBS)
MODEL = ModelState(TASK.model(), torch.device("cpu"))
EVENTS = (
    Event(time=1.5, round=0, party="ash", name=f"{METRIC}loss", value=0.25),
    Event(time=2.0, round=1, party="global", name=f"{METRIC}auc", value=float("nan")),
    Event(
        time=3.0,
        round=1,
        party="birch",
        name=STEP_FAILED,
        value={"step": "fit", "kind": "E", "message": "m", "detail": ""},
    ),
    Event(time=3.0, round=1, party="orchestrator", name=NOTE, value="größe"),
)


ORIGIN = Origin(step="round_001/ash/fit", start="0" * 64, bundle="1" * 64)
UPDATE = Update(
    delta={name: torch.ones_like(p) for name, p in MODEL.trainable.items()},
    weight=7.0,
    extra={"control": {name: torch.ones_like(p) for name, p in MODEL.trainable.items()}},
    metrics={"loss": torch.tensor([0.5, 7.0], dtype=torch.float64)},
    silo="ash",
    origin=ORIGIN,
)
STATE = State(
    round=3, params=MODEL.snapshot(), memory={"m": UPDATE.delta}, counted={"ash": 3}, watched=(0.5,), done=True
)
MEMORY = Memory(tensors={"own": {"flags": torch.tensor([True, False]), "half": torch.ones(2, 2, dtype=torch.bfloat16)}})
STEP = next(step for step in PLANS[1].steps if step.op == "aggregate")
FORM = UpdateForm.of(JOBS[1], STEP, MODEL)


def readers() -> tuple[Reader, ...]:
    """Every reader."""
    update, state, memory = (message_seed(message) for message in (UPDATE, STATE, MEMORY))
    tensors = tuple({"t.safetensors": seed["tensors.safetensors"]} for seed in (update, state, memory))
    return (
        Reader(name="json", seeds=texts("x.json", *json_texts()), read=read_json, files=False, share=12),
        Reader(name="event", seeds=texts("x.json", *event_texts()), read=read_event, files=False, share=12),
        Reader(name="plan", seeds=texts("x.json", *(p.to_json() for p in PLANS)), read=read_plan, files=False, share=3),
        Reader(name="job", seeds=texts("x.json", *(j.to_json() for j in JOBS)), read=read_job, files=False, share=6),
        Reader(name="yaml", seeds=texts("x.yaml", *yaml_texts()), read=read_yaml_text, files=False, share=2),
        Reader(name="note", seeds=texts("x.json", *note_texts()), read=tag, files=False, share=4),
        Reader(name="origin", seeds=texts("x.json", json.dumps(ORIGIN.to_dict())), read=origin, files=False, share=2),
        Reader(name="update", seeds=(update,), read=lambda _, folder: read_update(folder), share=6),
        Reader(name="state", seeds=(state,), read=lambda _, folder: read(State, folder), share=4),
        Reader(name="memory", seeds=(memory,), read=lambda _, folder: read(Memory, folder, copied=True), share=4),
        Reader(
            name="weights", seeds=tensors, read=lambda _, folder: GivenWeights.of(folder / "t.safetensors"), share=4
        ),
        Reader(name="events file", seeds=({"events.jsonl": event_file()},), read=events_file, share=4),
        Reader(name="untold", seeds=(untold_seed(),), read=lambda _, folder: read_untold(folder), share=3),
        Reader(name="ledger", seeds=(ledger_seed(),), read=lambda _, folder: load_ledger(folder), share=3),
        Reader(name="bands", seeds=(bands_seed(),), read=lambda _, folder: load_bands(folder, "quick"), share=3),
        Reader(
            name="policy", seeds=(policy_seed(),), read=lambda _, folder: Policy.load(folder / "policy.toml"), share=3
        ),
        Reader(name="approvals", seeds=(approvals_seed(),), read=lambda _, folder: read_approvals(folder), share=3),
        Reader(name="run folder", seeds=run_seeds(), read=lambda _, folder: read_run(folder), share=1),
        Reader(name="bundle", seeds=bundle_seeds(), read=lambda _, folder: read_bundle(folder), share=1),
    )


def texts(name: str, *found: str) -> tuple[Input, ...]:
    return tuple({name: text.encode()} for text in found)


def only(found: Input) -> bytes:
    (content,) = found.values()
    return content


def as_text(found: Input) -> str:
    """As a reader of a file has it: UTF-8 or a refusal of its own."""
    try:
        return only(found).decode()
    except UnicodeDecodeError as error:
        raise MessageError(str(error)) from error


def read_json(found: Input, _: Path) -> None:
    """What was read can be written, as UTF-8 too, and is what it was."""
    try:
        value = parse_json(only(found))
    except ValueError:
        return
    again = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    if parse_json(again) != value:
        raise AssertionError("it is not what was read")


def read_event(found: Input, _: Path) -> None:
    event = Event.from_json(only(found))
    log = EventLog()
    log.append(event)
    if Event.from_json(log.read()[0].to_json()).name != event.name:
        raise AssertionError("it is not what was read")


def read_plan(found: Input, _: Path) -> None:
    plan = Plan.from_json(as_text(found))
    step_folders = [Path("/root", step.id, name) for step in plan.steps for name in step.outputs]
    if any(".." in folder.parts or Path("/root") not in folder.parents for folder in step_folders):
        raise AssertionError("a step leads out of its folder")
    plan.table()


def read_job(found: Input, _: Path) -> None:
    Job.from_json(as_text(found), TASK.source)


def read_yaml_text(found: Input, _: Path) -> None:
    value, lines = parse_yaml(as_text(found), "federation.yaml")
    Federation.from_dict(value, "federation.yaml", lines).table()


def tag(found: Input, _: Path) -> None:
    _, event = read_note({"key": "fl_kit.note.ash.1", "value": as_text(found)})
    EventLog().append(event)


def origin(found: Input, _: Path) -> None:
    try:
        Origin.from_dict(parse_json(only(found)))
    except (KeyError, TypeError, ValueError):
        return  # as messages.read has it


def read_weights(_: Input, folder: Path) -> None:
    GivenWeights.of(folder / "t.safetensors")


def read_policy(_: Input, folder: Path) -> None:
    Policy.load(folder / "policy.toml")


def read_update(folder: Path) -> None:
    update = read(Update, folder, copied=True, check=FORM.check, limit=size_limit(MODEL))
    FORM.norm(update)
    SumsForm(TASK).check(update.metrics)


def events_file(_: Input, folder: Path) -> None:
    log = EventLog.load(folder / "events.jsonl")
    log.append(EVENTS[0])
    log.flush()


def read_run(folder: Path) -> None:
    """All that is read of a run folder from elsewhere."""
    of_folder(folder)
    store = FolderStore.open(folder.parent, folder.name)
    store.job()
    store.plan()
    store.federation()
    store.environment()
    last = store.last_round()
    if last is not None:
        store.state(last)
        store.memories(last)


def read_bundle(folder: Path) -> None:
    bundle = verify(folder)
    bundle.plan()
    bundle.job()


def message_seed(message: Message) -> Input:
    with tempfile.TemporaryDirectory() as folder:
        write(message, folder)
        return files_below(Path(folder))


def files_below(folder: Path) -> Input:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def json_texts() -> tuple[str, ...]:
    nested = {"a": [1, -2.5, True, None, "x", {"b": [[], {}]}], "größe": 2**60, "\U0001f600": "\x00"}
    return (json.dumps(nested), json.dumps(nested, ensure_ascii=False), JOBS[0].to_json(), event_texts()[2])


def event_texts() -> tuple[str, ...]:
    return tuple(event.to_json() for event in EVENTS)


def event_file() -> bytes:
    return "".join(f"{text}\n" for text in event_texts()).encode()


def note_texts() -> tuple[str, ...]:
    return tuple(json.dumps({"number": 3, "event": text}) for text in event_texts())


def yaml_texts() -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder:
        block = FEDERATION.save(Path(folder) / "federation.yaml").read_text(encoding="utf-8")
    merged = (
        "shared: &s {region: west, compute: cpu}\nsilos:\n- <<: *s\n  name: ash\n  data: d\n- {name: birch, data: e}\n"
    )
    return (block, merged.replace("shared: &s {", "orchestrator: &s {"), json.dumps(FEDERATION.to_dict()))


def untold_seed() -> Input:
    with tempfile.TemporaryDirectory() as folder:
        write_untold(folder, [Report(step="round_001/orchestrator/aggregate", time=1.0, events=EVENTS)])
        return files_below(Path(folder))


def ledger_seed() -> Input:
    with tempfile.TemporaryDirectory() as folder:
        Ledger(uri="http://127.0.0.1:5000", experiment="x", runs={"": "a"}, sent={"ash/loss": 1}).save(Path(folder))
        return files_below(Path(folder))


def bands_seed() -> Input:
    bands = "[00.quick]\nparameters = {rounds = 3}\nseeds = [1, 2]\nbudget = 60.5\n\n"
    figures = "[00.quick.bands]\nauc = {value = 0.9, absolute = 0.02}\nloss = {value = 1e-3, relative = 0.5}\n"
    return {"bands.toml": (bands + figures).encode(), "00.ipynb": b'{"cells": []}'}


def policy_seed() -> Input:
    keys = "".join(
        f'{name} = "ed25519:{base64.b64encode(bytes([number] * 32)).decode()}"\n' for number, name in enumerate("ab")
    )
    allowed = f'threshold = 2\nallow = ["{"0" * 64}"]\nmax_epsilon = 3.0\noutputs = ["update"]\n'
    return {"policy.toml": f"{allowed}\n[approvers]\n{keys}".encode()}


def approvals_seed() -> Input:
    signature = base64.b64encode(bytes(64)).decode()
    one = Approval(digest="0" * 64, approver="alice", time="2026-01-31T00:00:00Z", signature=signature)
    two = replace(one, approver="bob@b.example")
    return {"alice.json": json.dumps(asdict(one)).encode(), "approvals.json": packed([one, two]).encode()}


def run_seeds() -> tuple[Input, ...]:
    """A run folder with a state and memories, written by the store itself."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        store = FolderStore.create(place, JOBS[1], PLANS[1], FEDERATION, {"threads": 1, "torch": "2"})
        for event in EVENTS:
            store.events.append(event)
        store.save(replace(STATE, round=1), {"ash": MEMORY})
        return (files_below(place),)


def bundle_seeds() -> tuple[Input, ...]:
    """Small ones: fl-kit's own source is two files, in a folder and in an archive."""
    job = JOBS[0]
    files = {
        "job.json": job.to_json().encode(),
        "plan.json": PLANS[0].to_json().encode(),
        "task/fuzzed.py": TASK.source.encode(),
    }
    own = {"fl_kit/__init__.py": b"", "fl_kit/step.py": b"print()\n"}
    manifest = {MANIFEST: manifest_of({name: bytes_digest(data) for name, data in {**files, **own}.items()})}
    return ({**files, **own, **manifest}, {**files, "fl_kit.zip": archive_of(own), **manifest})
