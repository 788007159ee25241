"""An append-only record of who had which bundle run where: one line of JSON each, chained by sha256.

`audit.jsonl` lies in the folder of the runs, or where the environment variable FL_KIT_AUDIT says. Each line holds its
number, the sha256 of the line before, and its own: a line that is changed, removed or moved breaks the chain. The run's
own folder remembers the line that was written last for it (`audit.json`), so that an end that is cut off shows too.

What it cannot show: whoever may write the log and every run folder can write both anew. Keep a copy elsewhere, or the
sha256 of the last line, and give that to `verify_audit`.
"""

import getpass
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from fl_kit.bounded import parse_json, read_bytes
from fl_kit.errors import AuditError
from fl_kit.files import make_folder, sync, write_text
from fl_kit.table import Shown, Table

FORMAT = 1
FILE = "audit.jsonl"
ANCHOR = "audit.json"
"""In a run folder: the last line that was written for the run."""

PATH, WHO = "FL_KIT_AUDIT", "FL_KIT_WHO"
"""Environment variables: another file, and the name under which this machine's user is recorded."""

APPROVED, SUBMITTED, CONTINUED, RESUMED, CHANGED = "approved", "submitted", "continued", "resumed", "changed"
START = "0" * 64
LONGEST_LINE = 1 << 20
SHORT = 12
FIELDS = frozenset({"audit", "line", "time", "who", "event", "run", "digest", "silos", "previous", "sha256"})


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line.

    line    its number, from 1
    time    when, as this machine's clock had it: `2026-11-24T14:05:00Z`
    who     `user@host`, or what FL_KIT_WHO says
    event   approved, submitted, continued (the next chunk of a run), resumed or changed
    run     the run's id; empty for an approval
    digest  of the bundle
    silos   to which it went; none for an approval
    sha256  of all this, and of the line before
    """

    line: int
    time: str
    who: str
    event: str
    run: str
    digest: str
    silos: tuple[str, ...]
    previous: str
    sha256: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Audit(Shown):
    """A log whose chain is whole: its entries, in order.

    >>> run = job.run(federation, on=InProcess(folder="runs")).wait()
    >>> print(verify_audit("runs").table().title)
    Audit log of 1 lines, chain whole
    """

    path: Path
    entries: tuple[Entry, ...]

    @property
    def head(self) -> str:
        """The sha256 of the last line, which stands for all of them."""
        return self.entries[-1].sha256 if self.entries else START

    def table(self) -> Table:
        """One row per line."""
        return Table(
            columns=["line", "time", "who", "event", "run", "bundle", "silos"],
            rows=[
                (e.line, e.time, e.who, e.event, e.run or None, f"{e.digest[:SHORT]}…", ", ".join(e.silos) or None)
                for e in self.entries
            ],
            title=f"Audit log of {len(self.entries)} lines, chain whole",
            note=f"{self.path}, head {self.head}",
        )


def audit_path(runs: Path) -> Path:
    """Where what happens in a folder of runs is recorded."""
    elsewhere = os.environ.get(PATH, "")
    return Path(elsewhere) if elsewhere else runs / FILE


def record_run_event(run: Path, event: str, *, digest: str, silos: Iterable[str]) -> Entry:
    """Add a line about a run, and have its folder remember it. Raises AuditError if that cannot be done.

    run  the run folder; its name is the run's id
    """
    log = audit_path(run.parent)
    entry = add(log, event, digest=digest, run=run.name, silos=tuple(silos))
    place = os.path.relpath(log.resolve(), run.resolve())
    anchor = {"log": Path(place).as_posix(), "line": entry.line, "sha256": entry.sha256}
    try:
        write_text(run / ANCHOR, json.dumps(anchor, indent=1) + "\n", durable=True)
    except OSError as error:
        raise AuditError(f"{run / ANCHOR} cannot be written: {error.strerror}") from error
    return entry


def add(log: Path, event: str, *, digest: str, run: str = "", silos: Sequence[str] = (), who: str = "") -> Entry:
    """Append a line and wait until the disk has it; of several processes, each waits for the others.

    who  by default this machine's user

    What an interrupted write left of a line is cut off first: it was no line yet. Raises AuditError if the file cannot
    be written, or ends in what is no line of it.
    """
    try:
        make_folder(log.parent, durable=True)
        with log.open("a+b") as file, locked(file):
            last = last_line(file, log)
            fields = {
                "audit": FORMAT,
                "line": 1 if last is None else last.line + 1,
                "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "who": who or user(),
                "event": event,
                "run": run,
                "digest": digest,
                "silos": list(silos),
                "previous": START if last is None else last.sha256,
            }
            line = json.dumps({**fields, "sha256": sum_of(fields)}, sort_keys=True)
            file.write(line.encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
            if last is None:
                sync(log.parent)
    except OSError as error:
        raise AuditError(f"the audit log {log} cannot be written: {error.strerror}; so nothing was started") from error
    return entry_of(line.encode("ascii"), log, None)


def user() -> str:
    """Who is recorded: `user@host`, or what FL_KIT_WHO says."""
    given = os.environ.get(WHO, "")
    if given:
        return given[:200]
    try:
        return f"{getpass.getuser()}@{platform.node()}"
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        return f"{os.getuid() if hasattr(os, 'getuid') else 'somebody'}@{platform.node()}"


def last_line(file: IO[bytes], log: Path) -> Entry | None:
    """The last whole line of an open log, or None of an empty one; what is torn behind it is cut off.

    Torn is what has no line end, and what has NULs: blocks that a power cut kept from the disk.
    """
    size = file.seek(0, os.SEEK_END)
    begin = max(size - 2 * LONGEST_LINE, 0)
    file.seek(begin)
    tail = file.read()
    end = tail.rfind(b"\n") + 1
    while end and b"\0" in tail[tail.rfind(b"\n", 0, end - 1) + 1 : end]:
        end = tail.rfind(b"\n", 0, end - 1) + 1
    if begin and not end:
        raise AuditError(f"the last line of {log} is longer than any line of an audit log")
    if end < len(tail):
        file.truncate(begin + end)
    if not end:
        return None
    return entry_of(tail[tail.rfind(b"\n", 0, end - 1) + 1 : end - 1], log, None)


@contextmanager
def locked(file: IO[bytes]) -> Iterator[None]:
    """Alone with a file, among all processes that ask for the same."""
    if os.name == "nt":
        import msvcrt

        far = 1 << 30  # behind all lines: what is locked there can still be read
        file.seek(far)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined,unused-ignore]
        try:
            yield
        finally:
            file.seek(far)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def sum_of(fields: dict[str, Any]) -> str:
    """The sha256 of a line's fields, its own aside."""
    plain = {key: value for key, value in fields.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def entry_of(line: bytes, log: Path, number: int | None) -> Entry:
    """One line; raises AuditError for what is none.

    number  which it is; None for the last
    """
    where = f"{log}, line {number}" if number else f"the last line of {log}"
    try:
        found = parse_json(line)
        if not isinstance(found, dict) or set(found) != FIELDS or found["audit"] != FORMAT:
            raise ValueError(f"expected the fields {', '.join(sorted(FIELDS))}, format {FORMAT}")
        texts = [found[name] for name in ("time", "who", "event", "run", "digest", "previous", "sha256")]
        if not all(isinstance(text, str) for text in [*texts, *found["silos"]]) or type(found["line"]) is not int:
            raise ValueError("a field of another type")
    except (ValueError, TypeError) as error:
        raise AuditError(f"{where} is no line of an audit log: it was changed or damaged ({error})") from error
    if sum_of(found) != found["sha256"]:
        raise AuditError(f"{where} was changed: its sha256 is another one")
    del found["audit"]
    return Entry(**{**found, "silos": tuple(found["silos"])})


def verify_audit(path: str | Path, *, runs: str | Path | None = None, head: str = "") -> Audit:
    """The entries of an audit log, if none of its lines was changed, removed, added, moved or cut off.

    path  the file, or the folder of runs in which it lies
    runs  the folder whose runs remember lines of it; by default the one in which it lies
    head  the sha256 of a line that must still be there, if you kept one elsewhere

    Raises AuditError that names the first line at fault.

    >>> run = job.run(federation, on=InProcess(folder="runs")).wait()
    >>> [entry.event for entry in verify_audit("runs").entries]
    ['submitted']
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    found = tuple(chained(path))
    sums = [entry.sha256 for entry in found]
    for run, line, sha256 in anchors(Path(runs) if runs is not None else path.parent, path):
        if line > len(sums):
            raise AuditError(
                f"{path} ends with line {len(sums)}, and run {run} remembers its line {line}: line {len(sums) + 1} and "
                "what follows was cut off"
            )
        if sums[line - 1] != sha256:
            raise AuditError(f"{path}, line {line} was written anew: run {run} remembers another one")
    if head and head not in sums:
        raise AuditError(f"{path} has no line with the sha256 {head}: it was written anew, or its end was cut off")
    return Audit(path=path, entries=found)


def chained(path: Path) -> Iterator[Entry]:
    """The entries of a log, each of which follows the one before it."""
    before, number = START, 0
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                if not line.endswith(b"\n"):
                    raise AuditError(f"{path}, line {number} is not whole: its writing was interrupted, or its end cut")
                entry = entry_of(line[:-1], path, number)
                if entry.line != number or entry.previous != before:
                    raise AuditError(
                        f"{path}, line {number} does not follow the line before it (it says that it is line "
                        f"{entry.line}): a line was removed, added or moved"
                    )
                before = entry.sha256
                yield entry
    except OSError as error:
        raise AuditError(f"the audit log {path} cannot be read: {error.strerror}") from error


def anchors(runs: Path, log: Path) -> Iterator[tuple[str, int, str]]:
    """(run, line, sha256) of each run that remembers a line of that log; raises AuditError for a damaged memory."""
    for file in sorted(runs.glob(f"*/{ANCHOR}")):
        try:
            found = parse_json(read_bytes(file, limit=LONGEST_LINE))
            place, line, sha256 = str(found["log"]), found["line"], found["sha256"]
            if type(line) is not int or line < 1 or not isinstance(sha256, str):
                raise ValueError(f"line {line!r}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AuditError(f"{file}, which remembers a line of {log}, is damaged: {error!r}") from error
        if (file.parent / place).resolve() == log.resolve():
            yield file.parent.name, line, sha256
