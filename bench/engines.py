"""Times the engines beside the plain loop, by turns in one process. `python -m bench.engines W2:40 3 exact auto`.

A run is looked at in its second half: workers have started by then, where they pay.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from bench import loop
from bench.child import tell
from bench.federated import prepare
from bench.report import machine, ratios
from bench.result import Mark, Result, loss_difference
from bench.workloads import Workload, named
from sim.in_process import InProcess

MARKS = ("<!-- engines -->", "<!-- /engines -->")
TIMED = ("W1:8", "W2:40", "W2x1000:8", "W3:24")
QUICK = ("W2:6",)
PLAIN = "loop"


def time_engines(workload: Workload, repeats: int, engines: Sequence[str], scratch: Path) -> dict[str, Any]:
    """Engine → seconds of a round in each repeat, beside the loop's, and what it says of itself."""
    ready = prepare(workload, scratch / "silos")
    runs: dict[str, Callable[[], Result]] = {PLAIN: partial(loop.run, workload)}
    runs |= {name: partial(ready.run, InProcess(folder=None, engine=name)) for name in engines}
    found: dict[str, Any] = {name: {"wall": [], "said": "", "difference": 0.0} for name in runs}
    for _ in range(repeats):
        plain: Result | None = None
        for name, run in runs.items():
            result = run()
            plain = plain or result
            found[name]["wall"].append(steady(result.marks))
            found[name]["said"] = result.said
            found[name]["difference"] = loss_difference(result, plain)
    return found


def steady(marks: Sequence[Mark]) -> float:
    """Seconds of a round: the median of a run's second half."""
    rounds = [after[0] - before[0] for before, after in pairwise(marks)]
    return statistics.median(rounds[len(rounds) // 2 :])


def text(found: Mapping[str, Mapping[str, Any]], *, repeats: int, command: str) -> str:
    """The table in Markdown."""
    names = [name for name in next(iter(found.values())) if name != PLAIN]
    rows = [["workload", "loop, s a round", *(f"{name}, × loop" for name in names), "what auto chose"]]
    rows.append(["---"] * len(rows[0]))
    for workload, timed in found.items():
        plain = timed[PLAIN]["wall"]
        cells = [ratios(timed[name]["wall"], plain) for name in names]
        rows.append([workload, f"{statistics.median(plain):.3f}", *cells, timed["auto"]["said"]])
    day = time.strftime("%Y-%m-%d")
    head = (
        f"`{command}`, {day}, {machine()}. {repeats} runs of each, by turns in one process: the median of their ratios "
        "of wall time, least and largest in brackets; a round is the median of a run's second half."
    )
    return "\n".join([head, "", *("| " + " | ".join(row) + " |" for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("repeats", type=int)
    parser.add_argument("engines", nargs="+")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tell(time_engines(named(asked.workload), asked.repeats, asked.engines, Path(scratch)))


if __name__ == "__main__":
    main()
