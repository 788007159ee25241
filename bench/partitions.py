"""Seconds to deal a million labels to a thousand silos. `python -m bench.partitions 1000000 1000 5`."""

import argparse
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from bench.child import tell
from bench.report import machine
from sim.partition import (
    IID,
    ByColumn,
    Continuous,
    Dirichlet,
    DirichletQuantity,
    Grouped,
    InnerDirichlet,
    Partitioner,
    Pathological,
    QuantitySkew,
    Shards,
    Temporal,
)

if TYPE_CHECKING:
    import pandas as pd

CLASSES = 10
MEASURED: Sequence[Partitioner] = (
    IID(),
    Dirichlet(0.3, minimum=1),
    InnerDirichlet(0.3),
    Pathological(2),
    Shards(2),
    DirichletQuantity(0.5, minimum=1),
    QuantitySkew("square"),
    ByColumn("silo"),
    Grouped("site"),
    Continuous("value"),
    Temporal("value"),
)


def table(rows: int, silos: int) -> "pd.DataFrame":
    """Labels of ten classes, a number, a column of silos and one of ten times as many sites."""
    import pandas as pd

    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": random.integers(0, CLASSES, rows),
            "value": random.standard_normal(rows),
            "silo": np.arange(rows) % silos,
            "site": np.arange(rows) % (10 * silos),
        }
    )


def seconds(rows: int, silos: int, repeats: int) -> dict[str, list[float]]:
    """Partitioner → the time of each of its assignments; raises ValueError where not every row was dealt."""
    frame = table(rows, silos)
    found: dict[str, list[float]] = {}
    for by in MEASURED:
        times = []
        for seed in range(repeats):
            begun = time.perf_counter()
            dealt = by.assign(frame, None if isinstance(by, ByColumn) else silos, label="y", seed=seed)
            times.append(time.perf_counter() - begun)
            if len(dealt) != silos or sum(map(len, dealt.values())) != rows:
                raise ValueError(f"{by} dealt {sum(map(len, dealt.values()))} of {rows} rows to {len(dealt)} silos")
        found[str(by)] = times
    return found


def text(found: Mapping[str, Sequence[float]], *, rows: int, silos: int, command: str) -> str:
    """The table and the line above it, in Markdown."""
    head = (
        f"`{command}`, {date.today().isoformat()}, {machine()}. "  # noqa: DTZ011 - the reader's day
        f"{rows:,} labels of {CLASSES} classes to {silos:,} silos: who gets which row, without writing the files; "
        "median of the runs, least and largest in brackets."
    )
    lines = [f"| `{by}` | {statistics.median(t):.2f} s ({min(t):.2f} … {max(t):.2f}) |" for by, t in found.items()]
    return "\n".join([head, "", "| partitioner | time |", "| --- | --- |", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("rows", "silos", "repeats"):
        parser.add_argument(name, type=int)
    asked = parser.parse_args()
    tell(dict(seconds(asked.rows, asked.silos, asked.repeats)))


if __name__ == "__main__":
    main()
