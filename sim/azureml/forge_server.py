"""The warm process server: a process that has imported torch and forks for each step. Standard library only.

Run as a script by `forge.Forge`, never imported: it must not load fl_kit or sim, since a step brings its own. Reads
one JSON object a line from its socket, and answers with the process id, then with the exit status, of each.
"""

# A small process that stands in for the interpreter itself:
# ruff: noqa: BLE001, SIM105, T201, PTH100, PTH109, PTH120

import atexit
import gc
import importlib
import importlib.util
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path


def main(channel: int, modules: list[str]) -> None:
    """Serve until the other end is gone; then every step that still runs is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    namespaces = load(Path(__file__).with_name("namespaces.py"))
    for name in modules:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    other_end = socket.socket(fileno=channel)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    pending = b""
    say(other_end, {"ready": True})
    while True:
        ready, _, _ = select.select([other_end.fileno(), ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            report(other_end, running)
        if other_end.fileno() in ready:
            data = other_end.recv(1 << 16)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                running[fork(request, namespaces)] = request["id"]
                say(other_end, {"id": request["id"], "pid": next(reversed(running))})
    for process in running:
        kill(process)


def report(other_end: socket.socket, running: dict[int, int]) -> None:
    """Say which steps have ended."""
    while running:
        process, result = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        say(other_end, {"id": running.pop(process), "code": os.waitstatus_to_exitcode(result)})


def fork(request: dict, namespaces) -> int:  # type: ignore[no-untyped-def, type-arg]  # loaded by path
    """A new process that does what is asked; gives its id."""
    process = os.fork()
    if process:
        return process
    code = 125
    try:
        namespaces.libc.prctl(namespaces.SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        prepare(request)
        if request["view"] is None:
            code = work(request)
        else:
            code = namespaces.run_apart(request["view"], lambda: work(request))
    except BaseException:  # the last frame of this process: whatever happens must end it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code if code >= 0 else 128 - code)


def prepare(request: dict) -> None:  # type: ignore[type-arg]
    """A session of its own, the log as output, nothing else open, and nothing of the server's state."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.closerange(3, 4096)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])


def work(request: dict) -> int:  # type: ignore[type-arg]
    """Become the step; gives its exit status."""
    call = request["call"]
    if call is None:
        os.execve("/bin/sh", ["sh", "-c", request["command"]], os.environ)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    random.seed()  # noqa: TID251  a process of its own has a generator of its own; the copy must not repeat
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    os.chdir(call["folder"])
    os.environ.update(call["variables"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    path = [str(Path.cwd() / entry) for entry in call["path"]]
    if path:
        os.environ["PYTHONPATH"] = ":".join([*path, os.environ.get("PYTHONPATH", "")])
    sys.path[:0] = [request["unpacked"].get(entry, entry) for entry in path]
    code = run_python(call["arguments"])
    threading._shutdown()  # type: ignore[attr-defined]  # what Python itself does at its end; there is no public way
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def run_python(arguments: list[str]) -> int:
    """What `python <arguments>` does: a module with -m, or a script."""
    importlib.invalidate_caches()
    sys.path_importer_cache.clear()
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            sys.path.insert(0, os.getcwd())
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as leaving:
        return exit_status(leaving)
    except BaseException:  # as the interpreter itself does: print it, and end with 1
        traceback.print_exc()
        return 1
    return 0


def exit_status(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def kill(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def say(other_end: socket.socket, message: dict) -> None:  # type: ignore[type-arg]
    try:
        other_end.sendall(json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        pass  # the loop sees the end of the channel and leaves


def load(path: Path):  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
