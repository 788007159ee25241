"""Tensors that several processes see: in mapped files of a private folder, in memory where the system has one there.

A file is mapped once and used again from round to round, since touching new memory costs more than copying into it.
"""

import math
import mmap
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fl_kit.errors import MessageError
from fl_kit.tensors import Tensors

IN_MEMORY = Path("/dev/shm")
ALIGNED = 64
"""Bytes; where a tensor may begin."""
GRAIN = 1 << 16
"""Bytes by which files grow."""

Packed = dict[str, Any]
"""Where tensors lie, as plain data: {"area": name, "size": of its file, "layout": rows}.

A row of the layout is [name, dtype, shape, start in bytes, strides]. Strides are null where a tensor lies row by
row; else it keeps its own, since the order of a sum hangs on them.
"""


class Shelf:
    """Named areas of a folder, each a mapped file; one process puts tensors into an area, the others see them there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._areas: dict[str, tuple[int, mmap.mmap]] = {}

    def put(self, area: str, tensors: Tensors) -> Packed:
        """Copy tensors into an area, over what was there.

        Raises MessageError for a tensor that is not dense numbers, OSError where there is no room.
        """
        layout, need = laid_out(tensors)
        size = self._areas[area][0] if area in self._areas else 0
        if size < need or not size:
            size = self._grow(area, size, need)
        packed = {"area": area, "size": size, "layout": layout}
        places = self.views(packed)
        with torch.no_grad():
            if places:
                torch._foreach_copy_(list(places.values()), [tensors[name].detach() for name in places])
        return packed

    def views(self, packed: Packed, freed: Callable[[], None] | None = None) -> Tensors:
        """The tensors that lie in an area, where they lie.

        freed  called when the last of them, and of whatever shares their memory, is gone

        Raises MessageError for what does not lie there.
        """
        memory = self._mapped(str(packed["area"]), packed["size"])
        holder = memoryview(memory)  # torch keeps what it was given alive, so this one lives as long as the tensors
        if freed is not None:
            weakref.finalize(holder, freed).atexit = False
        return {str(name): tensor(holder, *where) for name, *where in packed["layout"]}

    def _grow(self, area: str, size: int, need: int) -> int:
        """A new file in place of the area's, since one that others have mapped cannot grow on every system."""
        if size:
            del self._areas[area]
            remove(self._file(area, size))
        size = -(-max(need, 1) // GRAIN) * GRAIN
        with self._file(area, size).open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # else the want of room is felt at the first touch, which ends a process
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        self._mapped(area, size)
        return size

    def _mapped(self, area: str, size: Any) -> mmap.mmap:
        known = self._areas.get(area)
        if known is not None and known[0] == size:
            return known[1]
        try:
            with self._file(area, int(size)).open("r+b") as file:
                memory = mmap.mmap(file.fileno(), int(size))
        except (OSError, ValueError, TypeError) as error:
            raise MessageError(f"there is no shared memory {area!r:.80} of {size!r:.20} bytes: {error}") from error
        self._areas[area] = int(size), memory
        return memory

    def _file(self, area: str, size: int) -> Path:
        return self.folder / f"{area}.{size}"


def laid_out(tensors: Tensors) -> tuple[list[list[Any]], int]:
    """Where each tensor would lie, and how many bytes they take."""
    rows: list[list[Any]] = []
    end = 0
    for name, value in tensors.items():
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise MessageError(f"{name!r:.80} is no dense tensor of the CPU, and cannot be shared between processes")
        rows.append([name, str(value.dtype).removeprefix("torch."), list(value.shape), end, strides(value)])
        end += -(-value.numel() * value.element_size() // ALIGNED) * ALIGNED
    return rows, end


def strides(value: Tensor) -> list[int] | None:
    """Those of a tensor that lies otherwise than row by row."""
    return None if value.is_contiguous() else list(torch.empty_like(value, device="meta").stride())


def tensor(memory: memoryview, dtype: Any, shape: Any, start: Any, strides: Any) -> Tensor:
    """The tensor that lies there; raises MessageError for what does not fit."""
    kind = getattr(torch, str(dtype), None)
    if not isinstance(kind, torch.dtype) or not naturals([*shape, start]):
        raise MessageError(f"no tensor is described by {dtype!r:.40}, {shape!r:.80}, {start!r:.40}")
    count = math.prod(shape)
    if start + count * kind.itemsize > len(memory):
        raise MessageError(f"a tensor of {count:,} numbers does not lie within {len(memory):,} bytes")
    if not count:
        return torch.empty(shape, dtype=kind)
    found = torch.frombuffer(memory, dtype=kind, count=count, offset=start)
    if strides is None:
        return found.reshape(shape)
    if len(strides) != len(shape) or not naturals(strides):
        raise MessageError(f"no tensor of shape {shape!r:.80} has the strides {strides!r:.80}")
    if sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) >= count:
        raise MessageError(f"a tensor of {count:,} numbers has none at the strides {strides!r:.80}")
    return found.as_strided(shape, strides)


def naturals(values: list[Any]) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def bytes_of(tensors: Mapping[str, Tensor]) -> int:
    """How much memory they take."""
    return sum(value.numel() * value.element_size() for value in tensors.values())


def private_folder(need: int) -> Path:
    """A new folder that only this user sees: in memory, if there is room for so many bytes, else on the disk.

    Raises OSError if there can be none.
    """
    in_memory = IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > need
    return Path(tempfile.mkdtemp(prefix="fl-kit-workers-", dir=IN_MEMORY if in_memory else None))


def remove(file: Path) -> None:
    """Take a file away, unless somebody holds it; then it goes with its folder."""
    try:
        file.unlink(missing_ok=True)
    except OSError:  # Windows keeps what is mapped
        return
