"""The workers' parts, each by itself: the wire, the shared memory, the parcels, and who does which step."""

import gc
import io
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.errors import MessageError
from fl_kit.messages import Memory, Origin, State, Update
from fl_kit.plan import Step
from fl_kit.tensors import digest
from sim.engines.workers import shared
from sim.engines.workers.parcels import joined, taken_apart
from sim.engines.workers.process import ended_by
from sim.engines.workers.round import HERE, Round
from sim.engines.workers.shared import Shelf, private_folder
from sim.engines.workers.tasks import Result, Task
from sim.engines.workers.wire import LIMIT, Wire

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.uint8]


def through(data: bytes) -> Wire:
    return Wire(io.BytesIO(data), io.BytesIO())


def test_what_is_sent_is_what_arrives() -> None:
    sent = io.BytesIO()
    Wire(io.BytesIO(), sent).send("done", weight=0.1, norm=float("inf"), text="ä\ud800 – µ", rows=[["w", [2, 3]]])
    wire = through(sent.getvalue())
    assert wire.receive() == {
        "kind": "done", "weight": 0.1, "norm": float("inf"), "text": "ä? – µ", "rows": [["w", [2, 3]]],
    }  # fmt: skip
    assert wire.receive() is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x05\x00",
        (LIMIT + 1).to_bytes(4, "little") + b"{}",
        b"\x02\x00\x00\x00[]",
        b"\x02\x00\x00\x00{}",
        b"\x03\x00\x00\x00{x}",
        b"\x02\x00\x00\x00\xff\xff",
        b"\x0a\x00\x00\x00{\"kind\":1}",
    ],
)  # fmt: skip
def test_the_wire_refuses_garbage(data: bytes) -> None:
    with pytest.raises(MessageError, match="over the wire"):
        through(data).receive()


@given(st.binary(max_size=64))
def test_whatever_comes_it_is_a_message_the_end_or_refused(data: bytes) -> None:
    try:
        found = through(data).receive()
    except MessageError:
        return
    assert found is None or isinstance(found["kind"], str)


def test_tensors_come_out_of_shared_memory_as_they_went_in(tmp_path: Path) -> None:
    """Of every dtype, shape and stride, empty ones and single numbers too; another process maps the same file."""
    grid = torch.arange(24).reshape(2, 3, 4)
    tensors = {f"{dtype}": (grid % 2 if dtype == torch.bool else grid).to(dtype) for dtype in DTYPES}
    tensors |= {
        "turned": grid.permute(2, 0, 1).double(),
        "wide": torch.ones(1).expand(5),
        "none": torch.empty(0, 3),
        "one": grid[1, 1, 1],
    }
    packed = Shelf(tmp_path).put("out", tensors)
    found = Shelf(tmp_path).views(packed)
    assert digest(found) == digest(tensors)
    assert list(found) == list(tensors)
    assert found["turned"].stride() == tensors["turned"].stride(), "a norm adds up in the order of memory"
    assert all(value.data_ptr() % shared.ALIGNED == 0 for value in found.values() if value.numel())


def test_an_area_is_used_again_and_grows_in_a_new_file(tmp_path: Path) -> None:
    ours, theirs = Shelf(tmp_path), Shelf(tmp_path)
    first = ours.put("state", {"w": torch.zeros(10)})
    seen = theirs.views(first)
    again = ours.put("state", {"w": torch.ones(10)})
    assert again == first
    assert seen["w"].tolist() == [1.0] * 10, "it is one memory"
    larger = ours.put("state", {"w": torch.full((1 << 20,), 2.0)})
    assert larger["size"] > first["size"]
    assert theirs.views(larger)["w"].sum() == 2 << 20
    assert seen["w"].tolist() == [1.0] * 10, "what is still looked at stays"
    assert [file.name for file in tmp_path.iterdir()] == [f"state.{larger['size']}"]


def test_it_is_told_when_nobody_looks_at_the_tensors_any_more(tmp_path: Path) -> None:
    shelf, heard = Shelf(tmp_path), []
    packed = shelf.put("out", {"a": torch.ones(3), "b": torch.ones(2, 2)})
    found = shelf.views(packed, lambda: heard.append("gone"))
    row = found["b"][0].view(-1)
    del found
    gc.collect()
    assert not heard, "a part of one of them is still there"
    del row
    assert heard == ["gone"]


@pytest.mark.parametrize(
    "change",
    [
        {"size": 1 << 30},
        {"size": "x"},
        {"area": "other"},
        {"layout": [["w", "float32", [1 << 20], 0, None]]},
        {"layout": [["w", "float32", [-1], 0, None]]},
        {"layout": [["w", "float32", [2], -8, None]]},
        {"layout": [["w", "load", [2], 0, None]]},
        {"layout": [["w", "float32", [2, 2], 0, [4, 1]]]},
        {"layout": [["w", "float32", [2, 2], 0, [1]]]},
    ],
    ids=str,
)
def test_what_does_not_lie_there_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    packed = Shelf(tmp_path).put("out", {"w": torch.ones(4)})
    with pytest.raises(MessageError):
        Shelf(tmp_path).views({**packed, **change})


def test_a_tensor_that_is_not_dense_cannot_be_shared(tmp_path: Path) -> None:
    with pytest.raises(MessageError, match="'w' is no dense tensor"):
        Shelf(tmp_path).put("out", {"w": torch.eye(3).to_sparse()})


def test_the_folder_is_private_and_on_the_disk_where_memory_has_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "IN_MEMORY", tmp_path)
    near, far = private_folder(1), private_folder(1 << 60)
    assert near.parent == tmp_path
    assert far.parent != tmp_path
    assert near.stat().st_mode & 0o077 == 0 or os.name == "nt"
    far.rmdir()


def test_messages_are_the_same_again_and_the_update_names_this_processs_own_state() -> None:
    state = State(
        round=3, params={"w": torch.ones(2)}, memory={"c": {"w": torch.zeros(2)}}, counted={"a": 2}, done=True
    )
    update = Update(
        delta={"b": torch.ones(2), "a": torch.zeros(1)},
        weight=7.0,
        extra={"buffers": {"n": torch.tensor(3)}},
        metrics={"loss": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        silo="a",
        origin=Origin(step="round_004/a/fit", start="another", bundle="beef"),
    )
    object.__setattr__(update, "norm", 1.5)
    memory = Memory(tensors={"own": {"w": torch.ones(3)}})
    found = joined(*taken_apart({"update": update, "memory": memory, "state": state}), state)
    again = found["update"]
    assert isinstance(again, Update)
    assert (again.weight, again.silo, again.norm) == (7.0, "a", 1.5)
    assert list(again.delta) == ["b", "a"]
    assert again.origin is not None
    assert (again.origin.step, again.origin.bundle) == ("round_004/a/fit", "beef")
    assert again.origin.start is state
    assert found["memory"] == memory
    assert isinstance(found["state"], State)
    assert found["state"].sha256 == state.sha256


@pytest.mark.parametrize("described", [{"update": {}}, {"update": {"kind": "no"}}, {}], ids=str)
def test_what_is_no_message_is_refused(described: dict[str, dict[str, object]]) -> None:
    with pytest.raises(MessageError, match="no message"):
        joined(described, {"update:delta/w": torch.ones(1)})


def tasks(*silos: str) -> list[Task]:
    steps = [Step(op="fit", party=silo, round=1, inputs={}, outputs={"update": "shared"}) for silo in silos]
    return [Task(number=number, step=step, inputs={}) for number, step in enumerate(steps, 1)]


def order(round: Round, *who: int) -> str:
    return "".join(task.step.party if (task := round.next(one)) else "-" for one in who)


def test_steps_are_begun_in_order_and_the_first_is_left_for_this_process() -> None:
    round = Round()
    round.begin(tasks(*"abcd"), helps=True)
    assert order(round, 1, 2, HERE, 1) == "bcd-"


def test_a_silo_goes_to_who_has_its_rows_unless_that_one_has_too_much_to_do() -> None:
    round = Round()
    round.begin(tasks(*"abcd"), helps=False)
    assert order(round, 1, 2, 1, 2) == "abcd"
    round.begin(tasks(*"abcd"), helps=False)
    assert order(round, 2, 2, 2, 1) == "bdac"


def test_what_a_worker_did_not_end_waits_again_in_its_place_but_not_what_nobody_waits_for() -> None:
    round = Round()
    first, second, third = tasks(*"abc")
    round.begin([first, second, third], helps=False)
    assert [round.next(1), round.next(2)] == [first, second]
    del round.tasks[second.step.id]
    round.back([second, first])
    assert list(round.waiting) == [first, third]


def test_a_step_that_has_ended_a_process_is_not_for_this_one() -> None:
    round = Round()
    (only,) = tasks("a")
    round.begin([only], helps=False)
    only.deaths = 1
    assert round.next(HERE) is None
    assert round.next(1) is only


def test_this_process_computes_ahead_as_long_as_there_is_room() -> None:
    round = Round()
    found = tasks(*"abc")
    round.begin(found, helps=False)
    megabyte = Update(delta={"w": torch.empty(1 << 18)}, weight=1.0)
    large = Update(delta={"w": torch.empty(9 << 20)}, weight=1.0)
    assert not round.is_full()
    for task, update in zip(found, (megabyte, large), strict=False):
        assert not round.is_full()
        task.result = Result(outputs={"update": update})
        round.computed(task)
    assert round.is_full(), "36 MiB wait, and as much would come"
    round.asked_for(found[1].step)
    assert not round.is_full(), "it was asked for"


@pytest.mark.parametrize(
    ("code", "words"),
    [(-9, "was ended by signal 9 (SIGKILL)"), (1, "ended with exit code 1"), (-250, "was ended by signal 250")],
)
def test_how_a_process_ended_is_said_in_words(code: int, words: str) -> None:
    assert ended_by(code) == words
