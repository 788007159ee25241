"""Content-addressed folders of a partition: written once, whole or not at all, checked when reused.

`<root>/<address>/` holds `manifest.json`, which says what was split how and gives the sha256 of each file,
and for each silo a folder with its files, such as `train.csv` and `test.csv`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_kit.bounded import inside, parse_json, read_text, sha256_of
from fl_kit.errors import DataError
from fl_kit.silo import Federation, Silo

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.json"
FILE_LIMIT = 64 << 30
"""Bytes of one file of a partition."""
VERSION = 1
"""Goes up when the same arguments deal rows in another way, so that no older folder is taken for a new one."""

Files = Mapping[str, Callable[[], bytes]]
"""What to write: a path inside the folder, such as `cleveland/train.csv`, and what makes its content."""


def federation(
    folder: str | Path | None, recipe: Mapping[str, Any], files: Files, rows: Mapping[str, int]
) -> Federation:
    """The federation of a partition's silos, whose folders are written if they are not there yet.

    folder  where partitions are kept, as for `root`
    recipe  what was split how; it is the folder's address
    rows    silo → how many rows it has, for its tag
    """
    place = ensure(root(folder), {"version": VERSION, **recipe}, files)
    silos = (Silo(name=name, data=str(place / name), tags={"rows": str(count)}) for name, count in rows.items())
    return Federation(silos=tuple(silos))


def root(folder: str | Path | None) -> Path:
    """Where partitions are kept: `folder`, else `$FL_KIT_CACHE/partitions`, else `./.fl_kit/partitions`."""
    if folder is not None:
        return Path(folder).expanduser().resolve()
    cache = os.environ.get("FL_KIT_CACHE") or ".fl_kit"
    return (Path(cache).expanduser() / "partitions").resolve()


def csv_bytes(frame: "pd.DataFrame") -> bytes:
    """The rows as csv, the same bytes on every system; a missing value is an empty field."""
    return frame.to_csv(index=False, lineterminator="\n").encode("utf-8")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def as_json(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe as it reads when the manifest is read again: tuples are lists, NumPy's numbers plain ones."""

    def plain(value: Any) -> Any:
        return value.item() if hasattr(value, "item") else str(value)

    found: dict[str, Any] = json.loads(json.dumps(recipe, default=plain))
    return found


def address(recipe: Mapping[str, Any]) -> str:
    """The folder's name: 16 hex digits of the sha256 of the recipe."""
    return sha256(json.dumps(recipe, sort_keys=True).encode())[:16]


def ensure(root: Path, recipe: Mapping[str, Any], files: Files) -> Path:
    """The folder that holds `files`; written if it is not there, rebuilt if a file is missing or changed.

    recipe  everything that the files follow from; it gives the folder's name

    Raises DataError where the folder cannot be written.
    """
    recipe = as_json(recipe)
    folder = root / address(recipe)
    if is_whole(folder, recipe):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with scratch(root) as temporary:
            write(temporary / "new", recipe, files)
            publish(temporary, folder, recipe)
    except OSError as error:
        raise DataError(f"the partition cannot be written to {folder}: {error.strerror or error}") from error
    return folder


def is_whole(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether the folder has the manifest of this recipe, and every file as the manifest states it."""
    try:
        manifest = parse_json(read_text(folder / MANIFEST))
        listed = manifest["files"].items()
        return bool(manifest["recipe"] == recipe) and all(
            sha256_of(inside(folder, path), limit=FILE_LIMIT) == digest for path, digest in listed
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextlib.contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A hidden folder on the same disk, so that a rename is atomic; removed at the end."""
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write(folder: Path, recipe: Mapping[str, Any], files: Files) -> None:
    """All files, then the manifest; `.gitignore` keeps people's data out of a repository by default."""
    digests = {}
    for path, make in files.items():
        content = make()
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        digests[path] = sha256(content)
    manifest = {"recipe": recipe, "files": digests}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")


def publish(temporary: Path, folder: Path, recipe: Mapping[str, Any]) -> None:
    """Move `temporary/new` to `folder`; a damaged folder steps aside, a whole one of another process stays."""
    if is_whole(folder, recipe):
        return
    with contextlib.suppress(FileNotFoundError):
        folder.rename(temporary / "damaged")
    try:
        (temporary / "new").rename(folder)
    except OSError:
        if not is_whole(folder, recipe):
            raise
