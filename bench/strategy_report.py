"""The table of what each strategy costs beside FedAvg, and why."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from bench.report import machine, ratios

MARKS = "<!-- bench strategies -->", "<!-- /bench strategies -->"
YARDSTICK = "FedAvg"
LITTLE = 0.05
"""Of a pass or of a model: less is a number or two beside it."""

Found = Mapping[str, Mapping[str, Any]]
"""Strategy → what bench.strategies tells of it, for one workload."""


def text(found: Mapping[str, Found], *, repeats: int, command: str) -> str:
    """The table and the line above it, in Markdown; `found` is by workload."""
    columns = ["strategy", *(cell for name in found for cell in (f"{name}, × {YARDSTICK}", "CPU")), "why"]
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    table = [columns, ["---"] * len(columns), *([name, *row(found, name)] for name in names)]
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join([head(repeats, command), "", *lines])


def head(repeats: int, command: str) -> str:
    return (
        f"`{command}`, {date.today().isoformat()}, {machine()}. "  # noqa: DTZ011 - the reader's day
        f"{repeats} runs of each by turns with {YARDSTICK}, in one process: the median of their ratios, least and "
        f"largest in brackets; the row of {YARDSTICK} beside itself shows the noise. A round is the median of those "
        "after the first; CPU is the training thread's own. "
        "Passes are over a silo's training rows, in one round; a model is as many bytes as the model's parameters. "
        "All of it is counted while the strategy runs."
    )


def row(found: Mapping[str, Found], name: str) -> list[str]:
    """One strategy on every workload, and the reasons: the same for all, or each with its workload."""
    cells: list[str] = []
    why: dict[str, list[str]] = {}
    for workload, each in found.items():
        told = each[name]
        if "refused" in told:
            cells += ["–", "–"]
            why.setdefault(f"cannot run: {told['refused']}", []).append(workload)
        else:
            cells += [ratios(told["own"][kind], told["yardstick"][kind]) for kind in ("wall", "cpu")]
            why.setdefault(reasons(told["counts"], each[YARDSTICK]["counts"]), []).append(workload)
    told_once = len(why) == 1
    return [*cells, "; ".join(text if told_once else f"{', '.join(where)}: {text}" for text, where in why.items())]


def reasons(counts: Mapping[str, float], base: Mapping[str, float]) -> str:
    """What a round of a strategy does that one of FedAvg does not."""
    found = []
    if round(counts["steps"]) != round(base["steps"]):
        found.append(f"{counts['steps']:.0f} local steps instead of {base['steps']:.0f}")
    if abs(more := counts["taught"] - base["taught"]) > LITTLE:
        found.append(f"{more:+.1f} passes with gradients")
    if abs(more := counts["measured"] - base["measured"]) > LITTLE:
        found.append(f"{more:+.1f} passes without gradients")
    if counts["changed"]:
        found.append("changes each gradient" if counts["changed"] == 1 else "changes some gradients")
    if abs(counts["sent"] - 1) > LITTLE:
        found.append(f"a silo sends {counts['sent']:.1f} models")
    if counts["kept"] > LITTLE:
        found.append(f"a silo keeps {counts['kept']:.1f} models")
    if counts["held"] > LITTLE:
        found.append(f"the orchestrator keeps {counts['held']:.1f} models")
    return "; ".join(found) or "the same passes and bytes"
