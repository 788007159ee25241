"""What it costs that no round is lost and no update is taken for another: `python -m bench.durability W2 5`.

The same job by turns in one process: kept in memory only; with a run folder that nobody waits for and updates whose
origin nobody looks at; and as fl-kit does it, where each round waits for the disk and each update's manifest is
compared with what the round expects. Beside that, the sha256 with which an update that becomes a file is written and
read: within a process nothing is hashed.
"""

import os
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from bench.command import tell_of
from bench.result import Result
from bench.systems import FOLDER, MEMORY, prepared
from bench.workloads import Workload
from fl_kit import door
from fl_kit.tensors import digest

IN_MEMORY, UNGUARDED, AS_IT_IS = "in memory", "unguarded", "as it is"
WAYS = (IN_MEMORY, UNGUARDED, AS_IT_IS)
LIMIT = 1.02
"""As many times a round without them may a round with them take."""
MARKS = ("<!-- durability -->", "<!-- /durability -->")


@contextmanager
def unguarded() -> Iterator[None]:
    """Nobody waits for the disk, and the orchestrator's door asks no update where it comes from."""
    with patch.object(os, "fsync", lambda handle: None), patch.object(door, "unexpected", lambda *given: ""):
        yield


def measure(workload: Workload, repeats: int, scratch: Path) -> dict[str, Any]:
    """Seconds of a round in each way and repeat, and of the sha256 of one update."""
    runs = {way: prepared(MEMORY if way == IN_MEMORY else FOLDER, workload, scratch) for way in WAYS}
    results: dict[str, list[Result]] = {way: [] for way in WAYS}
    for number in range(repeats + 1):
        for way in WAYS if number % 2 else reversed(WAYS):
            if way == UNGUARDED:
                with unguarded():
                    result = runs[way]()
            else:
                result = runs[way]()
            shutil.rmtree(scratch / "runs", ignore_errors=True)
            if number:  # the first of each makes the data, and is not counted
                results[way].append(result)
    parameters = model(results[AS_IT_IS][0])
    return {
        "silos": workload.silos,
        "wall": {way: [result.wall for result in results[way]] for way in WAYS},
        "cpu": {way: [result.cpu for result in results[way]] for way in WAYS},
        "same": len({digest(model(result)) for way in WAYS for result in results[way]}) == 1,
        "sha256": min(seconds_of_digest(parameters) for _ in range(5)),
    }


def model(result: Result) -> dict[str, torch.Tensor]:
    return {str(number): value for number, value in enumerate(result.parameters)}


def seconds_of_digest(tensors: dict[str, torch.Tensor]) -> float:
    start = time.perf_counter()
    digest(tensors)
    return time.perf_counter() - start


def ratio(found: Mapping[str, Sequence[float]], way: str, other: str) -> tuple[float, float, float]:
    """The median, least and largest of the ratios of runs that came one after the other."""
    ratios = [a / b for a, b in zip(found[way], found[other], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def is_within(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether fsync and the look at manifests cost no workload more than the limit, and all ways gave the same bits."""
    return all(each["same"] and ratio(each["wall"], AS_IT_IS, UNGUARDED)[0] <= LIMIT for each in found.values())


def text(found: Mapping[str, Mapping[str, Any]], *, repeats: int, command: str) -> str:
    """A table in Markdown."""
    columns = (
        "workload", "a round, s", "with fsync and manifests, × without", "CPU",
        "run folder, × in memory", "sha256 of an update as a file", "same bits",
    )  # fmt: skip
    rows = [columns, ("---",) * len(columns), *(row(name, each) for name, each in found.items())]
    head = (
        f"`{command}`. {repeats} runs of each, by turns in one process: the median of their ratios, least and largest "
        "in brackets; a round is the median of those after the first."
    )
    verdict = (
        f"- fsync and manifests cost at most {LIMIT - 1:.0%} of a round: {'yes' if is_within(found) else '**no**'}"
    )
    return "\n".join([head, "", *("| " + " | ".join(cells) + " |" for cells in rows), "", verdict])


def row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    whole = ratio(found["wall"], AS_IT_IS, UNGUARDED), ratio(found["cpu"], AS_IT_IS, UNGUARDED)
    return (
        name,
        f"{statistics.median(found['wall'][AS_IT_IS]):.3f}",
        *map(shown, whole),
        shown(ratio(found["wall"], AS_IT_IS, IN_MEMORY)),
        f"{found['sha256'] * 1e3:.2f} ms",
        "yes" if found["same"] else "**no**",
    )


def shown(found: tuple[float, float, float]) -> str:
    middle, least, largest = found
    return f"**{middle:.3f}** ({least:.3f}–{largest:.3f})"


if __name__ == "__main__":
    tell_of(measure, __doc__)
