"""What a faulty machine does to a step that runs on it. The step's own code is not touched.

In a process that sees fl_kit and nothing of sim it runs as a script, in place of `python -m`:

    python in_step.py slow=700 times=1 fl_kit.step --bundle … --step round_003/cleveland/fit …
"""

import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

Words = Mapping[str, float]
"""slow, skew: seconds; crash: at which batch; hang: 1; times: how many attempts inside one process, 0 for all."""

Emit = Callable[[Any], None]
Check = Callable[[], None]


@contextmanager
def on_a_faulty_machine(
    bench: Any, words: Words, emit: Emit, check: Check, crash: Callable[[], NoReturn]
) -> Iterator[tuple[Emit, Check]]:
    """Within the block the bench's clock is that of the machine; gives its `emit` and its `check`.

    crash  ends the step where it stands
    """
    clock, skew = bench.clock, words.get("skew", 0.0)

    def emit_by_its_clock(event: Any) -> None:
        emit(replace(event, time=event.time + skew) if skew else event)

    bench.clock = moving_on(clock, words.get("slow", 0.0))
    try:
        yield emit_by_its_clock, crashing(check, int(words.get("crash", 0)), crash)
    finally:
        bench.clock = clock


def moving_on(clock: Callable[[], float], seconds: float) -> Callable[[], float]:
    """The same clock, which has moved on by so many seconds after the first look at it."""
    looks = 0

    def look() -> float:
        nonlocal looks
        looks += 1
        return clock() + (seconds if looks > 1 else 0.0)

    return look


def crashing(check: Check, at: int, crash: Callable[[], NoReturn]) -> Check:
    """The same check, which crashes at its so manieth call; 0 means never."""
    calls = 0

    def check_both() -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            crash()
        check()

    return check_both


def disturbed(run_step: Callable[..., Any], words: Words) -> Callable[..., Any]:
    """`fl_kit.execute.run_step` on a faulty machine that is a process of its own."""
    attempts = 0

    def run(job: Any, step: Any, inputs: Any, bench: Any, *, emit: Emit, check: Check = lambda: None) -> Any:
        nonlocal attempts
        attempts += 1
        times = words.get("times", 0)
        if times and attempts > times:
            return run_step(job, step, inputs, bench, emit=emit, check=check)
        with on_a_faulty_machine(bench, words, emit, check, killed) as (its_emit, its_check):
            return run_step(job, step, inputs, bench, emit=its_emit, check=its_check)

    return run


def killed() -> NoReturn:
    """What the kernel does to a process for which there is no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(128 + signal.SIGKILL)  # the first process of a container cannot kill itself: this is how others see it


def main(arguments: list[str]) -> None:
    """Run a module as `python -m` does, on a machine with the faults that stand before it."""
    words: dict[str, float] = {}
    while "=" in arguments[0]:
        name, _, value = arguments.pop(0).partition("=")
        words[name] = float(value)
    while words.get("hang"):
        time.sleep(60)
    sys.path[0] = os.getcwd()  # noqa: PTH109 - as `python -m` has it
    from fl_kit import execute

    execute.run_step = disturbed(execute.run_step, words)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
