"""A safetensors file, whose header is checked before a tensor is made."""

import errno
import math
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fl_kit.bounded import opened, parse_json
from fl_kit.tensors import Tensors

HEADER_LIMIT = 32 << 20
"""Bytes of the header: room for COUNT_LIMIT tensors with names of 200 characters."""
COUNT_LIMIT = 100_000
"""Tensors in one file; the largest models have some thousands, and a strategy a few of each."""
NAME_LIMIT = 1024
"""Characters of a tensor's name."""
DIMENSIONS = 64
"""Of one tensor, as in torch."""
EXTENT = 1 << 48
"""The product of a tensor's dimensions that are not 0: beyond it torch's own arithmetic ends, even for no numbers."""
LENGTH = 8
"""Bytes that tell the header's length, at the start of the file."""

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "BOOL": torch.bool,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor of a file, and where its bytes are, counted from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int

    def outline(self) -> Tensor:
        """A tensor of that dtype and shape that has no values, and no memory."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


def nothing(outlines: Tensors) -> None:
    """Any tensors will do."""


def read_tensors(
    path: str | Path,
    *,
    limit: int,
    size: int | None = None,
    links: bool = False,
    copied: bool = False,
    check: Callable[[Tensors], None] = nothing,
) -> Tensors:
    """The named tensors of a safetensors file.

    limit   the largest file, in bytes
    size    what it must have, where that is known
    links   whether the path itself may be a link
    copied  whether bytes are copied into memory of this process. Otherwise the file is mapped, which is faster, and
            only for files that nobody else writes to: cutting one off under a reader ends its process
    check   hears the tensors' names, shapes and dtypes before any memory is taken for them, and may raise

    Raises OSError for what is no plain file of that size, ValueError for what is not safetensors.
    """
    with opened(path, limit=limit, links=links) as (file, found):
        if size is not None and found != size:
            raise ValueError(f"it has {found} bytes, expected {size}: it is not whole")
        entries, start = header(file, found)
        check({name: entry.outline() for name, entry in entries.items()})
        if copied:
            return loaded(entries, copy_of(file, found - start, path))
    return mapped(path, entries)


def header(file: FileIO, size: int) -> tuple[dict[str, Entry], int]:
    """Name → entry, in the order of their bytes, and where those begin."""
    length = int.from_bytes(file.read(LENGTH) or b"", "little")
    if size < LENGTH or length > min(size - LENGTH, HEADER_LIMIT):
        raise ValueError(f"its header would have {length:,} bytes")
    text = file.read(length) or b""
    if len(text) != length or not text.startswith(b"{"):
        raise ValueError("its header is not whole")
    entries = described(parse_json(text))
    end = 0
    for name, entry in entries.items():
        if entry.start != end:
            raise ValueError(
                f"its tensor {name[:80]!r} begins at byte {entry.start}, expected {end}: a gap, or an overlap"
            )
        end = entry.stop
    if end != size - LENGTH - length:
        raise ValueError(f"its tensors have {end:,} bytes, the file {size - LENGTH - length:,}")
    return entries, LENGTH + length


def described(found: Mapping[str, Any]) -> dict[str, Entry]:
    """Name → entry, in the order of their bytes; what else the header says of the file counts for nothing."""
    named = {name: value for name, value in found.items() if name != "__metadata__"}
    if len(named) > COUNT_LIMIT:
        raise ValueError(f"it has {len(named):,} tensors, more than {COUNT_LIMIT:,}")
    entries = {name: entry_of(name, value) for name, value in named.items()}
    return dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)))


def entry_of(name: str, value: Any) -> Entry:
    where = f"its tensor {name[:80]!r}"
    if len(name) > NAME_LIMIT:
        raise ValueError(f"{where}… has a name of {len(name):,} characters")
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{where} is not described by dtype, shape and data_offsets")
    dtype, shape, place = DTYPES.get(str(value["dtype"])), value["shape"], value["data_offsets"]
    if dtype is None:
        raise ValueError(f"{where} has the dtype {str(value['dtype'])[:40]!r}, which fl-kit does not read")
    if not (naturals(shape) and len(shape) <= DIMENSIONS and math.prod(d for d in shape if d) <= EXTENT):
        raise ValueError(f"{where} has the shape {str(shape)[:80]}")
    if not (naturals(place) and len(place) == 2 and place[1] - place[0] == math.prod(shape) * dtype.itemsize):
        raise ValueError(f"{where} has the bytes {str(place)[:80]}, which are not those of its shape")
    return Entry(dtype=dtype, shape=tuple(shape), start=place[0], stop=place[1])


def naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def copy_of(file: FileIO, size: int, path: str | Path) -> Any:
    """The rest of a file, in memory that is this process's own."""
    if not size:
        return bytearray()
    if hasattr(mmap, "MADV_HUGEPAGE"):  # new memory in small pages, or in shared ones, takes longer than the copying
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
    else:
        memory = mmap.mmap(-1, size)
    place, done = memoryview(memory), 0
    while done < size and (count := file.readinto(place[done:])):
        done += count
    if done < size:
        raise OSError(errno.EAGAIN, "it was cut off while it was read", str(path))
    return memory


def loaded(entries: Mapping[str, Entry], memory: Any) -> Tensors:
    return {name: tensor(entry, memory) for name, entry in entries.items()}


def tensor(entry: Entry, memory: Any) -> Tensor:
    """The values of one tensor; raises ValueError for bytes that are no values of its dtype."""
    if entry.start == entry.stop:
        return torch.empty(entry.shape, dtype=entry.dtype)
    count = (entry.stop - entry.start) // entry.dtype.itemsize
    if entry.start % entry.dtype.itemsize:  # torch wants numbers where processors do
        memory = bytearray(memory[entry.start : entry.stop])
        return checked(torch.frombuffer(memory, dtype=entry.dtype, count=count).reshape(entry.shape))
    return checked(torch.frombuffer(memory, dtype=entry.dtype, count=count, offset=entry.start).reshape(entry.shape))


def checked(value: Tensor) -> Tensor:
    """The tensor, if its bytes are values: a bool is 0 or 1, and anything else is neither to torch."""
    if value.dtype == torch.bool and value.numel() and int(value.view(torch.uint8).max()) > 1:
        raise ValueError("a tensor of bools has bytes other than 0 and 1")
    return value


def mapped(path: str | Path, entries: Mapping[str, Entry]) -> Tensors:
    """The tensors in the file's own pages, if they are still those of the header that was checked."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    if {n: (v.dtype, tuple(v.shape)) for n, v in found.items()} != {n: (e.dtype, e.shape) for n, e in entries.items()}:
        raise ValueError("it was changed while it was read")
    return {name: checked(found[name]) for name in entries}
