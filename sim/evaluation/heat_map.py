"""The cross-silo heat map: every model on every silo's data."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fl_kit.picture import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORST, BEST = "#F7E3D4", "#0072B2"
"""Opaque from end to end, so that figures on them read on white and on dark."""
DARK = 0.55
"""From this share of the way to the best on, figures are white."""
MOST_FIGURES = 20
"""With more silos than this, figures would not fit into their cells."""


def draw(
    metric: str, better: str, models: Sequence[str], silos: Sequence[str], values: Sequence[Sequence[float]]
) -> "Figure":
    """A matplotlib figure with a transparent ground.

    values  (models, silos); nan leaves a cell empty
    """
    from matplotlib.colors import LinearSegmentedColormap

    sign = 1.0 if better == "higher" else -1.0
    figure = new_figure(2.6 + max(0.75 * len(silos), 2.4), 1.6 + 0.36 * len(models), layout="constrained")
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("heat", (WORST, BEST))
    axes.imshow([[sign * value for value in row] for row in values], cmap=colours, aspect="auto")
    found = [sign * value for row in values for value in row if not math.isnan(value)]
    low, high = min(found, default=0.0), max(found, default=0.0)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if math.isnan(value) or len(silos) > MOST_FIGURES:
                continue
            share = (sign * value - low) / (high - low) if high > low else 0.0
            colour = "white" if share > DARK else "#222222"
            axes.text(x, y, f"{value:.3f}", ha="center", va="center", fontsize=8.5, color=colour)
    axes.set_xticks(
        range(len(silos)), silos, rotation=30 if len(silos) > 5 else 0, ha="right" if len(silos) > 5 else "center"
    )
    axes.set_yticks(range(len(models)), models)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.set_xlabel("measured on the test rows of", color=INK)
    axes.set_ylabel("trained", color=INK)
    axes.set_title(f"{metric} ({better} is better)", loc="left", fontsize=10, color=INK)
    axes.spines[:].set_visible(False)
    axes.patch.set_alpha(0)
    return figure
