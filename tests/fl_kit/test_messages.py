"""Messages: what is written is read again to the bit, and anything else is a MessageError."""

import json
import math
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from fl_kit import messages
from fl_kit.errors import MessageError
from fl_kit.messages import Memory, Message, Origin, State, Update, complete, read, write
from fl_kit.tensors import Tensors, digest

PLAIN = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
OTHERS = (torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool)

name = st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text)
parameter = st.one_of(
    name, st.sampled_from(["0.weight", "a.b.c", "größe", "重み", "delta/x", "+", "__metadata__", " "])
)
group = st.one_of(name.filter(lambda text: "/" not in text), st.sampled_from(["control", "α.β", "+", "delta"]))
shape = st.one_of(st.just(()), st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple))


@st.composite
def tensor(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(FLOATS + OTHERS))
    size = draw(shape)
    count = math.prod(size)
    if dtype == torch.bool:
        values: list[Any] = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    elif dtype.is_floating_point:
        number = st.one_of(st.floats(width=16), st.sampled_from([0.0, -0.0, math.inf, math.nan]))
        values = draw(st.lists(number, min_size=count, max_size=count))
    else:
        values = draw(st.lists(st.integers(0, 127), min_size=count, max_size=count))
    return torch.tensor(values, dtype=dtype).reshape(size)


tensors = st.dictionaries(parameter, tensor(), max_size=4)
groups = st.dictionaries(group, st.dictionaries(parameter, tensor(), min_size=1, max_size=3), max_size=3)
message = st.one_of(
    st.builds(
        Update,
        delta=tensors,
        weight=st.floats(0, 1e12),
        extra=groups,
        metrics=tensors,
        silo=st.one_of(st.just(""), st.text(max_size=8)),
        origin=st.none() | st.builds(Origin, step=st.text(max_size=8), start=st.just("0f"), bundle=st.text(max_size=8)),
    ),
    st.builds(State, round=st.integers(0, 10**6), params=tensors, memory=groups),
    st.builds(Memory, tensors=groups),
)


def fields_of(found: Message) -> tuple[Any, ...]:
    """Plain fields, and the digest (names, dtypes, shapes, bits) of each group of tensors."""

    def digests(nested: dict[str, Tensors]) -> dict[str, str]:
        return {key: digest(value) for key, value in nested.items()}

    if isinstance(found, Update):
        return digest(found.delta), found.weight, digests(found.extra), digest(found.metrics), found.silo, found.origin
    if isinstance(found, State):
        return found.round, digest(found.params), digests(found.memory)
    return (digests(found.tensors),)


@PLAIN
@given(sent=message)
def test_what_is_written_is_read_to_the_bit(tmp_path: Path, sent: Message) -> None:
    write(sent, tmp_path)
    assert complete(tmp_path)
    assert fields_of(read(type(sent), tmp_path)) == fields_of(sent)


@PLAIN
@given(first=message, second=message)
def test_the_later_message_replaces_the_earlier(tmp_path: Path, first: Message, second: Message) -> None:
    write(first, tmp_path)
    write(second, tmp_path, durable=True)
    assert fields_of(read(type(second), tmp_path)) == fields_of(second)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.json", "tensors.safetensors"]


UPDATE = Update(
    delta={"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0, dtype=torch.float64)},
    weight=7.0,
    extra={"buffers": {"count": torch.tensor(5)}},
    metrics={"loss": torch.tensor([0.5, 7.0], dtype=torch.float64)},
    silo="a",
)
STATE = State(round=3, params=UPDATE.delta, memory={"control": {"w": torch.zeros(2)}})
MEMORY = Memory(tensors={"control": {"w": torch.ones(2)}})


def test_the_sha256_of_a_state_tells_all_that_it_says(tmp_path: Path) -> None:
    """And nothing else: not whether it was read from a file, nor how its tensors lie in memory."""
    write(STATE, tmp_path)
    turned = {
        name: value.T.contiguous().T if value.dim() > 1 else value.clone() for name, value in STATE.params.items()
    }
    assert read(State, tmp_path).sha256 == replace(STATE, params=turned).sha256 == STATE.sha256
    others = [
        replace(STATE, round=4),
        replace(STATE, params={**STATE.params, "w": torch.tensor([1.0, 2.5])}),
        replace(STATE, memory={"control": {"w": torch.ones(2)}}),
        replace(STATE, memory={}),
        replace(STATE, counted={"a": 3}),
        replace(STATE, watched=(0.5,)),
        replace(STATE, done=True),
    ]
    assert len({STATE.sha256, *(other.sha256 for other in others)}) == len(others) + 1


def test_an_origin_asks_for_a_sha256_only_where_the_state_is_not_the_very_same(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = Origin(step="round_004/a/fit", start=STATE)
    assert not origin.began_with(None)
    equal, other = replace(STATE), replace(STATE, round=4)
    assert origin.began_with(equal)
    assert not origin.began_with(other)
    fresh = replace(STATE)
    monkeypatch.setattr(messages, "digest", lambda tensors: pytest.fail("tensors were hashed"))
    assert Origin(step="round_004/a/fit", start=fresh).began_with(fresh)


@pytest.mark.parametrize(
    "manifest",
    [
        {"origin": {"step": "s", "state": "", "bundle": ""}},
        {"sha256": "0"},
        {"origin": {"step": 1, "state": "", "bundle": ""}, "sha256": None},
        {"origin": {"step": "s", "state": ""}, "sha256": None},
        {"origin": "s", "sha256": None},
        {"origin": None, "sha256": None},
    ],
)
def test_a_manifest_of_another_form_is_refused(folder: Path, manifest: dict[str, Any]) -> None:
    write(replace(UPDATE, origin=Origin(step="s")), folder)
    meta = json.loads((folder / "meta.json").read_text())
    whole = meta.pop("sha256")
    del meta["origin"]
    if "sha256" in manifest:
        manifest = {**manifest, "sha256": manifest["sha256"] or whole}
    (folder / "meta.json").write_text(json.dumps({**meta, **manifest}))
    with pytest.raises(MessageError, match=r"is not a update|was changed or damaged"):
        read(Update, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds UPDATE."""
    write(UPDATE, tmp_path / "update")
    return tmp_path / "update"


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    """A strategy may well keep the last parameters in its memory, or views of one flat tensor."""
    flat = torch.arange(6.0)
    shared = State(round=1, params={"a": flat[:4], "b": flat[2:]}, memory={"last": {"a": flat[:4]}})
    write(shared, tmp_path)
    assert fields_of(read(State, tmp_path)) == fields_of(shared)


def test_strided_and_differentiable_tensors_are_written(tmp_path: Path) -> None:
    turned = torch.arange(6.0).reshape(2, 3).T
    write(Memory(tensors={"g": {"turned": turned, "p": torch.nn.Parameter(torch.ones(2))}}), tmp_path)
    found = read(Memory, tmp_path).tensors["g"]
    assert torch.equal(found["turned"], turned)
    assert torch.equal(found["p"], torch.ones(2))
    assert not found["p"].requires_grad


def test_what_is_read_is_independent_of_the_file(folder: Path) -> None:
    """The next write to the folder must not change tensors that were read before."""
    found = read(Update, folder)
    before = digest(found.delta)
    write(Update(delta={k: v + 1 for k, v in UPDATE.delta.items()}, weight=1.0), folder)
    assert digest(found.delta) == before


@pytest.mark.parametrize("bad", ["a/b", "/", "x/"])
def test_a_group_with_a_slash_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(MessageError, match="group"):
        write(Memory(tensors={bad: {"w": torch.ones(1)}}), tmp_path)


@pytest.mark.parametrize("kept", [UPDATE, STATE, MEMORY], ids=["update", "state", "memory"])
@pytest.mark.parametrize("asked", [Update, State, Memory])
def test_another_kind_is_refused(tmp_path: Path, kept: Message, asked: Any) -> None:
    write(kept, tmp_path)
    if asked is type(kept):
        read(asked, tmp_path)
    else:
        with pytest.raises(MessageError, match="holds"):
            read(asked, tmp_path)


@pytest.mark.parametrize("file", ["meta.json", "tensors.safetensors"])
def test_truncated_at_any_byte_it_is_refused(folder: Path, file: str) -> None:
    whole = (folder / file).read_bytes()
    for length in range(len(whole)):
        (folder / file).write_bytes(whole[:length])
        with pytest.raises(MessageError):
            read(Update, folder)
    (folder / file).write_bytes(whole)
    read(Update, folder)


@pytest.mark.parametrize("file", ["meta.json", "tensors.safetensors"])
def test_any_flipped_bit_gives_a_message_or_a_message_error(folder: Path, file: str) -> None:
    """Values carry no checksum, so a flipped one may be read; what may not come out is another error."""
    whole = (folder / file).read_bytes()
    refused = 0
    for place in range(len(whole)):
        for bit in (0, 5, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            (folder / file).write_bytes(damaged)
            try:
                assert isinstance(read(Update, folder), Update)
            except MessageError:
                refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize("file", ["meta.json", "tensors.safetensors"])
def test_a_missing_file_is_refused(folder: Path, file: str) -> None:
    (folder / file).unlink()
    assert not complete(folder)
    with pytest.raises(MessageError):
        read(Update, folder)


@pytest.mark.parametrize("file", ["meta.json", "tensors.safetensors"])
def test_a_folder_in_place_of_a_file_is_refused(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (folder / file).mkdir()
    with pytest.raises(MessageError):
        read(Update, folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MessageError, match="nowhere"):
        read(Update, tmp_path / "nowhere")


def rewrite(folder: Path, tensors: Tensors | None = None, **meta: Any) -> None:
    """The message with other fields (… means: left out) or tensors, as a stranger might write it."""
    if tensors is not None:
        save_file(tensors, folder / "tensors.safetensors")
    found = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    found["bytes"] = (folder / "tensors.safetensors").stat().st_size
    kept = {key: value for key, value in {**found, **meta}.items() if value is not ...}
    (folder / "meta.json").write_text(json.dumps(kept), encoding="utf-8")


@pytest.mark.parametrize(
    "meta",
    [
        {"weight": "7"}, {"weight": None}, {"weight": [7]}, {"weight": ...}, {"weight": True}, {"weight": 10**400},
        {"silo": 3}, {"silo": None}, {"silo": ...}, {"silo": ["a"]},
        {"kind": "state"}, {"kind": None}, {"kind": ["update"]}, {"kind": {}}, {"kind": ...},
        {"format": 2}, {"format": None}, {"format": ...}, {"bytes": None}, {"bytes": ...}, {"bytes": "1"},
    ],
    ids=str,
)  # fmt: skip
def test_a_meta_field_of_the_wrong_type_is_refused(folder: Path, meta: dict[str, Any]) -> None:
    rewrite(folder, **meta)
    with pytest.raises(MessageError):
        read(Update, folder)


@pytest.mark.parametrize("round", ["3", None, 3.0, [3], ..., True])
def test_a_round_that_is_no_whole_number_is_refused(tmp_path: Path, round: Any) -> None:
    write(STATE, tmp_path)
    rewrite(tmp_path, round=round)
    with pytest.raises(MessageError):
        read(State, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", '"update"', "{", "NaN", "[" * 100_000, '{"a":' * 100_000], ids=lambda t: t[:9]
)
def test_meta_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / "meta.json").write_text(text, encoding="utf-8")
    with pytest.raises(MessageError):
        read(Update, folder)


def test_meta_that_is_not_utf8_is_refused(folder: Path) -> None:
    (folder / "meta.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(MessageError):
        read(Update, folder)


def test_huge_meta_is_not_even_parsed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "meta.json").write_text(" " * (messages.META_LIMIT + 1) + "{}", encoding="utf-8")
    monkeypatch.setattr(messages, "parse_json", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(MessageError, match="larger than"):
        read(Update, folder)


def test_a_tensors_file_above_the_limit_is_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (folder / "tensors.safetensors").stat().st_size
    read(Update, folder, limit=size)
    monkeypatch.setattr("safetensors.torch.load_file", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(MessageError, match="larger than the"):
        read(Update, folder, limit=size - 1)


HEADER = b'{"delta/w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.",
        b"PK\x03\x04" + bytes(200),
        b"",
        bytes(7),
        bytes(8),
        struct.pack("<Q", 2**63) + HEADER,
        struct.pack("<Q", len(HEADER)) + HEADER + bytes(4),
        struct.pack("<Q", len(HEADER)) + HEADER + bytes(12),
        struct.pack("<Q", len(HEADER)) + HEADER.replace(b"F32", b"F99") + bytes(8),
        struct.pack("<Q", len(HEADER)) + HEADER.replace(b"[2]", b"[9]") + bytes(8),
        struct.pack("<Q", 100_000) + b"[" * 100_000,
    ],
    ids=[
        "pickle", "zip", "empty", "short", "zeros", "header past the end", "tensor past the end", "bytes left over",
        "unknown dtype", "shape and bytes differ", "nested header",
    ],
)  # fmt: skip
def test_anything_in_place_of_safetensors_is_refused(folder: Path, content: bytes) -> None:
    (folder / "tensors.safetensors").write_bytes(content)
    rewrite(folder)
    with pytest.raises(MessageError):
        read(Update, folder)


@pytest.mark.parametrize("key", ["w", "params/w", "other/w", "+", "/w"])
def test_a_tensor_of_no_known_group_is_refused(folder: Path, key: str) -> None:
    rewrite(folder, {key: torch.ones(1)})
    with pytest.raises(MessageError):
        read(Update, folder)


class Killed(BaseException):
    """Stands for kill -9: nothing that catches Exception may run on."""


@pytest.mark.parametrize(
    ("earlier", "stop_at"), [*((True, call) for call in range(1, 7)), *((False, call) for call in range(1, 5))]
)
def test_killed_half_way_it_leaves_what_read_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool, stop_at: int
) -> None:
    """`write` touches the disk by save_file, replace, write_text, replace: die before each of them.

    An earlier message is unlinked first, its meta.json and then its tensors.
    """
    if earlier:
        write(STATE, tmp_path)
    calls = 0

    def dying(original: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise Killed
            return original(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        for method in ("unlink", "replace", "write_text"):
            patch.setattr(Path, method, dying(getattr(Path, method)))
        patch.setattr("safetensors.torch.save_file", dying(save_file))
        with pytest.raises(Killed):
            write(State(round=4, params={"w": torch.zeros(99)}), tmp_path)
    if earlier and stop_at == 1:
        assert fields_of(read(State, tmp_path)) == fields_of(STATE)
    else:
        assert not complete(tmp_path)
        with pytest.raises(MessageError):
            read(State, tmp_path)
    write(STATE, tmp_path)
    assert fields_of(read(State, tmp_path)) == fields_of(STATE)


@pytest.mark.parametrize("length", [0, 1, 50])
def test_a_full_disk_leaves_what_read_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    write(STATE, tmp_path)

    def full(tensors: Tensors, file: Path) -> None:
        save_file(tensors, file)
        Path(file).write_bytes(Path(file).read_bytes()[:length])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(OSError, match="No space"):
            write(STATE, tmp_path)
    with pytest.raises(MessageError):
        read(State, tmp_path)


def test_files_of_two_messages_do_not_mix(tmp_path: Path) -> None:
    write(STATE, tmp_path / "one")
    write(State(round=4, params={"longer name": torch.zeros(2)}), tmp_path / "two")
    shutil.copy(tmp_path / "two" / "tensors.safetensors", tmp_path / "one")
    with pytest.raises(MessageError, match="not whole"):
        read(State, tmp_path / "one")


def test_which_update_counted_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(State(round=3, params={}, counted={"ash": 3, "birch": 1}), tmp_path)
    assert read(State, tmp_path).counted == {"ash": 3, "birch": 1}


def test_a_state_from_before_it_said_so_is_read(tmp_path: Path) -> None:
    write(State(round=3, params={}), tmp_path)
    rewrite(tmp_path, counted=...)
    assert read(State, tmp_path).counted == {}


@pytest.mark.parametrize("counted", [["ash"], {"ash": 1.5}, {"ash": True}, {"ash": "1"}, 3])
def test_counted_of_another_form_is_refused(tmp_path: Path, counted: Any) -> None:
    write(State(round=3, params={}), tmp_path)
    rewrite(tmp_path, counted=counted)
    with pytest.raises(MessageError, match="counted"):
        read(State, tmp_path)
