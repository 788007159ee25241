"""Reading what a stranger may have written: within limits, and never more than a plain file.

A file is opened once, looked at through its handle and read from it, so what was checked is what is read. Nothing here
blocks on a pipe, follows a link that it was not told to follow, or takes more memory than the limit and what JSON
makes of it. Whatever is refused is an OSError (the file) or a ValueError (what it holds) with one line that says why;
each reader makes its own error of it.
"""

import errno
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

DEPTH = 32
"""Levels of nesting: three times what any file of fl-kit has, and far below what ends Python's recursion."""
DIGITS = 100
"""Digits of a whole number: a float holds three times as many, and reading one takes no time yet."""
TEXT_LIMIT = 64 << 20
"""Bytes of a text: a plan.json of a quarter of a million steps, or a notebook with a few hundred pictures."""
NAME_LENGTH = 255
"""Characters of a name in a folder, as most file systems have it."""

PART = 1 << 20
"""Bytes that are hashed at a time."""

FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""What Windows takes for a device, in any folder and with any ending."""
UNFIT = re.compile(r'[\x00-\x1f<>:"/\\|?*]|[. ]$')


@contextmanager
def opened(path: str | Path, *, limit: int, links: bool = False) -> Iterator[tuple[FileIO, int]]:
    """A plain file and its size in bytes, open for reading.

    limit  the largest size in bytes
    links  whether the path itself may be a link; for a path that the user chose, not for one in somebody's folder

    Raises OSError for anything else: a folder, a pipe, a device, a link, a file that is larger.
    """
    path = Path(path)
    before = path.stat() if links else path.lstat()  # a device may act on being opened
    check_plain(before, path)
    handle = os.open(path, FLAGS)
    with FileIO(handle, "rb") as file:
        found = os.fstat(handle)
        check_plain(found, path)
        if (found.st_dev, found.st_ino) != (before.st_dev, before.st_ino):
            raise OSError(errno.EAGAIN, "it was replaced while it was opened", str(path))
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes, larger than the {limit:,} expected", str(path))
        yield file, found.st_size


def check_plain(found: os.stat_result, path: Path) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
    raise OSError(errno.EINVAL, f"it is {kind}, expected a plain file", str(path))


def read_bytes(path: str | Path, *, limit: int, links: bool = False) -> bytes:
    """All of a plain file; raises OSError as `opened` does, and for a file that is changed while it is read."""
    with opened(path, limit=limit, links=links) as (file, size):
        parts, left = [], size + 1
        while left and (part := file.read(left)):
            parts.append(part)
            left -= len(part)
    data = b"".join(parts)
    if len(data) != size:
        raise OSError(errno.EAGAIN, "it was changed while it was read", str(path))
    return data


def read_text(path: str | Path, *, limit: int = TEXT_LIMIT, links: bool = False) -> str:
    """All of a plain UTF-8 file; raises OSError as `read_bytes` does, ValueError for what is not UTF-8."""
    return read_bytes(path, limit=limit, links=links).decode("utf-8")


def sha256_of(path: str | Path, *, limit: int) -> str:
    """The sha256 (hex) of a plain file, whatever its size; raises OSError as `opened` does."""
    sha = hashlib.sha256()
    with opened(path, limit=limit) as (file, _):
        while part := file.read(PART):
            sha.update(part)
    return sha.hexdigest()


def inside(folder: str | Path, name: str) -> Path:
    """Where a file lies below a folder, from its name there, such as `task/heart.py`.

    Raises ValueError for a name that leads out of it, that not every system has, or that passes a link.
    """
    path = Path(folder)
    for part in name.split("/"):
        if fault := name_fault(part):
            raise ValueError(f"{name!r} is no name of a file: {fault}")
        path /= part
        if path.is_symlink():
            raise ValueError(f"{path} is a link; a folder must hold its own files")
    return path


def name_fault(part: str) -> str:
    """Why a name will not do in a folder of some system, or an empty string."""
    if part in ("", ".", ".."):
        return f"{part!r} names no file"
    if len(part) > NAME_LENGTH:
        return f"a part is longer than {NAME_LENGTH} characters"
    if UNFIT.search(part):
        return f"{part!r} has characters that some systems do not allow"
    return f"{part!r} is a device on Windows" if DEVICE.fullmatch(part) else ""


def parse_json(text: str | bytes, *, infinite: bool = False) -> Any:
    """What JSON text says.

    infinite  whether NaN, Infinity and -Infinity, which are not JSON, are read

    Raises ValueError for what is not JSON, says one thing twice, is nested deeper than DEPTH, or has a number or a
    text that Python's own reader takes and others would not: 1e999, a whole number of more than DIGITS digits, half
    of a surrogate pair.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        found = (LENIENT if infinite else STRICT).decode(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEPTH} levels") from None
    if text.count("[") + text.count("{") > DEPTH and deeper(found, DEPTH):
        raise ValueError(f"it is nested deeper than {DEPTH} levels")
    if "\\u" in text:
        check_surrogates(found)
    return found


def check_surrogates(found: Any) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text in it has half of a surrogate pair") from None


def deeper(value: Any, depth: int) -> bool:
    """Whether lists and dicts are nested deeper than that."""
    level = [value] if isinstance(value, list | dict) else []
    for _ in range(depth):
        if not level:
            return False
        nested = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in nested if isinstance(child, list | dict)]
    return bool(level)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice[:40]!r} stands in it twice")
    return found


def whole(digits: str) -> int:
    if len(digits) > DIGITS + 1:
        raise ValueError(f"a whole number of more than {DIGITS} digits")
    return int(digits)


def finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large for a number")
    return value


def refused(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


STRICT = json.JSONDecoder(object_pairs_hook=once, parse_int=whole, parse_float=finite, parse_constant=refused)
LENIENT = json.JSONDecoder(object_pairs_hook=once, parse_int=whole, parse_float=finite)
