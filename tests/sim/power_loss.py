"""What a disk may hold after a power cut, worked out from what a run did to it.

`recording` watches a folder while something writes to it: each rename, removal, new folder and fsync, with the bytes
of every file at those moments. `crashes` then gives the states in which a power cut could have left the folder:

    bytes  a file holds what its last fsync saw, or any later version, or a torn one: cut short, or zeros at its end
    names  a folder holds the names of its last fsync, and of what was done since any part

which is harsher than ext4, XFS, APFS and NTFS are. A kill -9 loses nothing that was written: its states are those in
which everything was done (`Crash.kill`). What had been promised is kept beside them: `mark` says that a round is safe.
"""

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

Names = dict[str, int]
"""What a folder holds: name → the number of a file or folder."""
ROOT = 1
"""The number of the folder that is watched."""
SAMPLES = 4
"""Mixtures drawn for each moment, beside the plain cases."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """One thing that was done to the disk.

    kind   "bytes" (a file's content changed), "names" (a folder's), "sync" (somebody waited for it) or "mark"
    node   the number of the file or folder
    data   its content, if it is a file
    names  what changed in a folder, all at once: name → the number of what is there now, None for nothing
    mark   what was promised
    """

    kind: str
    node: int = -1
    data: bytes = b""
    names: dict[str, int | None] = field(default_factory=dict)
    mark: Any = None


@dataclass(frozen=True, kw_only=True)
class Crash:
    """A state of the disk after a power cut.

    files    path → bytes
    folders  every folder, the empty ones too
    marks    what had been promised by then
    kill     whether all was there that had been written, as if only the process had been killed
    """

    files: Mapping[str, bytes]
    folders: frozenset[str]
    marks: tuple[Any, ...]
    kill: bool

    def build(self, folder: Path) -> Path:
        """The state as a real folder."""
        for name in ("", *sorted(self.folders)):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        return folder


class Recorder:
    """Finds what was done to a folder by looking at it before and after each call that orders a disk's work."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.done: list[Done] = []
        self.lock = threading.RLock()
        self._numbers: dict[int, int] = {}  # the system's own numbers are given again once a file is gone
        self._count = 0
        self._files: dict[int, bytes] = {}
        self._names: dict[int, Names] = {}
        self.folders: set[int] = set()
        self.look()

    def mark(self, what: Any) -> None:
        """Note that something was promised here."""
        with self.lock:
            self.look()
            self.done.append(Done(kind="mark", mark=what))

    def look(self, *, at_once: bool = False) -> None:
        """Note every change since the last look; `at_once` where one call made all of them."""
        found: dict[int, Names] = {}
        for place, folders, files in os.walk(self.root):
            node = self._number(Path(place).stat().st_ino)
            self.folders.add(node)
            here = found.setdefault(node, {})
            for name in (*folders, *files):
                here[name] = self._number(Path(place, name).lstat().st_ino)
            for name in files:
                data = Path(place, name).read_bytes()
                if self._files.get(here[name], b"") != data:
                    self._files[here[name]] = data
                    self.done.append(Done(kind="bytes", node=here[name], data=data))
        for node, names in found.items():
            before = self._names.get(node, {})
            changed = {n: names.get(n) for n in before.keys() | names.keys() if before.get(n) != names.get(n)}
            each = [changed] if at_once and changed else [{name: changed[name]} for name in sorted(changed)]
            self.done += [Done(kind="names", node=node, names=one) for one in each]
        self._names = found
        living = found.keys() | {number for names in found.values() for number in names.values()}
        self._numbers = {own: number for own, number in self._numbers.items() if number in living}

    def _number(self, own: int) -> int:
        if own not in self._numbers:
            self._count += 1
            self._numbers[own] = self._count
        return self._numbers[own]

    def watched(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.lock:
                self.look()
                result = operation(*args, **kwargs)
                self.look(at_once=True)
                return result

        return call

    def synced(self, handle: int) -> None:
        """Somebody waits for the disk; a test need not."""
        with self.lock:
            self.look()
            self.done.append(Done(kind="sync", node=self._number(os.fstat(handle).st_ino)))


@contextmanager
def recording(root: Path) -> Iterator[Recorder]:
    """Watch what this process does to a folder."""
    recorder = Recorder(root)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "unlink", "remove", "mkdir", "rmdir"):
            patch.setattr(os, name, recorder.watched(getattr(os, name)))
        patch.setattr(os, "fsync", recorder.synced)
        yield recorder
        with recorder.lock:
            recorder.look()


class Disk:
    """What is on the disk for certain, and what may or may not be."""

    def __init__(self, root: int, folders: frozenset[int]) -> None:
        self.root = root
        self.folders = folders
        self.data: dict[int, bytes] = {}
        self.names: dict[int, Names] = {}
        self.later_data: dict[int, list[bytes]] = {}
        self.later_names: list[Done] = []
        self.marks: list[Any] = []

    def do(self, done: Done) -> None:
        if done.kind == "bytes":
            self.later_data.setdefault(done.node, []).append(done.data)
        elif done.kind == "names":
            self.later_names.append(done)
        elif done.kind == "mark":
            self.marks.append(done.mark)
        else:
            if written := self.later_data.pop(done.node, None):
                self.data[done.node] = written[-1]
            for change in [change for change in self.later_names if change.node == done.node]:
                rename(self.names, change)
                self.later_names.remove(change)

    def crashes(self, draws: random.Random) -> Iterator[Crash]:
        """The states that a power cut may leave now."""
        count = len(self.later_names)
        everything, nothing = [True] * count, [False] * count
        yield self.crash(everything, newest, kill=True)
        yield self.crash(nothing, certain)
        for torn in (certain, cut, zeros, cut_to_zeros):
            yield self.crash(everything, torn)
        for i in range(count):
            yield self.crash([j != i for j in range(count)], newest)
            yield self.crash([j == i for j in range(count)], newest)
        for _ in range(SAMPLES if count > 1 or self.later_data else 0):
            kept = [draws.random() < 0.5 for _ in range(count)]
            yield self.crash(kept, lambda old, later: draws.choice(VERSIONS)(old, later))  # noqa: PLW0108 - each its own

    def crash(self, kept: list[bool], data: Callable[[bytes, list[bytes]], bytes], *, kill: bool = False) -> Crash:
        """The state with some of the later names, and the bytes that `data` chooses from (certain, later)."""
        names = {node: dict(found) for node, found in self.names.items()}
        for change, keep in zip(self.later_names, kept, strict=True):
            if keep:
                rename(names, change)
        files: dict[str, bytes] = {}
        folders: set[str] = set()

        def walk(node: int, place: str) -> None:
            for name, child in sorted(names.get(node, {}).items()):
                if child in self.folders:
                    folders.add(place + name)
                    walk(child, f"{place}{name}/")
                else:
                    old, later = self.data.get(child, b""), self.later_data.get(child, [])
                    files[place + name] = data(old, later) if later else old

        walk(self.root, "")
        return Crash(files=files, folders=frozenset(folders), marks=tuple(self.marks), kill=kill)


def rename(names: dict[int, Names], change: Done) -> None:
    here = names.setdefault(change.node, {})
    for name, node in change.names.items():
        if node is None:
            here.pop(name, None)
        else:
            here[name] = node


def newest(old: bytes, later: list[bytes]) -> bytes:
    return later[-1]


def certain(old: bytes, later: list[bytes]) -> bytes:
    return old


def cut(old: bytes, later: list[bytes]) -> bytes:
    """Half of what was added has come through."""
    return later[-1][: (len(old) + len(later[-1])) // 2]


def zeros(old: bytes, later: list[bytes]) -> bytes:
    """The file has its new length, and of its new bytes only the first half and the end."""
    new = later[-1]
    first, last = (len(old) + len(new)) // 2, len(new) - len(new) // 16
    return new[:first] + bytes(max(0, last - first)) + new[max(first, last) :]


def cut_to_zeros(old: bytes, later: list[bytes]) -> bytes:
    """The file has its new length, and none of its new bytes."""
    return old + bytes(max(0, len(later[-1]) - len(old)))


VERSIONS = (newest, certain, cut, zeros, cut_to_zeros)


def crashes(recorder: Recorder, seed: int = 0) -> list[Crash]:
    """The different states that a power cut may leave at any moment; each with all that was promised by the last
    moment at which it may be left."""
    draws = random.Random(seed)
    disk = Disk(ROOT, frozenset(recorder.folders))
    found: dict[Any, Crash] = {}
    for done in [Done(kind="mark", mark="begun"), *recorder.done]:
        disk.do(done)
        for crash in disk.crashes(draws):
            key = (tuple(sorted(crash.files.items())), crash.folders)
            known = found.get(key)
            found[key] = crash if known is None or not known.kill else replace(crash, kill=True)
    return list(found.values())
