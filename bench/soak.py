"""A long run of many silos, of which some fail in each round: does anything grow? `python -m bench.soak 100 200`.

Each silo drops out of a round with probability 5 %. Memory and open files are looked at after a tenth of the rounds
and after the last; they must be the same. Told too: whether every round and every silo stands in the events, and the
sha256 of the result, which a second run must give again.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.child import tell
from bench.federated import prepare
from bench.workloads import named
from fl_kit.events import GLOBAL, METRIC, ROUND_COMPLETED, ROUND_STARTED, SILO_LEFT_OUT, STEP_FAILED, Event
from fl_kit.execute import Inputs, Outputs
from fl_kit.job import Job
from fl_kit.plan import Plan, Step
from fl_kit.protocols import Emit
from sim.engines.engine import Runner
from sim.faults import Drop
from sim.in_process import InProcess

LIKELY = 0.05
"""How likely a silo is to drop out of a round."""
LOSS = f"{METRIC}loss"
MARKS = ("<!-- soak -->", "<!-- /soak -->")
MEMORY, HANDLES = Path("/proc/self/smaps_rollup"), Path("/proc/self/fd")
"""Where Linux tells."""


class Watched(InProcess):
    """Calls `look` with each round whose updates are to be combined."""

    look: Callable[[int], None]

    def watched(self, run: Runner) -> Runner:
        def run_and_look(step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
            if step.op == "aggregate":
                self.look(step.round)
            return run(step, inputs, emit, check)

        return run_and_look


def soak(silos: int, rounds: int, scratch: Path) -> dict[str, Any]:
    """The figures of one run."""
    ready = prepare(named(f"W2x{silos}:{rounds}"), scratch / "silos")
    job = Job(**{**vars_of(ready.job), "min_silos": 1})
    fault, looks = Drop(probability=LIKELY), {}

    def look(round: int) -> None:
        if round in (max(1, rounds // 10), rounds):
            looks[round] = figures_of_process()

    place = Watched(folder=scratch / "runs", keep=2, faults={"*": fault})
    object.__setattr__(place, "look", look)
    start = time.perf_counter()
    run = job.run(ready.federation, on=place).wait()
    seconds = time.perf_counter() - start
    return {
        "silos": silos,
        "rounds": rounds,
        "looks": looks,
        "seconds": seconds,
        "events": len(run.events()),
        "dropped": sum(event.name == SILO_LEFT_OUT for event in run.events()),
        "missing": missing(run.events(), run.plan, dropped_by(fault, run.plan, job.seed)),
        "sha256": run.digest(),
    }


def vars_of(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job.__dataclass_fields__}


def figures_of_process() -> dict[str, int]:
    """Memory in bytes: this process's own, and with the pages of files that it has mapped; and open files.

    How much of a mapped file is here changes with what else runs on the machine.
    """
    lines = MEMORY.read_text().splitlines()
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return {
        "rss": kilobytes["Rss:"] * 1024,
        "own": kilobytes["Anonymous:"] * 1024,
        "handles": len(list(HANDLES.iterdir())),
    }


def dropped_by(fault: Drop, plan: Plan, seed: int) -> set[tuple[int, str]]:
    """(round, silo) of each update that does not arrive."""
    return {(step.round, step.party) for step in plan.steps if fault.strikes(step, 1, seed=seed, place=0)}


def missing(events: Sequence[Event], plan: Plan, dropped: set[tuple[int, str]]) -> list[str]:
    """What should stand in the events and does not, or the other way round.

    In each round every silo tells the figures of the model that the round began with, or is left out with its reason.
    """
    said: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for event in events:
        said["figures" if event.name == LOSS and event.party != GLOBAL else event.name].append(
            (event.round, event.party)
        )
    rounds = range(1, plan.rounds + 1)
    every = {(round, silo) for round in rounds for silo in plan.silos}
    faults = []
    if sorted(said[SILO_LEFT_OUT]) != sorted(dropped) or sorted(said[STEP_FAILED]) != sorted(dropped):
        faults.append("silos left out")
    if {(round + 1, silo) for round, silo in said["figures"] if round < plan.rounds} != every - dropped:
        faults.append("figures")
    if sorted(round for round, _ in said[ROUND_COMPLETED]) != [0, *rounds]:
        faults.append(ROUND_COMPLETED)
    if {round for round, _ in said[ROUND_STARTED]} != {0, *rounds}:
        faults.append(ROUND_STARTED)
    return faults


def is_sound(runs: Sequence[dict[str, Any]]) -> bool:
    """Whether every run told all that it should, and they ended alike."""
    return len({run["sha256"] for run in runs}) == 1 and not any(run["missing"] for run in runs)


def text(runs: Sequence[dict[str, Any]], *, command: str) -> str:
    """The figures of two runs in words."""
    first, second = runs
    looks = [(int(round), found) for round, found in sorted(first["looks"].items(), key=lambda item: int(item[0]))]
    lines = [
        f"`{command}`. {first['silos']} silos × {first['rounds']} rounds, each silo out of a round with probability "
        f"{LIKELY:.0%}; {first['seconds']:.0f} s:",
        "",
        *(
            f"- after round {round}: {found['own'] / 1e6:.1f} MB (RSS {found['rss'] / 1e6:.1f} MB), "
            f"{found['handles']} open files"
            for round, found in looks
        ),
        f"- {first['events']:,} events, {first['dropped']:,} silos left out; missing: "
        f"{', '.join(first['missing']) or 'nothing'}",
        f"- sha256 {first['sha256'][:16]}…; a second run gives "
        f"{'the same' if second['sha256'] == first['sha256'] else 'ANOTHER: ' + second['sha256'][:16] + '…'}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("silos", type=int)
    parser.add_argument("rounds", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tell(soak(asked.silos, asked.rounds, Path(scratch)))


if __name__ == "__main__":
    main()
