"""What is different in a job from a bundle that was approved before: source, settings, steps, fl-kit itself."""

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from fl_kit.bounded import inside, parse_json, read_bytes
from fl_kit.errors import BundleError
from fl_kit.own_source import PACKAGE, own_source
from fl_kit.plan import Plan, Step, rounds_of
from fl_kit.table import Cell, Shown, Table

MANIFEST = "manifest.json"
PLACES = (".", "bundle", "code/bundle")
"""Where a bundle lies, seen from its own folder or from that of a run."""
LIMIT = 64 << 20
COLOURS = {"+": "rgba(46,160,67,0.2)", "-": "rgba(248,81,73,0.2)"}
CONTEXT = 3


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A bundle as its manifest has it.

    files  name → sha256
    """

    digest: str
    files: Mapping[str, str]
    job: Mapping[str, Any]
    plan: Plan
    source: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Changes(Shown):
    """What is new since an earlier bundle; false if nothing is.

    since     the digest of the earlier one
    settings  name → (before, now), such as `strategy.settings.mu`
    source    the task's source as a unified diff; empty if it is the same
    added     steps of the plan that were not in it, or read or write something else now
    removed   steps that were in it, or read or wrote something else
    package   file of fl-kit → "changed", "added" or "removed"

    >>> bundle = write_bundle(job, job.plan(federation), "approved/bundle")
    >>> changes = replace(job, rounds=2).review(federation, since="approved/bundle").changes
    >>> changes.settings
    {'rounds': ('3', '2')}
    >>> [step.id for step in changes.removed if step.party == "alpha"]
    ['round_003/alpha/fit', 'round_003/alpha/evaluate']
    """

    since: str
    settings: Mapping[str, tuple[str, str]]
    source: str
    added: tuple[Step, ...]
    removed: tuple[Step, ...]
    package: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.settings or self.source or self.added or self.removed or self.package)

    def table(self) -> Table:
        """One row per setting, kind of step and file of fl-kit."""
        lines = self.source.splitlines()[2:]
        more, less = (sum(line.startswith(sign) for line in lines) for sign in "+-")
        rows: list[list[Cell]] = [["setting", name, before, now] for name, (before, now) in self.settings.items()]
        rows += [["source", "of the task", f"{less} lines", f"{more} lines"]] if self.source else []
        rows += [["steps", what, rounds, None] for what, rounds in kinds(self.removed)]
        rows += [["steps", what, None, rounds] for what, rounds in kinds(self.added)]
        rows += [["fl-kit", name, None, what] for name, what in self.package.items()]
        title = f"{'Changes' if self else 'Nothing has changed'} since the bundle {self.since[:12]}…"
        return Table(columns=["what", "which", "before", "now"], rows=rows, title=title, note=f"sha256 {self.since}")

    def __repr__(self) -> str:
        return "\n".join([self.table().text(), *([self.source] if self.source else [])])

    def _repr_html_(self) -> str:
        return self.table().html() + (
            f"<pre>{''.join(map(coloured, self.source.splitlines()))}</pre>" if self.source else ""
        )


def coloured(line: str) -> str:
    """A line of a diff as HTML."""
    colour = COLOURS.get(line[:1])
    return f'<span style="background:{colour}">{escape(line)}</span>\n' if colour else f"{escape(line)}\n"


def kinds(steps: Iterable[Step]) -> list[tuple[str, str]]:
    """`fit in cleveland` → its rounds, for steps that would be many lines."""
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(f"{step.op} in {step.party}", []).append(step)
    return [(what, f"round {rounds_of(each)}") for what, each in found.items()]


def changes_since(place: Any, *, job: Mapping[str, Any], plan: Plan, source: str) -> Changes:
    """What a job with that plan and source has changed.

    place  a bundle or its folder, the folder of a run, or the file of an approval that lies beside the bundle

    Raises BundleError if there is no whole bundle.
    """
    before = read_earlier(folder_of(place))
    name, now = f"{job['task']['name']}.py", dict(flat(job))
    then = dict(flat(before.job))
    old, new = before.plan.by_id, plan.by_id
    own = {name: sha256(data) for name, data in own_source()}
    theirs = {name: value for name, value in before.files.items() if name.startswith(f"{PACKAGE}/")}
    diff = difflib.unified_diff(
        before.source.splitlines(), source.splitlines(), f"approved/{name}", f"now/{name}", lineterm="", n=CONTEXT
    )
    return Changes(
        since=before.digest,
        settings={
            key: (then.get(key, "–"), now.get(key, "–"))
            for key in {**then, **now}
            if then.get(key) != now.get(key) and key != "task.sha256"
        },
        source="\n".join(diff),
        added=tuple(step for step in plan.steps if old.get(step.id) != step),
        removed=tuple(step for step in before.plan.steps if new.get(step.id) != step),
        package={
            name: "added" if name not in theirs else "removed" if name not in own else "changed"
            for name in sorted({*own, *theirs})
            if own.get(name) != theirs.get(name)
        },
    )


def folder_of(place: Any) -> Path:
    """The folder of the bundle that is meant."""
    folder = Path(getattr(place, "folder", place))
    if folder.is_file():
        return approved_by(folder)
    for found in (folder / each for each in PLACES):
        if (found / MANIFEST).is_file():
            return found
    raise BundleError(f"{folder} holds no bundle: give its folder, that of a run, or the file of an approval beside it")


def approved_by(file: Path) -> Path:
    """The folder of the bundle for which an approval was given, which lies beside it."""
    try:
        digest = parse_json(read_bytes(file, limit=LIMIT))["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file} is no approval: {error!r}") from error
    beside = file.resolve().parent.parent
    for manifest in sorted(beside.glob(f"*/{MANIFEST}")):
        if sha256(read_bytes(manifest, limit=LIMIT)) == digest:
            return manifest.parent
    raise BundleError(f"the bundle {str(digest)[:64]} that {file} approves is not in {beside}")


def read_earlier(folder: Path) -> Earlier:
    """A bundle's manifest, and those of its texts that are compared, each checked against it."""
    try:
        data = read_bytes(folder / MANIFEST, limit=LIMIT)
        files = {str(name): str(value) for name, value in parse_json(data)["files"].items()}
        job = parse_json(checked(folder, "job.json", files))
        source = checked(folder, f"task/{job['task']['name']}.py", files).decode("utf-8")
        plan = Plan.from_json(checked(folder, "plan.json", files).decode("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{folder} holds no whole bundle: {error!r}") from error
    return Earlier(digest=sha256(data), files=files, job=job, plan=plan, source=source)


def checked(folder: Path, name: str, files: Mapping[str, str]) -> bytes:
    """A file of a bundle; raises BundleError if it is not as its manifest says."""
    data = read_bytes(inside(folder, name), limit=LIMIT)
    if sha256(data) != files.get(name):
        raise BundleError(f"{name} was changed: its sha256 is not the one in the manifest of {folder}")
    return data


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """`strategy.settings.mu` → its value as text, of nested settings."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for i, inner in enumerate(value):
            yield from flat(inner, f"{name}.{i}")
    else:
        yield name, str(list(value)) if isinstance(value, tuple) else str(value)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
