"""Freed memory stays in the process while a simulation runs, in its thread too, and goes back afterwards."""

import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from sim.allocator import glibc, warm_allocator

pytestmark = pytest.mark.skipif(glibc() is None, reason="only glibc has these settings")

BLOCK, BLOCKS = 16 << 20, 8
"""Together more than one heap of a thread, so that whole heaps fall empty."""


def page_faults() -> int:
    assert sys.platform == "linux"
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


def take_and_free() -> int:
    """The page faults of filling all blocks, which are then freed."""
    before = page_faults()
    blocks = [torch.ones(BLOCK, dtype=torch.uint8) for _ in range(BLOCKS)]
    faults = page_faults() - before
    assert len(blocks) == BLOCKS
    return faults


def faults_again_and_again() -> list[int]:
    with warm_allocator():
        return [take_and_free() for _ in range(6)]


def resident() -> int:
    """Resident bytes of this process."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def test_a_thread_soon_takes_no_new_pages() -> None:
    with ThreadPoolExecutor(1) as pool:
        faults = pool.submit(faults_again_and_again).result()
    pages = BLOCK * BLOCKS // resource.getpagesize()
    assert faults[0] > pages / 2
    assert faults[-1] < pages / 100


def test_afterwards_the_memory_is_the_systems_again() -> None:
    before = resident()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(faults_again_and_again).result()
        assert resident() - before < BLOCK
