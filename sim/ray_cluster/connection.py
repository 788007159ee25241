"""This process's connection to a cluster: Ray has one for all of a process, which its runs share."""

import logging
import os
import re
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fl_kit.errors import IncompatibleError
from fl_kit.own_source import PACKAGE
from sim.ray_cluster.errors import ClusterError

AUTO, LOCAL = "auto", "local"
ADDRESS = re.compile(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
REACHED_WITHIN = 10.0
"""Seconds for a cluster's head to answer."""
STARTS_WITH = {
    "RAY_USAGE_STATS_ENABLED": "0",  # it reports nothing to Ray's makers, unless the user says so
    "RAY_agent_register_timeout_ms": "300000",  # on a busy machine half a minute is not enough, and then all ends
}
"""Variables that a cluster is started with."""


def check_address(address: str) -> None:
    """Raise ClusterError for what cannot be an address."""
    if address not in (AUTO, LOCAL) and not ADDRESS.fullmatch(address):
        raise ClusterError(
            f"Ray(address={address!r}) is no address: give 'host:port' of the cluster's head, 'ray://host:port' of "
            "its client server, 'auto' for the cluster that this machine belongs to, or 'local' for one that is "
            "started here, for the run"
        )


class Connection:
    """Held by each run that needs it; the last one to let go ends it, unless the notebook had made it before.

    made  the address that it was made to here; empty where there is none, or the notebook's own
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self.made = ""

    def hold(self, address: str) -> None:
        """Be connected, until `release`; raises ClusterError where no cluster is, IncompatibleError without Ray."""
        ray = imported()
        with self._lock:
            if not ray.is_initialized():
                connect(ray, address)
                self.made = address
            elif self.made and address not in (self.made, AUTO):
                raise ClusterError(
                    f"this process is connected to the cluster {self.made!r}, and can be to one at a time: wait for "
                    f"the runs there to end, then start this one on {address!r}"
                )
            self._holders += 1

    def release(self) -> None:
        """Need it no longer."""
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self.made:
                self.made = ""
                with quiet():
                    imported().shutdown()


connection = Connection()


def imported() -> Any:
    """The package ray; raises IncompatibleError where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
    except ImportError as error:
        raise IncompatibleError(f"sim.Ray needs the package ray: pip install 'fl-kit[ray]' ({error})") from error
    return ray


def connect(ray: Any, address: str) -> None:
    """Connect this process, and bring fl-kit's own source to the cluster's nodes."""
    reach(address)
    brought = {"py_modules": own_packages(), "excludes": ["__pycache__"]}
    started = {"include_dashboard": False} if address == LOCAL else {}
    try:
        with quiet(), unless_set(STARTS_WITH):
            ray.init(address=address, runtime_env=brought, log_to_driver=False, logging_level=logging.ERROR, **started)
    except Exception as error:  # Ray raises all kinds of them, and plain ones too
        ray.shutdown()
        raise ClusterError(unreached(address, error)) from error


def own_packages() -> list[str]:
    """The folders of fl_kit and sim, side by side wherever they are installed."""
    above = Path(__file__).parents[2]
    return [str(above / name) for name in (PACKAGE, "sim")]


def reach(address: str) -> None:
    """Raise ClusterError where nothing listens: Ray itself would try for a minute, and then end the process."""
    found = ADDRESS.fullmatch(address)
    if found is None:
        return
    host, port = found[1].strip("[]"), int(found[2])
    try:
        socket.create_connection((host, port), timeout=REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(unreached(address, error)) from error


def unreached(address: str, error: BaseException) -> str:
    why = str(error).strip().partition("\n")[0]
    if address == AUTO:
        return (
            f"this machine belongs to no Ray cluster ({why}): start one with `ray start --head`, or give "
            "address='host:port' of its head, or address='local', which starts one here for the run"
        )
    if address == LOCAL:
        return f"no Ray could be started on this machine: {why}"
    return (
        f"no Ray cluster answers at {address} ({why}): look whether its head runs (`ray status`), whether this machine "
        "can reach that port, and whether Python and Ray are of the same release on both sides"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without Ray's tips on its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def unless_set(variables: Mapping[str, str]) -> Iterator[None]:
    """With environment variables, but for those that the user has set."""
    new = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def put_word(word: str) -> None:
    """Put a word where all of the cluster can look for it."""
    imported()
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(word, b"")


def is_there(word: str) -> bool:
    """Whether that word was put into the cluster; asked on a node."""
    from ray.experimental.internal_kv import _internal_kv_exists

    return bool(_internal_kv_exists(word))


def nodes_now() -> list[Mapping[str, float]]:
    """What each node that is there has: name of a resource → how much in all."""
    return [dict(node["Resources"]) for node in imported().nodes() if node["Alive"]]
