"""Files as one zip archive that has exactly one form: the same files give the same bytes, on every system.

Files are stored, not compressed, in the order of their names, without times or anything else about the machine. So
Python imports from it as it is, any zip tool opens it, and reading it never needs more memory than its own size.
"""

import struct
import zlib
from collections.abc import Mapping

from fl_kit.errors import BundleError

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
VERSION, UNIX, UTF_8 = 20, 3 << 8, 1 << 11
MIDNIGHT, FIRST_DAY = 0, 33
"""Of 1 January 1980, the first day that a zip archive knows."""

MODE = 0o100644 << 16
LOCAL_FORM, CENTRAL_FORM, END_FORM = "<4s5H3L2H", "<4s6H3L5H2L", "<4s4H2LH"
HEADER = struct.calcsize(LOCAL_FORM)
MOST_FILES, MOST_BYTES = 0xFFFE, 16 << 20
"""Of one archive; fl-kit's source is some 150 files of less than a mebibyte together."""


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """The archive of files, given name → content; raises BundleError for more than one can hold."""
    body, directory = bytearray(), bytearray()
    for name in sorted(files):
        word, data = name.encode(), files[name]
        facts = (VERSION, UTF_8, 0, MIDNIGHT, FIRST_DAY, zlib.crc32(data), len(data), len(data), len(word), 0)
        directory += struct.pack(CENTRAL_FORM, CENTRAL, VERSION | UNIX, *facts, 0, 0, 0, MODE, len(body)) + word
        body += struct.pack(LOCAL_FORM, LOCAL, *facts) + word + data
    if len(files) > MOST_FILES or len(body) + len(directory) + struct.calcsize(END_FORM) > MOST_BYTES:
        raise BundleError(f"{len(files):,} files of {len(body) >> 20:,} MiB are too much for the archive of a bundle")
    end = struct.pack(END_FORM, END, 0, 0, len(files), len(files), len(directory), len(body), 0)
    return bytes(body + directory + end)


def files_of(archive: bytes) -> dict[str, bytes]:
    """Name → content of every file up to the first thing that `archive_of` would not write.

    Ask with `archive_of` whether that is all of it. Nothing is unpacked, so no archive can be larger than it looks.
    """
    found: dict[str, bytes] = {}
    place = 0
    while archive.startswith(LOCAL, place) and place + HEADER <= len(archive):
        *_, size, _, length, _ = struct.unpack_from(LOCAL_FORM, archive, place)
        begin = place + HEADER + length
        place = begin + size
        name = archive[begin - length : begin].decode("utf-8", "replace")
        if name in found or place > len(archive):
            break
        found[name] = archive[begin:place]
    return found
