"""Several notebooks at a time, and an interrupt that leaves nothing behind."""

import os
import time
from pathlib import Path

import pytest

from fl_kit.regression.bands import Way
from fl_kit.regression.running import find_notebooks, try_all

from .small_notebooks import write_notebook

SLEEP = "import os, time\nopen('pid-' + name, 'w').write(str(os.getpid()))\ntime.sleep(600)"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_an_interrupt_ends_what_is_running_and_starts_nothing_more(tmp_path: Path) -> None:
    quick = write_notebook(tmp_path, "quick", "x = 1")
    slow = [write_notebook(tmp_path, name, SLEEP, parameters=f"name = {name!r}") for name in ("a", "b")]
    outcomes = try_all({path: Way() for path in (quick, slow[0], slow[1])}, tmp_path / "out", jobs=2)
    assert next(outcomes).notebook == "quick"
    limit = time.monotonic() + 60
    while not (tmp_path / "pid-a").exists() or not (tmp_path / "pid-a").read_text():
        assert time.monotonic() < limit
        time.sleep(0.1)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt())  # type: ignore[attr-defined]  # it is a generator
    assert time.monotonic() - start < 10
    kernel = int((tmp_path / "pid-a").read_text())
    limit = time.monotonic() + 30  # a kernel looks once a second whether its parent lives
    while alive(kernel):
        assert time.monotonic() < limit
        time.sleep(0.2)


def test_notebooks_are_found_once_and_in_order(tmp_path: Path) -> None:
    first, second = (write_notebook(tmp_path, name, "x = 1") for name in ("a", "b"))
    assert find_notebooks([tmp_path, second]) == [first, second]
