"""A Ray cluster of two nodes on this machine, each with one CPU, for the tests; nothing of it is left behind."""

import gc
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds for what should take a few, on a busy machine: Python and torch are started."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "300000",  # on a busy machine half a minute is not enough, and then all ends
    "RAY_memory_monitor_refresh_ms": "0",  # other tests' memory is none of its business
    "RAY_health_check_period_ms": "500",
}
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


class TwoNodes:
    """The first node has the resource `here`, the second one `there`."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.seen: set[tuple[int, int]] = set()
        self._cluster = Cluster()
        self.here = self._add(resources={"here": 1}, no_monitor=True)
        self.there = self._add(resources={"there": 1})
        self.address: str = self._cluster.address

    def _add(self, **settings: Any) -> Any:
        with silently():
            return self._cluster.add_node(**NODE, **settings)

    def add(self, name: str) -> Any:
        """One more node, with the resource of that name."""
        return self._add(resources={name: 1})

    def kill(self, node: Any) -> None:
        """End a node as a power cut would."""
        self.seen |= descendants()
        with silently():
            self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        """End all nodes; raises AssertionError if a process of theirs lives on."""
        self.seen |= descendants()
        with silently():
            self._cluster.shutdown()
            del self._cluster
            gc.collect()
        end = time.monotonic() + PATIENCE
        while (left := self.seen & set(processes())) and time.monotonic() < end:
            time.sleep(0.1)
        assert not left, f"processes of Ray that outlived it: {left}"


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """The cluster, with a folder of its own whose path is short: sockets' paths may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    before = dict(os.environ)
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update({"RAY_TMPDIR": str(folder), **SETTINGS})
    try:
        made = TwoNodes()
        try:
            yield made
        finally:
            made.close()
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def silently() -> Iterator[None]:
    """Ray leaves files open; what it says of that is none of these tests' errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def processes() -> dict[tuple[int, int], int]:
    """(process, when it began) → its parent, of all that run; nothing on systems without /proc."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if fields[0] != "Z":
            found[int(file.parent.name), int(fields[19])] = int(fields[1])
    return found


def descendants() -> set[tuple[int, int]]:
    """The processes that this one has started, and those that they have."""
    parents = processes()
    found: set[tuple[int, int]] = set()
    above = {os.getpid()}
    while above:
        children = {process for process, parent in parents.items() if parent in above} - found
        found |= children
        above = {pid for pid, _ in children}
    return found
