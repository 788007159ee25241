"""Files that are whole or not there at all. Nothing heavy is imported: a server writes files, too.

What survives a power cut is what was waited for: a file's bytes and its name in its folder are two things, and each
is on the disk only when `sync` has returned, of the file and of the folder.
"""

import errno
import os
import sys
from pathlib import Path

NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES})
"""What network mounts answer that cannot wait for a folder; they keep names as they can."""


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text file whole or not at all; `durable` waits until it, and its name, are on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    if durable:
        sync(partial)
    partial.replace(path)
    if durable:
        sync(path.parent)


def make_folder(path: Path, *, durable: bool = False) -> None:
    """Make a folder and those above it that are missing; `durable` waits until their names are on the disk."""
    missing = [folder for folder in (path, *path.parents) if durable and not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes (or a folder's names) are on the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        flush(handle)
    except OSError as error:
        if not (folder and error.errno in NO_FOLDER_SYNC):
            raise
    finally:
        os.close(handle)


def flush(handle: int) -> None:
    """Wait until an open file's bytes are on the disk itself, not only in its cache."""
    if sys.platform == "darwin":  # there fsync leaves them in the drive
        import fcntl

        try:
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
        except OSError:  # a mount that knows only fsync
            pass
        else:
            return
    os.fsync(handle)
