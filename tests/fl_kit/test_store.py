import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_kit import Federation, Scaffold
from fl_kit.errors import FlKitError, IncompatibleError, RunNotFound, StoreError
from fl_kit.events import EventLog
from fl_kit.memory_store import MemoryStore
from fl_kit.messages import Memory, State
from fl_kit.packed_memories import pack, unpack
from fl_kit.plan import round_name
from fl_kit.retention import checked
from fl_kit.store import FolderStore
from fl_kit.tensors import digest
from sim.in_process import InProcess
from sim.processes import Processes
from sim.run import SimulatedRun
from tests.sim.small import federation, job, undisturbed

SCAFFOLD = Scaffold(epochs=2, batch_size=8, lr=0.2)


def state(round: int, value: float = 1.0) -> State:
    return State(round=round, params={"w": torch.full((3,), value)}, memory={"control": {"w": torch.zeros(3)}})


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"))


def test_in_memory_the_last_state_is_kept_with_its_memories():
    store = MemoryStore()
    assert store.last_round() is None
    for round in (0, 1):
        store.save(state(round), {"a": Memory(tensors={"c": {"w": torch.ones(1)}})})
    assert store.last_round() == 1
    assert store.state(1).round == 1
    assert set(store.memories(1)) == {"a"}
    with pytest.raises(StoreError, match="round 0 was not kept"):
        store.state(0)


def test_in_memory_every_state_can_be_kept():
    store = MemoryStore(keep="all")
    for round in range(3):
        store.save(state(round, float(round)), {})
    assert [float(store.state(r).params["w"][0]) for r in range(3)] == [0.0, 1.0, 2.0]


def test_memories_are_packed_as_one_message_and_back():
    memories = {
        "north-1": Memory(tensors={"control": {"0.weight": torch.ones(2), "bias": torch.zeros(1)}}),
        "south_2": Memory(tensors={"control": {"0.weight": torch.zeros(2)}, "a.b": {"x": torch.ones(1)}}),
    }
    back = unpack(pack(memories))
    assert back.keys() == memories.keys()
    for silo, memory in memories.items():
        assert back[silo].tensors.keys() == memory.tensors.keys()
        for group, tensors in memory.tensors.items():
            assert digest(back[silo].tensors[group]) == digest(tensors)


def test_a_folder_holds_what_was_asked_for(silos, tmp_path):
    asked = job(strategy=SCAFFOLD, seed=3)
    store = FolderStore.create(tmp_path / "run", asked, asked.plan(silos), silos, {"threads": 1})
    found = FolderStore.open(tmp_path, "run")
    assert found.job() == asked
    assert found.plan().to_json() == asked.plan(silos).to_json()
    assert found.federation() == silos
    assert found.environment() == {"threads": 1}
    assert found.last_round() is None
    assert store.folder == found.folder


def test_a_folder_is_never_written_over(silos, tmp_path):
    asked = job()
    FolderStore.create(tmp_path / "run", asked, asked.plan(silos), silos, {})
    with pytest.raises(StoreError, match="exists already"):
        FolderStore.create(tmp_path / "run", asked, asked.plan(silos), silos, {})


def test_a_folder_that_cannot_be_made_is_named(silos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    asked = job()
    with pytest.raises(StoreError, match=r"file.run cannot be made"):
        FolderStore.create(tmp_path / "file" / "run", asked, asked.plan(silos), silos, {})
    with pytest.raises(StoreError, match="cannot be made"):
        asked.run(silos, on=InProcess(folder=tmp_path / "file"))


def test_other_folders_among_the_rounds_do_no_harm(silos, tmp_path):
    run = job().run(silos, on=InProcess(folder=tmp_path)).wait()
    for name in ("round_notes", "round_", "round_007"):
        (run.folder / name).mkdir()
    assert FolderStore.open(tmp_path, run.id).last_round() == 3


def test_a_task_that_was_exchanged_is_refused(silos, tmp_path):
    run = job().run(silos, on=InProcess(folder=tmp_path)).wait()
    task = run.folder / "task" / "logistic.py"
    task.write_text(task.read_text() + "\nimport os\n")
    with pytest.raises(StoreError, match=r"logistic.*sha256") as raised:
        InProcess(folder=tmp_path).resume(run.id)
    assert str(run.folder) in str(raised.value)


# A run folder that ends with round 2 of 3, damaged in one file after another.

FILES = [
    "audit.json",
    "job.json",
    "plan.json",
    "federation.yaml",
    "environment.json",
    "task/logistic.py",
    "events.jsonl",
    *(f"round_00{r}/state/{name}" for r in range(3) for name in ("meta.json", "tensors.safetensors")),
    *(f"round_00{r}/memories/{name}" for r in (1, 2) for name in ("meta.json", "tensors.safetensors")),
]


def garbage(path: Path) -> None:
    path.write_bytes(bytes((i * 37 + 11) % 256 for i in range(path.stat().st_size)))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose_the_folder(path: Path) -> None:
    shutil.rmtree(path.parent) if path.parent.name in ("state", "memories", "task") else path.unlink()


DAMAGES = {
    "deleted": Path.unlink,
    "halved": halve,
    "emptied": lambda path: path.write_bytes(b""),
    "garbage": garbage,
    "other JSON": lambda path: path.write_text("[1, 2]\n"),
    "its folder deleted": lose_the_folder,
}


@pytest.fixture(scope="module")
def whole(silos: Federation) -> SimulatedRun:
    return undisturbed(job(strategy=SCAFFOLD), silos)


@pytest.fixture(scope="module")
def unfinished(silos: Federation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("unfinished")
    save = FolderStore.save

    def full_at_the_last(self: FolderStore, state: State, memories: dict[str, Memory]) -> None:
        if state.round == 3:
            raise StoreError("no room")
        save(self, state, memories)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderStore, "save", full_at_the_last)
        run = job(strategy=SCAFFOLD).run(silos, on=InProcess(folder=runs))
        with pytest.raises(StoreError, match="no room"):
            run.wait()
    assert sorted(str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()) == sorted(FILES)
    return run.folder


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_or_made_up_for(unfinished, whole, tmp_path, file, damage: Callable[[Path], object]):
    folder = tmp_path / unfinished.name
    shutil.copytree(unfinished, folder)
    damage(folder / file)
    outcome: SimulatedRun | FlKitError
    try:
        outcome = InProcess(folder=tmp_path).resume(folder.name).wait()
    except FlKitError as error:
        outcome = error
    if isinstance(outcome, FlKitError):
        assert type(outcome) is (RunNotFound if file == "job.json" and not (folder / file).exists() else StoreError)
        assert folder.name in str(outcome)
        assert file == "job.json" or Path(file).name in str(outcome) or str(Path(file).parent) in str(outcome)
        return
    assert not file.startswith(("job", "plan", "federation", "environment", "task"))
    assert outcome.digest() == whole.digest()
    for round in range(4):
        if not file.startswith(f"round_00{round}") or round == 2:
            assert outcome.digest(round) == whole.digest(round)
    pd.testing.assert_frame_equal(outcome.history(), whole.history(), check_exact=True)


def test_a_damaged_last_round_is_computed_again(unfinished, whole, tmp_path):
    folder = tmp_path / unfinished.name
    shutil.copytree(unfinished, folder)
    halve(folder / "round_002" / "state" / "tensors.safetensors")
    assert FolderStore.open(tmp_path, folder.name).last_round() == 1
    run = InProcess(folder=tmp_path).resume(folder.name).wait()
    assert [run.digest(r) for r in range(4)] == [whole.digest(r) for r in range(4)]


def test_a_federation_that_lost_a_silo_is_refused(unfinished, tmp_path):
    folder = tmp_path / unfinished.name
    shutil.copytree(unfinished, folder)
    federation = FolderStore.open(tmp_path, folder.name).federation()
    federation.select(federation.names[:-1]).save(folder / "federation.yaml")
    with pytest.raises(StoreError, match=r"federation\.yaml"):
        InProcess(folder=tmp_path).resume(folder.name)


def test_threads_that_are_no_number_are_refused(unfinished, tmp_path):
    folder = tmp_path / unfinished.name
    shutil.copytree(unfinished, folder)
    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**environment, "threads": "many"}))
    with pytest.raises(StoreError, match=r"environment\.json"):
        InProcess(folder=tmp_path).resume(folder.name)


@given(
    keep=st.sampled_from(["all", "last", 1, 2, 3]),
    saved=st.lists(st.booleans(), min_size=1, max_size=7),
    torn=st.integers(0, 6),
)
@settings(max_examples=15)
def test_only_rounds_go_that_are_not_asked_for_and_never_the_last_whole_one(keep, saved, torn):
    """Rounds follow one another, with memories or without; one of them is torn before the next is saved."""
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        store = FolderStore(Path(place), EventLog(Path(place, "events.jsonl")))
        store.keep = keep
        whole: list[int] = []
        for round, remembers in enumerate(saved):
            Path(place, "steps", round_name(round)).mkdir(parents=True)
            store.save(state(round), {"a": Memory(tensors={"c": {"w": torch.ones(1)}})} if remembers else {})
            wanted = len(saved) if keep == "all" else 1 if keep == "last" else keep
            whole = [*whole, round][-wanted:]
            assert store.rounds() == whole
            assert store.last_round() == round
            assert store.memories(round).keys() == ({"a"} if remembers else set())
            there = sorted(path.name for path in Path(place, "steps").iterdir())
            assert {round_name(r) for r in whole} <= set(there)
            assert len(whole) < wanted or keep == "all" or min(there) >= round_name(whole[0])
            if round == torn:
                (Path(place) / round_name(round) / "state" / "meta.json").write_text("{")
                whole.pop()
                assert store.last_round() == (whole[-1] if whole else None)


@pytest.mark.parametrize("keep", ["none", 0, -1, 1.0, True, None])
def test_a_number_of_rounds_that_is_none_is_refused(keep):
    with pytest.raises(IncompatibleError, match=r"keep=.*'all', 'last', or a number of rounds of at least 1"):
        checked(keep, "InProcess")
    with pytest.raises(IncompatibleError, match=r"InProcess\(keep=|Processes\(keep="):
        (Processes if keep == 0 else InProcess)(keep=keep if keep is not None else "None")


def test_a_run_keeps_what_it_was_begun_with_unless_it_is_told_otherwise(silos, tmp_path):
    run = job().run(silos, on=InProcess(folder=tmp_path, keep=2)).wait()
    assert FolderStore.open(tmp_path, run.id).rounds() == [2, 3]
    with pytest.raises(StoreError, match="round 1"):
        run.state(1)
    shutil.rmtree(run.folder / "round_003")
    InProcess(folder=tmp_path).resume(run.id)
    assert FolderStore.open(tmp_path, run.id).keep == 2


def test_a_folder_of_a_newer_fl_kit_is_refused_and_both_formats_are_named(silos, tmp_path):
    run = job(rounds=1).run(silos, on=InProcess(folder=tmp_path)).wait()
    file = run.folder / "environment.json"
    found = json.loads(file.read_text())
    assert found["format"] == 1
    file.write_text(json.dumps({**found, "format": 2}))
    with pytest.raises(StoreError, match=rf"{run.id} is a run folder of format 2, .* reads formats up to 1"):
        InProcess(folder=tmp_path).resume(run.id)
    file.write_text(json.dumps({**found, "format": "two"}))
    with pytest.raises(StoreError, match=r"environment\.json is damaged"):
        InProcess(folder=tmp_path).resume(run.id)
