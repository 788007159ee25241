"""What travels to a silo: sources of the task and fl-kit, job.json, plan.json, given weights, under one manifest.

The manifest holds the sha256 of every file, and its own sha256 is the bundle's digest: what a silo's owner
approves. A bundle of the same job, plan and fl-kit is the same to the byte wherever it is made: sources have
LF line ends, whatever the checkout has.

What is sent to AzureML has fl-kit's own source, some 150 files, in one archive `fl_kit.zip`, and the rest as it is:
the SDK needs a request for each file. Manifest and digest are those of the same bundle with a folder `fl_kit`, for
an archive of the same files has one form only. To read all of it, `python -m zipfile -e fl_kit.zip .`: then every
line of the manifest names a file, and `sha256sum` gives what stands there.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_kit.archive import MOST_BYTES, archive_of, files_of
from fl_kit.bounded import TEXT_LIMIT, inside, name_fault, parse_json, read_bytes, read_text, sha256_of
from fl_kit.errors import BundleError
from fl_kit.given_weights import INIT_FILE
from fl_kit.job import Job
from fl_kit.own_source import PACKAGE, own_source
from fl_kit.plan import Plan
from fl_kit.secret_scan import refusal
from fl_kit.source import canonical
from fl_kit.task import task_file

FORMAT = 1
MANIFEST = "manifest.json"
PACKED = f"{PACKAGE}.zip"
"""The archive of fl-kit's source, where a bundle has one instead of the folder."""
MANIFEST_LIMIT, FILES_LIMIT = 4 << 20, 10_000
"""Bytes of the manifest, and files that it lists: fl-kit has some two hundred."""
FILE_LIMIT = 64 << 30
"""Bytes of one file: given weights."""
TEXTS = ("job.json", "plan.json", "task/")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle in a folder, checked against its manifest.

    folder  where it is
    digest  sha256 of the manifest, hexadecimal
    texts   job, plan and source as they were when their digests were taken
    """

    folder: Path
    digest: str
    texts: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    def job(self) -> Job:
        """The job, with its task made from the source in the bundle; raises BundleError if it holds none."""
        try:
            text = self._text("job.json")
            source = self._text(f"task/{task_file(self.folder, text).name}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"the bundle in {self.folder} holds no job: {error!r}") from error
        return Job.from_json(text, source, self.folder / INIT_FILE)

    def settings(self) -> dict[str, Any]:
        """What job.json says, without importing the task; raises BundleError if there is none."""
        try:
            return dict(parse_json(self._text("job.json")))
        except (OSError, ValueError, TypeError) as error:
            raise BundleError(f"the bundle in {self.folder} holds no job: {error!r}") from error

    def plan(self) -> Plan:
        """The plan; raises BundleError if it holds none."""
        try:
            text = self._text("plan.json")
        except (OSError, ValueError) as error:
            raise BundleError(f"the bundle in {self.folder} holds no plan: {error!r}") from error
        return Plan.from_json(text)

    def _text(self, name: str) -> str:
        """A file as it was when it was verified, whatever has become of it since."""
        data = self.texts.get(name)
        return read_text(inside(self.folder, name)) if data is None else data.decode("utf-8")


def write_bundle(job: Job, plan: Plan, folder: str | Path, *, packed: bool = False) -> Bundle:
    """Write what travels into a folder that is new or empty.

    packed  put fl-kit's own source into one archive; the digest stays the same

    Raises BundleError if the folder holds anything else, or cannot be written, and for a task or a setting that holds
    what looks like a secret.

    >>> bundle = write_bundle(job, job.plan(federation), "to_approve/bundle")
    >>> bundle.digest == write_bundle(job, job.plan(federation), "again").digest
    True
    """
    folder = Path(folder)
    files = dict(contents(job, plan))
    texts = {name: data.decode() for name, data in files.items() if name.startswith(TEXTS)}
    if fault := refusal(texts, "a bundle goes to every silo"):
        raise BundleError(fault)
    manifest = manifest_of({name: bytes_digest(data) for name, data in files.items()})
    files = with_archive(files) if packed else files
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BundleError(f"{folder} is not empty; a bundle gets a folder of its own")
        for name, data in {**files, MANIFEST: manifest}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    except OSError as error:
        raise BundleError(f"the bundle cannot be written to {folder}: {error.strerror}") from error
    return Bundle(folder=folder, digest=bytes_digest(manifest))


def bundle_digest(job: Job, plan: Plan) -> str:
    """The digest of the bundle that `write_bundle` would write, without writing any."""
    return bytes_digest(manifest_of({name: bytes_digest(data) for name, data in contents(job, plan)}))


def contents(job: Job, plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Name → bytes of every file but the manifest; raises BundleError where fl-kit's own source is no folder."""
    yield "job.json", job.to_json().encode()
    yield "plan.json", plan.to_json().encode()
    yield f"task/{job.task.name}.py", canonical(job.task.source)
    if job.init is not None:
        yield INIT_FILE, job.init.to_bytes()
    yield from own_source()


def with_archive(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same files, those of fl-kit's own source in one archive."""
    own = {name: data for name, data in files.items() if name.startswith(f"{PACKAGE}/")}
    return {**{name: data for name, data in files.items() if name not in own}, PACKED: archive_of(own)}


def manifest_of(files: Mapping[str, str]) -> bytes:
    """The manifest of files, given name → sha256."""
    return (json.dumps({"format": FORMAT, "files": dict(files)}, indent=1, sort_keys=True) + "\n").encode()


def verify(folder: str | Path, digest: str = "", *, byte_code: bool = False) -> Bundle:
    """The bundle in a folder, if every file is there and as its manifest says, and no other file is.

    digest     if given, what the manifest's own sha256 must be
    byte_code  accept what Python keeps in `__pycache__` when it runs the bundle's fl-kit in place. Python
               prefers it to the source, so leave this off for a folder that somebody else wrote

    Raises BundleError that names the first file at fault.
    """
    folder = Path(folder)
    try:
        data = read_bytes(folder / MANIFEST, limit=MANIFEST_LIMIT)
        files = dict(files_in(folder, byte_code=byte_code))
        packed = files.pop(PACKED, None)
        archive = None if packed is None else read_bytes(packed, limit=MOST_BYTES)
        texts = {name: read_bytes(path, limit=TEXT_LIMIT) for name, path in files.items() if name.startswith(TEXTS)}
        found = {n: bytes_digest(texts[n]) if n in texts else sha256_of(files[n], limit=FILE_LIMIT) for n in files}
    except OSError as error:
        raise BundleError(f"{folder} holds no bundle: {error.filename} cannot be read: {error.strerror}") from error
    if digest and bytes_digest(data) != digest:
        raise BundleError(f"the bundle in {folder} is {bytes_digest(data)}, expected {digest}: it is another one")
    members = {} if archive is None else members_of(archive, found)
    found |= {name: bytes_digest(content) for name, content in members.items()}
    compare_with(listed(data, folder / MANIFEST), found)
    if archive is not None and (not members or archive != archive_of(members)):
        raise BundleError(f"{PACKED} was changed: it is not in the form in which bundles are written")
    if data != manifest_of(found):
        raise BundleError(f"{folder / MANIFEST} was changed: it is not in the form in which bundles are written")
    return Bundle(folder=folder, digest=bytes_digest(data), texts=texts)


def files_in(folder: Path, *, byte_code: bool) -> Iterator[tuple[str, Path]]:
    """Name → path of everything but folders and the manifest; a link counts as a file, wherever it leads.

    Raises BundleError for more than a bundle may have, and for names that are one on some systems, or none.
    """
    seen: set[str] = set()
    for path in folder.rglob("*"):
        place = path.relative_to(folder)
        ignored = byte_code and path.suffix == ".pyc" and path.parent.name == "__pycache__"
        if (path.is_dir() and not path.is_symlink()) or place.as_posix() == MANIFEST or ignored:
            continue
        if fault := next((fault for part in place.parts if (fault := name_fault(part))), ""):
            raise BundleError(f"the bundle in {folder} has a file that no bundle has: {fault}")
        if place.as_posix().lower() in seen or len(seen) == FILES_LIMIT:
            raise BundleError(f"the bundle in {folder} has {place} twice but for case, or over {FILES_LIMIT:,} files")
        seen.add(place.as_posix().lower())
        yield place.as_posix(), path


def members_of(archive: bytes, beside: Mapping[str, str]) -> dict[str, bytes]:
    """What an archive of fl-kit's source holds; raises BundleError for anything else in it, or any of it beside it."""
    members = files_of(archive)
    if odd := sorted(name for name in members if not name.startswith(f"{PACKAGE}/")):
        raise BundleError(f"{odd[0]} is in {PACKED}, which holds the files of {PACKAGE} only")
    if odd := sorted(name for name in beside if name.startswith(f"{PACKAGE}/")):
        raise BundleError(f"{odd[0]} is beside {PACKED}, which holds all files of {PACKAGE}")
    return members


def listed(data: bytes, file: Path) -> Mapping[str, str]:
    """Name → sha256, as a manifest lists them."""
    try:
        manifest = parse_json(data)
        if manifest["format"] != FORMAT:
            raise BundleError(f"{file} is of format {manifest['format']!r}; this fl-kit reads format {FORMAT}")
        return dict(manifest["files"].items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{file} is damaged: {error!r:.300}") from error


def compare_with(expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise BundleError for the first file that is missing, not listed, or changed."""
    if odd := sorted(expected.keys() ^ found.keys()):
        fault = "missing from the bundle" if odd[0] in expected else "not named by the bundle's manifest"
        raise BundleError(f"{odd[0]} is {fault}")
    for name, sha256 in expected.items():
        if found[name] != sha256:
            raise BundleError(f"{name} was changed: its sha256 is not the one in the bundle's manifest")


def bytes_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
