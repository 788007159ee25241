"""The picture of contributions: a running sum for each silo, named at its end."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fl_kit.picture import INK, new_figure
from sim.comparison_picture import style
from sim.evaluation.race_picture import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMED = 8
"""So many silos, the largest in size, are named and coloured; the rest are thin and grey."""


def draw(metric: str, rounds: Sequence[int], values: Mapping[str, Sequence[float]]) -> "Figure":
    """A matplotlib figure with a transparent ground; nan in values is a round without the silo."""
    figure = new_figure(8.2, 3.9, layout="constrained")
    axes = figure.subplots()
    sums = {silo: running(found) for silo, found in values.items()}
    named = sorted(sums, key=lambda silo: abs(sums[silo][-1]), reverse=True)[:NAMED]
    for silo, found in sums.items():
        colour = COLOURS[named.index(silo)] if silo in named else INK
        axes.plot(
            rounds, found, color=colour, linewidth=1.8 if silo in named else 0.7, label=silo if silo in named else None
        )
    axes.axhline(0, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    axes.set_xlabel("round", color=INK)
    axes.set_title(
        f"{metric} gained by each silo's updates, added up (above 0 is better)", loc="left", fontsize=10, color=INK
    )
    style(axes)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: sums[labels[i]][-1], reverse=True)
    figure.legend(
        [handles[i] for i in order], [labels[i] for i in order],
        loc="outside right center", frameon=False, labelcolor=INK, fontsize=9,
    )  # fmt: skip
    return figure


def running(values: Sequence[float]) -> list[float]:
    """The running sum, which stands still where a value is nan."""
    total, found = 0.0, []
    for value in values:
        total += 0.0 if math.isnan(value) else value
        found.append(total)
    return found
