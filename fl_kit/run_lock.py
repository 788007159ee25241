"""One kernel at a time goes on with a run: a lock in its folder that names who holds it.

The system's own lock on the file ends with its process, so on one machine nothing is left to guess. A network mount
may keep that lock from other machines, or know none: so the holder also touches the file every few seconds, and one
that has been silent for long is taken for gone.
"""

import errno
import hashlib
import json
import os
import platform
import secrets
import stat
import sys
import threading
import time
import uuid
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fl_kit.bounded import parse_json, read_bytes
from fl_kit.errors import RunLocked, StoreError

FILE = "lock.json"
LARGEST = 10_000
"""Bytes of it that are believed."""
BEAT = 20.0
"""Seconds from one sign of life to the next."""
PATIENCE = 90.0
"""Seconds without one after which a holder on another machine is taken for gone."""
LOOK = 0.5
"""Seconds between two looks of one that waits."""
FAR = 1 << 30
"""Where Windows locks a byte: what is locked there cannot be read, and the holder's name is at the beginning."""
HELD = frozenset({errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK})


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock.

    host     the machine's name            machine  tells it from another of that name; a digest
    pid      the process                   boot     which start of the machine, where the system says so
    started  when the process began        since    when it took the lock; both in local time
    token    tells two holders of one process apart
    """

    host: str
    machine: str
    boot: str
    pid: int
    started: str
    since: str
    token: str

    def __str__(self) -> str:
        own = " (this one)" if (self.pid, self.host) == (os.getpid(), platform.node()) else ""
        return f"process {self.pid}{own} on {self.host}, started {self.started}, since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, on this machine."""
        return (self.host, self.machine) == (platform.node(), machine())

    @classmethod
    def me(cls) -> "Holder":
        return cls(
            host=platform.node(),
            machine=machine(),
            boot=boot(),
            pid=os.getpid(),
            started=clock(STARTED),
            since=clock(time.time()),
            token=secrets.token_hex(8),
        )

    @classmethod
    def read(cls, path: Path) -> "Holder | None":
        """Whom the file names, or None: for an empty file, or one that a power cut has torn."""
        try:
            found = parse_json(read_bytes(path, limit=LARGEST))
            return cls(**{field.name: field.type(found[field.name]) for field in fields(cls)})  # type: ignore[operator]
        except (OSError, ValueError, KeyError, TypeError):
            return None


class RunLock:
    """A lock that this process holds, from `take` to `release`.

    gone  whom it was taken over from, in words, or an empty text
    """

    def __init__(self, path: Path, handle: int, holder: Holder, gone: str) -> None:
        self.gone = gone
        self._path = path
        self._handle = handle
        self._holder = holder
        self._released = threading.Event()
        threading.Thread(target=self._beat, name="fl-kit lock", daemon=True).start()

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    @classmethod
    def take(cls, folder: Path, *, wait: float = 0.0) -> "RunLock":
        """Hold the run in a folder.

        wait  seconds to wait for another holder to let go

        Raises RunLocked that names the holder, StoreError if the file cannot be made.
        """
        path, limit = folder / FILE, time.monotonic() + wait
        while True:
            try:
                return cls._try(path)
            except RunLocked:
                if time.monotonic() >= limit:
                    raise
            time.sleep(LOOK)

    @classmethod
    def _try(cls, path: Path) -> "RunLock":
        try:
            # a link in a folder from elsewhere would lead the holder's name into any file
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise StoreError(f"{path} cannot be written, so nobody can go on with the run: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):  # a pipe in a folder from elsewhere would be waited for
            os.close(handle)
            raise StoreError(f"{path} is no plain file, so nobody can go on with the run: remove it")
        own = locked(handle)
        if own is not False and not same_file(handle, path):  # its holder has just let go, and taken the file along
            os.close(handle)
            return cls._try(path)
        try:
            before = Holder.read(path)
            if own is False:
                raise refused(path.parent.name, before)
            gone = "" if before is None else why_gone(before, path, sure=own is True)
            if before is not None and not gone:
                raise refused(path.parent.name, before, silent=True)
            holder = Holder.me()
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, (json.dumps(asdict(holder), indent=1) + "\n").encode())
        except BaseException:
            os.close(handle)
            raise
        return cls(path, handle, holder, f"{before}: {gone}" if gone else "")

    def check(self) -> None:
        """Raise RunLocked if another kernel has taken over, for instance while this machine slept."""
        if (now := Holder.read(self._path)) is None or now.token != self._holder.token:
            raise refused(self._path.parent.name, now)

    def release(self) -> None:
        """Let go; nothing happens the second time."""
        if self._released.is_set():
            return
        self._released.set()
        mine = Holder.read(self._path)
        if mine is not None and mine.token == self._holder.token and os.name != "nt":
            self._path.unlink(missing_ok=True)  # while it is held, so that nobody holds what is no longer there
        if os.name == "nt":
            os.ftruncate(self._handle, 0)
        os.close(self._handle)

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            try:
                os.utime(self._path)
            except OSError:  # the next sign of life may come through; `check` finds what matters
                continue


def locked(handle: int) -> bool | None:
    """Whether this process now holds the system's lock on an open file; None where there is no such lock."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in HELD else None
    return True


def same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def why_gone(holder: Holder, path: Path, *, sure: bool) -> str:
    """Why a holder is no more, in words, or an empty text if it may be alive.

    sure  whether the system's lock was free, which tells of processes on this machine
    """
    if sure and holder.is_here:
        return "its machine was started anew" if holder.boot != boot() else "its process is gone"
    silent = server_time(path.parent) - path.stat().st_mtime
    return f"it has given no sign of life for {silent:.0f} s" if silent > PATIENCE else ""


def refused(run_id: str, holder: Holder | None, *, silent: bool = False) -> RunLocked:
    """The error for whoever comes second; `silent` where only signs of life tell whether the first is there."""
    cure = "go on with it there, or stop it there and then resume it here"
    if silent:
        cure += f"; if that process is gone, try again {PATIENCE:g} s after its last sign of life"
    return RunLocked(f"run {run_id} is held by {holder or 'another kernel'}: {cure}")


def server_time(folder: Path) -> float:
    """Now, by the clock of whoever keeps the folder: another machine's clock may differ from ours."""
    probe = folder / f".clock-{secrets.token_hex(4)}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def machine() -> str:
    """Tells this machine from others of its name; a digest, since the number itself is nobody's business."""
    try:
        own = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        own = str(uuid.getnode())
    return hashlib.sha256(f"fl-kit {own}".encode()).hexdigest()[:16]


def boot() -> str:
    """Changes when the machine starts; empty where the system does not say it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def began() -> float:
    """When this process began, in seconds since the epoch; where Linux's /proc is not, when fl-kit was loaded."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
        booted = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        return booted + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration, AttributeError):
        return time.time()


def clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


STARTED = began()
