"""Time and peak memory of each aggregator. `python -m bench.aggregators Krum 20 W3`, in an interpreter of its own."""

import argparse
import time
from collections.abc import Iterator, Mapping
from datetime import date
from types import SimpleNamespace
from typing import Any

import torch

from bench.child import tell
from bench.memory import forget_peak, peak
from bench.report import machine
from bench.workloads import MODELS, WORKLOADS
from fl_kit import aggregators
from fl_kit.messages import Update
from fl_kit.protocols import Aggregator
from fl_kit.tensors import Tensors

TRUSTED = "s00"
MEASURED: Mapping[str, Aggregator] = {
    "Mean": aggregators.Mean(),
    "NormBounded": aggregators.NormBounded(),
    "Median": aggregators.Median(),
    "TrimmedMean": aggregators.TrimmedMean(trim=0.2),
    "GeometricMedian": aggregators.GeometricMedian(),
    "Krum": aggregators.Krum(bad=4),
    "Multi-Krum": aggregators.Krum(bad=4, select=14),
    "Bulyan": aggregators.Bulyan(bad=4),
    "FLTrust": aggregators.FLTrust(trusted=TRUSTED),
}
CONTEXT: Any = SimpleNamespace(step=SimpleNamespace(round=1))


def updates(count: int, workload: str) -> list[Update]:
    """Updates of a workload's model, standard normal and shifted alike, held in memory as they arrive."""
    shapes = {name: p.shape for name, p in MODELS[WORKLOADS[workload].kind]().named_parameters()}
    draws = torch.Generator().manual_seed(0)
    return [
        Update(delta=dict(drawn(shapes, draws)), weight=1.0 + place, silo=f"s{place:02d}") for place in range(count)
    ]


def drawn(shapes: Mapping[str, torch.Size], draws: torch.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    for name, shape in shapes.items():
        yield name, torch.randn(shape, generator=draws) + 0.5


def measured(rule: Aggregator, found: list[Update]) -> dict[str, Any]:
    """Seconds of one call after a warm-up on a small model, and its peak memory above the updates, in bytes."""
    rule(iter(updates(len(found), "W2")), CONTEXT)
    forget_peak()
    before, begun = peak(), time.perf_counter()
    combined: Tensors = rule(iter(found), CONTEXT).delta
    seconds = time.perf_counter() - begun
    size = sum(value.numel() for value in combined.values())
    if not all(bool(torch.isfinite(value).all()) for value in combined.values()):
        raise ValueError(f"{rule} gave what is not finite")
    return {"seconds": seconds, "above": peak() - before, "model": 4 * size, "parameters": size}


def text(found: Mapping[str, dict[str, Any]], *, count: int, command: str) -> str:
    """The table and the line above it, in Markdown."""
    parameters = next(iter(found.values()))["parameters"]
    day = date.today().isoformat()  # noqa: DTZ011 - the reader's day
    return "\n".join(
        [
            f"`{command}`, {day}, {machine()}. {count} updates of {parameters:,} parameters in float32, one thread; "
            f"the updates themselves take {count * parameters * 4 / 1e9:.1f} GB, the peak is what comes on top.",
            "",
            "| aggregator | s | peak beside the updates |",
            "| --- | --- | --- |",
            *(
                f"| {name} | {one['seconds']:.2f} | {one['above'] / 1e6:.0f} MB "
                f"({one['above'] / one['model']:.1f} models) |"
                for name, one in found.items()
            ),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("aggregator", choices=MEASURED)
    parser.add_argument("count", type=int)
    parser.add_argument("workload", choices=WORKLOADS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tell(measured(MEASURED[asked.aggregator], updates(asked.count, asked.workload)))


if __name__ == "__main__":
    main()
