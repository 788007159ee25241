"""A step sees only its own inputs, outputs and code; where that cannot be had, the workspace says so loudly.

Linux namespaces, entered by the process itself (`namespaces`), are used where a user may make them; else bubblewrap,
which some systems allow where they forbid the former; else nothing. What this cannot prove, whatever is used: the
cloud's role assignments, images, networks between the parties, and scheduling. A step keeps the network, since it must
reach the workspace; there it can do what its own token allows.
"""

import shutil
import site
import subprocess
import sys
import sysconfig
import warnings
from functools import cache
from pathlib import Path
from typing import Literal

from sim.azureml.namespaces import CONFIGURATION, KERNEL_SETTINGS, SYSTEM
from sim.azureml.processes import View

Kind = Literal["namespaces", "bubblewrap", "none"]

WARNING = (
    "steps are NOT isolated on this machine: every step can read every silo's folder, so this workspace proves "
    "wiring, not privacy. Install bubblewrap, or allow unprivileged user namespaces (see sim.azureml.isolation)"
)


class NotIsolated(UserWarning):
    """Steps of a local workspace can read one another's folders."""


@cache
def available() -> Kind:
    """What this machine offers, found by trying it."""
    if sys.platform != "linux":
        return "none"
    if succeeds([sys.executable, "-I", "-S", str(Path(__file__).with_name("namespaces.py"))]):
        return "namespaces"
    if shutil.which("bwrap") and succeeds([*bubblewrap(View(readable=interpreter())), sys.executable, "-S", "-c", ""]):
        return "bubblewrap"
    return "none"


def choose(wanted: Kind | None = None) -> Kind:
    """What is used: the best there is, or what is wanted. Warns if it is nothing."""
    kind = available() if wanted is None else wanted
    if kind == "none":
        warnings.warn(WARNING, NotIsolated, stacklevel=2)
    return kind


def succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@cache
def interpreter() -> tuple[Path, ...]:
    """Where this Python and its packages are, without what the system's folders hold anyway."""
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    if site.ENABLE_USER_SITE:
        folders.add(site.getusersitepackages())
    folders |= {str(Path(sys.executable).resolve().parent.parent)}
    paths = [Path(folder) for folder in folders if Path(folder).is_dir() and Path(folder) != Path("/")]
    shown = {*paths, Path("/usr")}
    return tuple(sorted(path for path in set(paths) if path != Path("/usr") and shown.isdisjoint(path.parents)))


def bubblewrap(view: View) -> list[str]:
    """The arguments of `bwrap` that show a command only a view."""
    words = ["bwrap", "--die-with-parent", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--cap-drop", "ALL"]
    for path in (*SYSTEM, *(f"/etc/{name}" for name in CONFIGURATION)):
        words += ["--ro-bind-try", path, path]
    words += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    for name in KERNEL_SETTINGS:
        words += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    paths = [(path, "--ro-bind-try") for path in view.readable] + [(path, "--bind-try") for path in view.writable]
    for place, flag in sorted(paths, key=lambda entry: len(entry[0].parts)):
        words += [flag, str(place), str(place)]
    return words
