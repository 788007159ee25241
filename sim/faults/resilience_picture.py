"""The picture of resilience: for each attack a heat map of aggregators by number of bad silos."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fl_kit.picture import INK, new_figure
from sim.evaluation.heat_map import BEST, DARK, WORST

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(
    metric: str,
    better: str,
    silos: int,
    bad: Sequence[int],
    values: Mapping[str, Mapping[str, Sequence[float]]],
) -> "Figure":
    """A matplotlib figure with a transparent ground; all attacks share one scale of colours.

    values  attack → aggregator → the metric for each of `bad`
    """
    from matplotlib.colors import LinearSegmentedColormap

    sign = 1.0 if better == "higher" else -1.0
    names = list(next(iter(values.values())))
    every = [sign * value for found in values.values() for line in found.values() for value in line]
    finite = [value for value in every if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    colours = LinearSegmentedColormap.from_list("heat", (WORST, BEST))
    width = 1.6 + len(values) * (0.5 * len(bad) + 0.3)
    figure = new_figure(width, 1.3 + 0.34 * len(names), layout="constrained")
    panels = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for axes, (attack, found) in zip(panels, values.items(), strict=True):
        grid = [[sign * value for value in found[name]] for name in names]
        axes.imshow(grid, cmap=colours, aspect="auto", vmin=low, vmax=high)
        for y, row in enumerate(grid):
            for x, value in enumerate(row):
                share = (value - low) / (high - low) if high > low else 0.0
                colour = "white" if share > DARK else "#222222"
                text = f"{sign * value:.2f}".replace("0.", ".", 1) if 0 <= sign * value < 1 else f"{sign * value:.2g}"
                axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(len(bad)), bad)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(colors=INK, labelsize=9, length=0)
        axes.set_title(attack, loc="left", fontsize=9.5, color=INK)
        axes.spines[:].set_visible(False)
        axes.patch.set_alpha(0)
    figure.supxlabel(f"bad silos of {silos}", fontsize=9, color=INK)
    figure.suptitle(f"final {metric} ({better} is better)", fontsize=10, color=INK, x=0.01, ha="left")
    return figure
