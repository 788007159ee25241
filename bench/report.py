"""The table that the README shows."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from bench.systems import FOLDER, LOOP, MEMORY, SYSTEMS

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
TIMES = ("first", "again")
SUBMITTED = "- A job submitted by the real SDK to a local AzureML workspace"
COLUMNS = (
    "workload",
    "loop, s a round",
    "fl-kit in memory, × loop",
    "CPU",
    "with run folder, × loop",
    "CPU",
    "peak memory beside data: loop, in memory, with folder",
    "end of round 1, s: loop, fl-kit",
    "same result",
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Everything that was measured.

    timings  workload → what bench.timing tells
    memory   (workload, system) → what bench.memory tells
    starts   (workload, system) → what bench.start tells
    imported what `bench.start.import_time` gives
    azureml  what bench.azureml tells
    command  what was typed
    """

    timings: dict[str, dict[str, Any]]
    memory: dict[tuple[str, str], dict[str, Any]]
    starts: dict[tuple[str, str], dict[str, float]]
    imported: dict[str, Any]
    azureml: dict[str, Any]
    repeats: int
    command: str

    @property
    def same(self) -> bool:
        """Whether every workload gave the loop's result."""
        return all(timing["same"] for timing in self.timings.values())


def ratios(ours: Sequence[float], loop: Sequence[float]) -> str:
    """The median of the ratios of runs made one after the other, with the least and the largest."""
    found = [a / b for a, b in zip(ours, loop, strict=True)]
    return f"**{statistics.median(found):.2f}** ({min(found):.2f}–{max(found):.2f})"


def text(figures: Figures) -> str:
    """The table and the lines around it, in Markdown."""
    table = [COLUMNS, ["---"] * len(COLUMNS), *(row(figures, name) for name in figures.timings)]
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join([*head(figures), "", *lines, "", *growth(figures), *start_up(figures), submitted(figures.azureml)])


def head(figures: Figures) -> list[str]:
    return [
        f"`{figures.command}`, {date.today().isoformat()}, {machine()}. "  # noqa: DTZ011 - the reader's day
        f"{figures.repeats} runs of each, by turns in one process: the median of their ratios, least and largest in "
        "brackets. A round is the median of those after the first; CPU is the training thread's own."
    ]


def row(figures: Figures, name: str) -> list[str]:
    timing = figures.timings[name]
    wall, cpu = timing["wall"], timing["cpu"]
    cells = [name, f"{statistics.median(wall[LOOP]):.3f}"]
    for system in (MEMORY, FOLDER):
        cells += [ratios(wall[system], wall[LOOP]), ratios(cpu[system], cpu[LOOP])]
    cells.append(", ".join(megabytes(figures.memory[name, system]) for system in (LOOP, MEMORY, FOLDER)))
    cells.append(", ".join(f"{figures.starts[name, system]['process']:.1f}" for system in (LOOP, FOLDER)))
    cells.append(f"{'yes' if timing['same'] else '**no**'} (loss {timing['difference']:.0e})")
    return cells


def megabytes(memory: dict[str, Any]) -> str:
    """Peak memory above data and imports; as multiples of the model too, unless that is tiny beside it."""
    above, model = memory["above"], memory["model"]
    return f"{above / 1e6:.0f} MB" + (f" ({above / model:.1f} models)" if model > 10 << 20 else "")


def growth(figures: Figures) -> list[str]:
    """What the memory does when there are more silos."""
    grown = dict.fromkeys(workload for workload, _ in figures.memory if workload not in figures.timings)
    return [
        f"- Peak memory with more silos, {workload}: "
        + ", ".join(f"{system} {megabytes(figures.memory[workload, system])}" for system in SYSTEMS)
        for workload in grown
    ]


def start_up(figures: Figures) -> list[str]:
    lines = [
        f"- From a fresh interpreter to the end of round 1, {workload}, {system}: {start['process']:.1f} s,"
        f" of which {start['run']:.2f} s after the call"
        for (workload, system), start in figures.starts.items()
        if workload not in figures.timings
    ]
    torch = "loads torch" if figures.imported["loads_torch"] else "without torch"
    return [*lines, f"- `import fl_kit`: {figures.imported['seconds']:.2f} s, {torch}"]


def submitted(found: dict[str, Any]) -> str:
    """What it takes to hand a large plan to AzureML."""
    first, again = found["first"], found["again"]
    return (
        f"{SUBMITTED}, {found['silos']} silos × {found['rounds']} rounds, {found['steps']} steps: "
        f"{first['seconds']:.1f} s and {first['requests']} requests, "
        f"{first['uploads']} of them for the bundle's files; "
        f"again {again['seconds']:.1f} s and {again['requests']} requests"
    )


def requests_of(found: dict[str, Any]) -> str:
    """Of what kinds the requests are, each time."""
    listed = {time: ", ".join(f"{count} {kind}" for kind, count in found[time]["kinds"].items()) for time in TIMES}
    return "\n".join(f"  {time}: {listed[time]}" for time in TIMES)


def machine() -> str:
    """Processor, cores and versions; nothing that names the machine itself."""
    import torch

    return f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def put_into(readme: Path, table: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Replace what stands between the two marks; raises ValueError if they are not there once each."""
    before, _, after = parts(readme, marks)
    readme.write_text(f"{before}{marks[0]}\n{table}\n{marks[1]}{after}", encoding="utf-8")


def put_line_into(readme: Path, line: str) -> None:
    """Replace only the line about AzureML between the two marks, or add it; raises as `put_into` does."""
    kept = [each for each in parts(readme)[1].strip().splitlines() if not each.startswith(SUBMITTED)]
    put_into(readme, "\n".join([*kept, line]))


def parts(readme: Path, marks: tuple[str, str] = (BEGIN, END)) -> tuple[str, str, str]:
    """What stands before, between and after the two marks."""
    begin, end = marks
    page = readme.read_text(encoding="utf-8")
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"{readme.name} needs {begin} and, after it, {end}, once each")
    before, _, rest = page.partition(begin)
    between, _, after = rest.partition(end)
    return before, between, after
