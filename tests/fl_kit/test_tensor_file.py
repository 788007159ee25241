"""The safetensors reader: to the bit what the library reads; no memory is taken before the header is checked."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fl_kit import tensor_file
from fl_kit.tensor_file import DTYPES, read_tensors
from fl_kit.tensors import Tensors


def stored(folder: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    """A file with that header, written by nobody's library."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file = folder / "t.safetensors"
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return file


def entry(shape: list[Any], start: Any, stop: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_every_dtype_is_read_to_the_bit(tmp_path: Path, dtype: torch.dtype, copied: bool) -> None:
    raw = torch.arange(48, dtype=torch.uint8) % (2 if dtype == torch.bool else 100)
    sent: Tensors = {"b": raw.view(dtype)[:2].clone(), "a": raw.view(dtype)[0].clone(), "none": raw[:0].view(dtype)}
    save_file(sent, tmp_path / "t")
    found = read_tensors(tmp_path / "t", limit=1000, copied=copied)
    assert found.keys() == sent.keys()
    for name, value in sent.items():
        assert (found[name].dtype, found[name].shape) == (dtype, value.shape)
        assert found[name].reshape(-1).view(torch.uint8).tolist() == value.reshape(-1).view(torch.uint8).tolist()


def test_what_is_copied_is_independent_of_the_file(tmp_path: Path) -> None:
    """A file that is cut off under a reader that had mapped it would end the process."""
    save_file({"w": torch.arange(4096.0)}, tmp_path / "t")
    found = read_tensors(tmp_path / "t", limit=1 << 20, copied=True)["w"]
    (tmp_path / "t").write_bytes(b"")
    assert torch.equal(found, torch.arange(4096.0))
    found += 1


def test_bytes_that_do_not_stand_where_numbers_may_are_read(tmp_path: Path) -> None:
    header = {"a": entry([3], 0, 3, "U8"), "w": entry([2], 3, 11)}
    file = stored(tmp_path, header, b"abc" + struct.pack("<2f", 1.5, -2.5))
    assert read_tensors(file, limit=1000, copied=True)["w"].tolist() == [1.5, -2.5]


GOOD = entry([2], 0, 8)


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"w": entry([2], 0, 4)}, bytes(8), "not those of its shape"),
        ({"w": entry([2], 4, 12)}, bytes(12), "begins at byte 4, expected 0"),
        ({"w": entry([2], 0, 8), "v": entry([2], 4, 12)}, bytes(12), "begins at byte 4, expected 8"),
        ({"w": entry([2], 0, 8), "v": entry([2], 0, 8)}, bytes(8), "begins at byte 0, expected 8"),
        ({"w": GOOD}, bytes(12), "its tensors have 8 bytes, the file 12"),
        ({"w": GOOD}, bytes(4), "its tensors have 8 bytes, the file 4"),
        ({"w": entry([2], -8, 0)}, bytes(8), "has the bytes"),
        ({"w": entry([2], 8, 0)}, bytes(8), "not those of its shape"),
        ({"w": entry([2], 0, 8.0)}, bytes(8), "has the bytes"),
        ({"w": entry([2], False, 8)}, bytes(8), "has the bytes"),
        ({"w": {**GOOD, "data_offsets": [0, 8, 8]}}, bytes(8), "has the bytes"),
        ({"w": {**GOOD, "data_offsets": {"0": 8}}}, bytes(8), "has the bytes"),
        ({"w": entry([-2], 0, 8)}, bytes(8), "has the shape"),
        ({"w": entry([2.0], 0, 8)}, bytes(8), "has the shape"),
        ({"w": entry([True], 0, 4)}, bytes(4), "has the shape"),
        ({"w": entry([0, 2**49], 0, 0)}, b"", "has the shape"),
        ({"w": entry([2**40, 0, 2**40], 0, 0)}, b"", "has the shape"),
        ({"w": entry([1] * 65, 0, 4)}, bytes(4), "has the shape"),
        ({"w": entry([2**63, 2**63], 0, 8)}, bytes(8), "has the shape"),
        ({"w": entry([2], 0, 8, "F99")}, bytes(8), "dtype 'F99'"),
        ({"w": entry([2], 0, 8, ["F32"])}, bytes(8), "the dtype"),
        ({"w": {"dtype": "F32", "shape": [2]}}, bytes(8), "not described by"),
        ({"w": {**GOOD, "more": 1}}, bytes(8), "not described by"),
        ({"w": 3}, b"", "not described by"),
        ({"w" * 1025: GOOD}, bytes(8), "a name of 1,025 characters"),
        (b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w":{}}', bytes(8), "'w' stands in it twice"),
        (b'{"w":{"dtype":"F32","shape":[2],"shape":[1],"data_offsets":[0,8]}}', bytes(8), "'shape' stands in it twice"),
        (b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8), "half of a surrogate"),
        (b'{"w":' * 5000, b"", "nested deeper"),
        (b"[1]", b"", "header is not whole"),
        (b"", b"", "header is not whole"),
        (b"\xff\xfe", b"", "header is not whole"),
        ({"b": entry([2], 0, 2, "BOOL")}, b"\x01\x02", "bytes other than 0 and 1"),
    ],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
@pytest.mark.parametrize("copied", [True, False])
def test_a_header_that_lies_is_refused(tmp_path: Path, header: Any, data: bytes, words: str, copied: bool) -> None:
    with pytest.raises(ValueError, match=words):
        read_tensors(stored(tmp_path, header, data), limit=1 << 20, copied=copied)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 1000, 63])
def test_a_header_beyond_the_file_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(ValueError, match="header"):
        read_tensors(stored(tmp_path, {"w": GOOD}, b"", length=length), limit=1 << 20)


def test_a_header_above_its_limit_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "HEADER_LIMIT", 10)
    monkeypatch.setattr(tensor_file, "parse_json", lambda text: pytest.fail("it was parsed"))
    with pytest.raises(ValueError, match="header would have"):
        read_tensors(stored(tmp_path, {"w": GOOD}, bytes(8)), limit=1 << 20)


def test_too_many_tensors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "COUNT_LIMIT", 2)
    many = {name: entry([0], 0, 0) for name in "abc"}
    with pytest.raises(ValueError, match="3 tensors, more than 2"):
        read_tensors(stored(tmp_path, many), limit=1 << 20)


@pytest.mark.parametrize("copied", [True, False])
def test_names_shapes_and_dtypes_are_heard_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    save_file({"w": torch.zeros(3, 2)}, tmp_path / "t")
    monkeypatch.setattr(tensor_file, "copy_of", lambda *_: pytest.fail("memory was taken"))
    monkeypatch.setattr(tensor_file, "mapped", lambda *_: pytest.fail("memory was taken"))

    def check(outlines: dict[str, Tensor]) -> None:
        assert {name: (o.shape, o.dtype, o.is_meta) for name, o in outlines.items()} == {
            "w": (torch.Size([3, 2]), torch.float32, True)
        }
        raise ValueError("not of this model")

    with pytest.raises(ValueError, match="not of this model"):
        read_tensors(tmp_path / "t", limit=1000, copied=copied, check=check)


def test_a_file_that_is_cut_off_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(4096)}, tmp_path / "t")
    with pytest.raises(OSError, match="cut off while it was read"):
        read_tensors(
            tmp_path / "t", limit=1 << 20, copied=True, check=lambda _: (tmp_path / "t").write_bytes(b"{}") and None
        )


def test_a_file_that_is_exchanged_for_another_while_it_is_mapped_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "t")
    with pytest.raises(ValueError, match="changed while it was read"):
        read_tensors(tmp_path / "t", limit=1 << 20, check=lambda _: save_file({"w": torch.zeros(3)}, tmp_path / "t"))
