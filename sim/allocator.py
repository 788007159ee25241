"""Keeps freed memory in the process while a simulation runs.

glibc gives large blocks back to the system after each backward pass and takes them anew in the next one;
the page faults cost more than the arithmetic of a large model's step. On other platforms this does nothing.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEEP = 2**31 - 1
GLIBC_CEILING = 32 << 20
"""Where glibc's own moving threshold for large blocks ends."""
HEAP = 64 << 20
"""The size of the heaps that a thread allocates from; one that is empty goes back unless this much is wanted spare."""
GLIBC_PAD = 128 << 10


@contextmanager
def warm_allocator() -> Iterator[None]:
    """Within the block freed memory is kept; afterwards it goes back to the system."""
    libc = glibc()
    if libc is None:
        yield
        return
    libc.malloc_trim(0)
    libc.mallopt(M_MMAP_THRESHOLD, KEEP)
    libc.mallopt(M_TRIM_THRESHOLD, KEEP)
    libc.mallopt(M_TOP_PAD, HEAP)
    try:
        yield
    finally:
        libc.mallopt(M_TOP_PAD, GLIBC_PAD)
        libc.mallopt(M_MMAP_THRESHOLD, GLIBC_CEILING)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * GLIBC_CEILING)
        libc.malloc_trim(0)


def glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version") else None
