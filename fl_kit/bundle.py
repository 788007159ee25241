"""What travels to a silo: the task's source, fl-kit's source, job.json and plan.json, under one manifest.

The manifest holds the sha256 of every file, and its own sha256 is the bundle's digest: what a silo's owner
approves. A bundle of the same job, plan and fl-kit is the same to the byte wherever it is made.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fl_kit.errors import BundleError
from fl_kit.job import Job
from fl_kit.plan import Plan

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle in a folder, checked against its manifest.

    folder  where it is
    digest  sha256 of the manifest, hexadecimal
    """

    folder: Path
    digest: str

    def job(self) -> Job:
        """The job, with its task made from the source in the bundle."""
        text = (self.folder / "job.json").read_text(encoding="utf-8")
        name = json.loads(text)["task"]["name"]
        return Job.from_json(text, (self.folder / "task" / f"{name}.py").read_text(encoding="utf-8"))

    def plan(self) -> Plan:
        """The plan."""
        return Plan.from_json((self.folder / "plan.json").read_text(encoding="utf-8"))


def write_bundle(job: Job, plan: Plan, folder: str | Path) -> Bundle:
    """Write what travels into a folder that is new or empty.

    Raises BundleError if the folder holds anything else.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BundleError(f"{folder} is not empty; a bundle gets a folder of its own")
    files = dict(contents(job, plan))
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    manifest = {"format": FORMAT, "files": {name: bytes_digest(files[name]) for name in sorted(files)}}
    data = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    (folder / MANIFEST).write_bytes(data)
    return Bundle(folder=folder, digest=bytes_digest(data))


def contents(job: Job, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Name → bytes of every file but the manifest."""
    yield "job.json", job.to_json().encode()
    yield "plan.json", plan.to_json().encode()
    yield f"task/{job.task.name}.py", job.task.source.encode()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*")):
        if path.suffix in (".py", ".txt") and "__pycache__" not in path.parts:
            yield f"fl_kit/{path.relative_to(package).as_posix()}", path.read_bytes()


def verify(folder: str | Path, digest: str = "") -> Bundle:
    """The bundle in a folder, if every file is there and as its manifest says, and no other file is.

    digest  if given, what the manifest's own sha256 must be

    Raises BundleError that names the first file at fault.
    """
    folder = Path(folder)
    try:
        data = (folder / MANIFEST).read_bytes()
        expected = json.loads(data)["files"]
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if is_content(path)}
    except OSError as error:
        raise BundleError(f"{folder} holds no bundle: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST} is damaged: {error!r}") from error
    if digest and bytes_digest(data) != digest:
        raise BundleError(f"the bundle in {folder} is {bytes_digest(data)}, expected {digest}: it is another one")
    if odd := sorted(expected.keys() ^ (found.keys() - {MANIFEST})):
        raise BundleError(
            f"{odd[0]} is {'missing from' if odd[0] in expected else 'not named by'} the bundle's manifest"
        )
    for name, sha256 in expected.items():
        if bytes_digest(found[name].read_bytes()) != sha256:
            raise BundleError(f"{name} was changed: its sha256 is not the one in the bundle's manifest")
    return Bundle(folder=folder, digest=bytes_digest(data))


def bytes_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_content(path: Path) -> bool:
    """Whether a file counts; byte code that Python left behind does not."""
    return path.is_file() and "__pycache__" not in path.parts
