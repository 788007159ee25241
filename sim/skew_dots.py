"""The picture of a `Skew` with many silos: a dot for each silo and class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fl_kit.picture import INK, PALETTE, new_figure
from sim.skew_picture import SMALL, bare

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 25
"""More silos than this are numbered along the axis, not named."""
POINTS = 72
"""Points an inch, in which matplotlib measures a dot."""


def draw_many(
    *,
    label: str,
    title: str,
    silos: Sequence[str],
    rows: NDArray[np.int64],
    classes: Sequence[str],
    counts: NDArray[np.int64],
) -> "Figure":
    """One figure: silos from left to right, their sizes as bars, below them a row of dots for each class.

    counts  (silos, classes); without classes there are only the bars
    """
    width = min(max(5.0, 0.16 * len(silos)), 14.0)
    heights = [1.0, 0.26 * len(classes)] if classes else [1.0]
    figure = new_figure(width + 1, sum(heights) + 1.0, dpi=110, layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    panels[0].bar(range(len(silos)), rows, 0.8, color=INK)
    panels[0].set_ylabel("rows", color=INK, fontsize=SMALL)
    panels[0].set_title(title, color=INK, fontsize=SMALL, loc="left")
    bare(panels[0])
    if classes:
        draw_dots(panels[1], counts, classes, width / len(silos))
        panels[1].set_ylabel(label, color=INK, fontsize=SMALL)
    name_silos(panels[-1], silos)
    return figure


def draw_dots(axes: "Axes", counts: NDArray[np.int64], classes: Sequence[str], pitch: float) -> None:
    """Area in proportion to rows; the largest dot fills its place of `pitch` inches, a fifth of an inch at most."""
    largest = (min(pitch, 0.2) * POINTS * 0.95) ** 2
    silo, kind = np.nonzero(counts)
    areas = largest * counts[silo, kind] / counts.max()
    axes.scatter(silo, kind, s=areas, c=[PALETTE[k % len(PALETTE)] for k in kind], linewidths=0)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlim(-0.7, len(counts) - 0.3)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    bare(axes)


def name_silos(axes: "Axes", names: Sequence[str], *, upright: bool = False) -> None:
    """Each silo by name where there is room, else every tenth by its number."""
    if len(names) > MOST_NAMES:
        places = [0, *range(9, len(names), 10)]
        axes.set_xticks(places, [str(place + 1) for place in places])
        axes.set_xlabel(f"{len(names)} silos, {names[0]} to {names[-1]}", color=INK, fontsize=SMALL)
    else:
        axes.set_xticks(range(len(names)), names, rotation=0 if upright else 60, ha="center" if upright else "right")
