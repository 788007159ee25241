"""A process that sees only what it is given: Linux namespaces, entered by the process itself. Standard library only.

Works without privileges wherever a user may make user namespaces. The process gets a root of its own, in which only
the folders of its View are mounted; processes of its own, so that it can neither see, signal nor trace others; and no
capabilities. It keeps the network, since it must reach the workspace on loopback.

It is loaded by path into the warm process server, which must not import anything else of this package.
"""

# System calls on paths, in a process that ends soon: pathlib would only dress them:
# ruff: noqa: BLE001, T201, PTH102, PTH103, PTH106, PTH109, PTH110, PTH112, PTH114, PTH115, PTH120, PTH207, PTH211

import ctypes
import glob
import os
import shutil
import signal
import struct
import sys
from pathlib import Path
from typing import Any

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PIDS = 0x00020000, 0x08000000, 0x10000000, 0x20000000
READ_ONLY, NO_SUID, NO_DEV, NO_EXEC, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
DETACH = 2
SET_DEATH_SIGNAL, SET_NO_NEW_PRIVILEGES, DROP_FROM_BOUNDING_SET = 1, 38, 24
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
MOUNT_SETATTR, HERE, ALL_BELOW = 442, -100, 0x8000
OLD = "/.old"

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/sys/devices/system/cpu")
"""What programs need of the system; nobody's data is there."""

CONFIGURATION = (
    *("alternatives", "ca-certificates", "group", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime"),
    *("mime.types", "nsswitch.conf", "passwd", "pki", "protocols", "resolv.conf", "services", "ssl", "timezone"),
)
"""Of /etc only what name look-up, time zones and certificates need."""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
KERNEL_SETTINGS = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi")
PROCESS_FILES = ("cpuinfo", "meminfo", "stat", "uptime", "filesystems")
"""What is shown of /proc where a fresh one may not be mounted, as inside some containers."""


def run_apart(view: dict[str, list[str]], what: object) -> int:
    """Call `what()` in a process apart that sees only the view; gives its exit status.

    The caller must have one thread. `view` has the lists "readable" and "writable": absolute paths, shown where they
    are; and "code": nothing, or a folder, where to show it, and an empty folder for what is changed there.
    Raises OSError in this process if namespaces cannot be made.
    """
    user, group = os.geteuid(), os.getegid()
    check(libc.unshare(NEW_USER | NEW_MOUNTS | NEW_PIDS | NEW_IPC), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            libc.prctl(SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
            build_root(view)
            drop_capabilities()
            status = what()  # type: ignore[operator]  # a callable; typing it would need an import
        except BaseException as error:  # the last frame of this process: whatever happens must end it
            print(f"the step could not be isolated: {error!r}", file=sys.stderr, flush=True)
            status = 125
        finally:
            os._exit(status)
    _, result = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(result)


def build_root(view: dict[str, list[str]]) -> None:
    """Make a root with only the view in it, and forget the old one."""
    folder = os.getcwd()
    mount("none", "/", flags=RECURSIVE | PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", NO_SUID | NO_DEV, "mode=755")
    os.mkdir("/tmp" + OLD)
    check(libc.syscall(PIVOT_ROOT[os.uname().machine], b"/tmp", b"/tmp" + OLD.encode()), "pivot_root")
    os.chdir("/")
    show_system()
    paths = [(path, False) for path in view["readable"]] + [(path, True) for path in view["writable"]]
    for path, writable in sorted(paths, key=lambda entry: entry[0].count("/")):
        show(path, writable=writable)
    if view.get("code"):
        lay_over(*view["code"])
    check(libc.umount2(OLD.encode(), DETACH), "umount")
    os.rmdir(OLD)
    mount("none", "/", flags=BIND | REMOUNT | READ_ONLY | NO_SUID | NO_DEV)
    os.chdir(folder if os.path.isdir(folder) else "/")


def lay_over(source: str, target: str, changes: str) -> None:
    """Show a folder at another place, where it may be changed without changing the folder itself."""
    for name in ("upper", "scratch"):
        os.mkdir(f"{OLD}{changes}/{name}")
    layers = f"lowerdir={OLD}{source},upperdir={OLD}{changes}/upper,workdir={OLD}{changes}/scratch"
    os.makedirs(target, exist_ok=True)
    try:
        mount("overlay", target, "overlay", NO_SUID | NO_DEV, f"{layers},userxattr")
    except OSError:  # not on every kernel, nor on every file system
        mount("tmpfs", target, "tmpfs", NO_SUID | NO_DEV, "mode=755")
        shutil.copytree(OLD + source, target, dirs_exist_ok=True)


def show_system() -> None:
    for path in (*SYSTEM, *(f"/etc/{name}" for name in CONFIGURATION)):
        if os.path.islink(OLD + path) and not path.startswith("/etc/"):
            os.symlink(os.readlink(OLD + path), path)
        elif os.path.exists(OLD + path):
            show(path)
    for path in (*(f"/dev/{name}" for name in DEVICES), *glob.glob(OLD + "/dev/nvidia*")):
        show(path.removeprefix(OLD), writable=True)
    os.makedirs("/dev/shm")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"/dev/{name}")
    for folder in ("/tmp", "/dev/shm"):
        os.makedirs(folder, exist_ok=True)
        mount("tmpfs", folder, "tmpfs", NO_SUID | NO_DEV, "mode=1777")
    os.mkdir("/proc")
    try:
        mount("proc", "/proc", "proc", NO_SUID | NO_DEV | NO_EXEC)
    except OSError:
        for name in PROCESS_FILES:
            show(f"/proc/{name}")
    else:
        protect_kernel()


def protect_kernel() -> None:
    """Where the workspace runs as root, the step would own the kernel's settings: they become read-only."""
    for name in KERNEL_SETTINGS:
        path = f"/proc/{name}"
        if os.path.exists(path):
            mount(path, path, flags=BIND | RECURSIVE)
            make_read_only(path)


def show(path: str, *, writable: bool = False) -> None:
    """Mount a file or folder of the old root at the same place in the new one; nothing happens if there is none."""
    source = OLD + path
    if not os.path.exists(source):
        return
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.lexists(path):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    mount(source, path, flags=BIND | RECURSIVE)
    if not writable:
        make_read_only(path)


def make_read_only(path: str) -> None:
    """Everything below a mount becomes read-only; on kernels before 5.12 only the mount itself."""
    attributes = struct.pack("=4Q", READ_ONLY | NO_SUID, 0, 0, 0)
    if libc.syscall(MOUNT_SETATTR, HERE, path.encode(), ALL_BELOW, attributes, len(attributes)) == 0:
        return
    kept = os.statvfs(path).f_flag & (NO_SUID | NO_DEV | NO_EXEC)
    mount("none", path, flags=BIND | REMOUNT | READ_ONLY | kept)


def drop_capabilities() -> None:
    """Give up every capability, for good: neither a program nor a set-user-id file brings one back."""
    check(libc.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no_new_privs")
    capability = 0
    while libc.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0) == 0:
        capability += 1
    header, none = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", *[0] * 6)
    check(libc.capset(header, none), "capset")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    result = libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None)
    check(result, f"mount {source} on {target}")


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

if __name__ == "__main__":
    # A probe: can this machine do it? Exit status 0 if so.
    sys.exit(
        run_apart({"readable": [sys.prefix, sys.base_prefix], "writable": []}, lambda: int(os.path.exists("/home")))
    )
