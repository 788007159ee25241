"""What a measuring module does when its name is typed: `python -m bench.timing W2 5`."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.child import tell
from bench.workloads import Workload, named


def tell_of(measure: Callable[[Workload, int, Path], dict[str, Any]], about: str | None) -> None:
    """Measure the workload that was typed, so many times, in a folder of its own, and print the figures.

    about  the docstring of the module that is run
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("workload")
    parser.add_argument("repeats", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tell(measure(named(asked.workload), asked.repeats, Path(scratch)))
