"""Blobs as plain files: a datastore's blob `a/b.txt` is the file `storage/<datastore>/a/b.txt`, and nothing else.

So a step reads and writes blobs as files, without a copy. What a blob has beyond its bytes (content type, metadata)
is kept apart, and counts only as long as the file is the one it was written for.
"""

import base64
import binascii
import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fl_kit.files import write_text
from sim.azureml.errors import WorkspaceError
from sim.azureml.state import WorkspaceState

NAME_LIMIT = 1024
"""Characters of a blob's name, as on Azure."""

PART_LIMIT = 255
"""Bytes of one part of a blob's name: what a file system takes."""

BLOCK_LIMIT = 64
"""Bytes of a block's id, as on Azure."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a blob is: a datastore and the blob's full name in it."""

    datastore: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Properties:
    """What a client may say about a blob beside its bytes; `content` holds headers such as `content-type`."""

    content: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A blob that exists: size in bytes, time of its last change in seconds since 1970."""

    name: str
    path: Path
    size: int
    modified: float
    etag: str
    properties: Properties


class BlobStore:
    """The blobs of every datastore of a workspace; safe for threads."""

    def __init__(self, state: WorkspaceState) -> None:
        self._state = state
        self._properties = state.root / "blobs" / "properties"
        self._uploads = state.root / "blobs" / "uploads"
        self._uploads.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def sweep(self) -> None:
        """Remove what a service that was killed had received of bodies; for when a service begins."""
        for file in self._uploads.iterdir():
            if file.is_file():
                file.unlink()

    def path(self, place: Place) -> Path:
        """The file of a blob, which need not exist; raises WorkspaceError for a name that could lead elsewhere."""
        base = self._state.storage(place.datastore)
        parts = place.name.split("/")
        if len(place.name) > NAME_LIMIT or not all(harmless(part) for part in parts):
            message = f"{place.name!r} is no name of a blob in datastore {place.datastore!r}"
            raise WorkspaceError(message, status=400, code="InvalidResourceName")
        path = base.joinpath(*parts)
        if not inside(path, base):
            message = f"blob {place.name!r} leads out of datastore {place.datastore!r} through a link"
            raise WorkspaceError(message, status=403, code="AuthorizationFailure")
        return path

    def get(self, place: Place) -> Blob:
        """The blob at a place; raises WorkspaceError (404) if there is none."""
        blob = self.find(place)
        if blob is None:
            message = f"there is no blob {place.name!r} in datastore {place.datastore!r}"
            raise WorkspaceError(message, code="BlobNotFound")
        return blob

    def find(self, place: Place) -> Blob | None:
        """The blob at a place, or None; a name that ends with a slash is a folder's, and no blob has it."""
        if place.name.endswith("/"):
            return None
        path = self.path(place)
        return self._look(place, path) if path.is_file() else None

    def list(self, datastore: str, prefix: str = "") -> Iterator[str]:
        """Names that begin with a prefix, in order; of folders only the files in them, and no link that leads out."""
        base = self._state.storage(datastore)
        folder = prefix.rpartition("/")[0]
        if folder and not all(harmless(part) for part in folder.split("/")):
            return
        start = base / folder
        if not inside(start, base):
            return
        names = []
        for where, _, files in os.walk(start):
            for file in files:
                path = Path(where, file)
                name = path.relative_to(base).as_posix()
                if name.startswith(prefix) and (not path.is_symlink() or inside(path, base)):
                    names.append(name)
        yield from sorted(names)

    def upload(self) -> Path:
        """A new file to receive bytes, later to be handed to `commit` or `stage`."""
        return self._uploads / secrets.token_hex(16)

    def commit(self, place: Place, upload: Path, properties: Properties, *, new: bool = False) -> Blob:
        """Make an upload the blob at a place, at once and as a whole; `new` refuses to replace (409)."""
        path = self.path(place)
        with self._lock:
            if new and path.exists():
                message = f"blob {place.name!r} exists in datastore {place.datastore!r}"
                raise WorkspaceError(message, status=409, code="BlobAlreadyExists")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                upload.replace(path)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                message = f"blob {place.name!r}: a part of this name is a blob, or it is a folder of blobs"
                raise WorkspaceError(message, status=409, code="ResourceTypeMismatch") from error
            self._keep(place, path, properties)
            shutil.rmtree(self._blocks(place), ignore_errors=True)
        return self.get(place)

    def stage(self, place: Place, block: str, upload: Path) -> None:
        """Keep an upload as a block that `commit_blocks` will name; `block` is its id in base64."""
        self.path(place)
        file = self._blocks(place) / block_file(block)
        with self._lock:
            file.parent.mkdir(parents=True, exist_ok=True)
            upload.replace(file)

    def commit_blocks(self, place: Place, blocks: Sequence[str], properties: Properties, *, new: bool = False) -> Blob:
        """Make the blob at a place of staged blocks in this order; raises WorkspaceError (400) if one is missing."""
        upload = self.upload()
        folder = self._blocks(place)
        try:
            with upload.open("wb") as target:
                for block in blocks:
                    with (folder / block_file(block)).open("rb") as source:
                        shutil.copyfileobj(source, target, 1 << 20)
            return self.commit(place, upload, properties, new=new)
        except FileNotFoundError as error:
            message = f"blob {place.name!r}: a block of its list was not uploaded"
            raise WorkspaceError(message, status=400, code="InvalidBlockList") from error
        finally:
            upload.unlink(missing_ok=True)

    def set_metadata(self, place: Place, metadata: dict[str, str]) -> Blob:
        """Replace a blob's metadata."""
        with self._lock:
            blob = self.get(place)
            self._keep(place, blob.path, replace(blob.properties, metadata=metadata))
        return self.get(place)

    def delete(self, place: Place) -> None:
        """Remove a blob; raises WorkspaceError (404) if there is none."""
        with self._lock:
            self.get(place).path.unlink(missing_ok=True)
            self._properties_file(place).unlink(missing_ok=True)

    def _look(self, place: Place, path: Path) -> Blob:
        status = path.stat()
        mark = f"{status.st_mtime_ns:x}.{status.st_size:x}.{status.st_ino:x}"
        properties, text = Properties(), ""
        file = self._properties_file(place)
        if file.exists():
            text = file.read_text(encoding="utf-8")
            kept = json.loads(text)
            if kept.pop("mark") == mark:
                properties = Properties(**kept)
        etag = f'"0x{hashlib.sha256(f"{mark} {text}".encode()).hexdigest()[:16].upper()}"'
        return Blob(
            name=place.name,
            path=path,
            size=status.st_size,
            modified=status.st_mtime,
            etag=etag,
            properties=properties,
        )

    def _keep(self, place: Place, path: Path, properties: Properties) -> None:
        status = path.stat()
        mark = f"{status.st_mtime_ns:x}.{status.st_size:x}.{status.st_ino:x}"
        file = self._properties_file(place)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps({"mark": mark, **asdict(properties)}))

    def _properties_file(self, place: Place) -> Path:
        return self._properties / place.datastore / f"{digest(place.name)}.json"

    def _blocks(self, place: Place) -> Path:
        return self._uploads / digest(f"{place.datastore}/{place.name}")


def harmless(part: str) -> bool:
    """Whether a part of a blob's name is a plain file name and nothing else."""
    return part not in ("", ".", "..") and not set("\\\0") & set(part) and len(os.fsencode(part)) <= PART_LIMIT


def inside(path: Path, base: Path) -> bool:
    """Whether a path, all links followed, is in a folder or is it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(base))


def block_file(block: str) -> str:
    """A file name for a block's id; raises WorkspaceError (400) if it is not base64 of 1 to 64 bytes."""
    try:
        raw = base64.b64decode(block, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not 1 <= len(raw) <= BLOCK_LIMIT:
        message = f"the block id {block!r} is not base64 of 1 to {BLOCK_LIMIT} bytes"
        raise WorkspaceError(message, status=400, code="InvalidQueryParameterValue")
    return raw.hex()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
