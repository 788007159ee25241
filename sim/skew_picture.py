"""The picture of a `Skew`: bars of the label mix, and a heat map of what is missing.

Okabe–Ito colours on a transparent ground, grey ink: readable on light and on dark without a switch.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.picture import INK, PALETTE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = ("#FBE6D8", "#D55E00")
"""Almost none missing, all missing: opaque, so that black figures read on either ground."""
SMALL = 8.5
CENTRE: dict[str, Any] = {"ha": "center", "va": "center"}
MOST_COLUMNS = 20
"""More columns than this do not fit; the emptiest are shown."""


def draw(
    *,
    label: str,
    silos: Sequence[str],
    rows: Sequence[int],
    classes: Sequence[str],
    shares: NDArray[np.float64],
    divergence: NDArray[np.float64],
    columns: Sequence[str],
    missing: NDArray[np.float64],
) -> "Figure":
    """A matplotlib Figure with an Agg canvas; `columns` and `missing` may be empty, which leaves the bars only.

    shares      (silos, classes), each row summing to 1
    divergence  (silos,), in bits
    missing     (silos, columns), in [0, 1]
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    shown = emptiest(missing)
    widths = [5.2, max(1.6, 0.4 * len(shown))] if len(shown) else [5.2]
    figure = new_figure(sum(widths) + 0.6, 1.5 + 0.4 * len(silos), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.08))
    panels = figure.subplots(1, len(widths), sharey=True, width_ratios=widths, squeeze=False)[0]
    if len(shown):
        draw_missing(panels[1], [columns[i] for i in shown], missing[:, shown])
    names = [f"{name}  {count:,}" for name, count in zip(silos, rows, strict=True)]
    draw_mix(panels[0], label, names, classes, shares)
    write_heads(panels[0], divergence)
    return figure


def emptiest(missing: NDArray[np.float64]) -> NDArray[np.int64]:
    """The columns to show, in their order: at most 20, those with the largest gaps."""
    if missing.shape[1] == 0:
        return np.zeros(0, dtype=np.int64)
    return np.sort(np.argsort(-missing.max(axis=0), kind="stable")[:MOST_COLUMNS])


def draw_mix(
    axes: "Axes", label: str, names: Sequence[str], classes: Sequence[str], shares: NDArray[np.float64]
) -> None:
    """One bar per silo, cut by class."""
    lefts = np.zeros(len(names))
    for i, name in enumerate(classes):
        colour, alpha = PALETTE[i % len(PALETTE)], 0.6 ** (i // len(PALETTE))
        axes.barh(range(len(names)), shares[:, i], 0.72, left=lefts, color=colour, alpha=alpha, label=name)
        for silo, share in enumerate(shares[:, i]):
            if share >= 0.08:
                ink = "white" if colour == "#0072B2" else "black"
                axes.text(lefts[silo] + share / 2, silo, f"{share:.0%}", color=ink, fontsize=SMALL, **CENTRE)
        lefts = lefts + shares[:, i]
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.legend(
        title=label,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=min(len(classes), 5),
        frameon=False,
        labelcolor=INK,
        fontsize=SMALL,
        title_fontproperties={"size": SMALL, "weight": "bold"},
        alignment="left",
        borderaxespad=0.2,
        borderpad=0,
        handlelength=1,
        handleheight=1,
        columnspacing=1.2,
    ).get_title().set_color(INK)
    bare(axes)


def write_heads(axes: "Axes", divergence: NDArray[np.float64]) -> None:
    """What stands left of the bars, and the distance from the pooled mix at the end of each."""
    axes.text(-0.01, -0.6, "rows", color=INK, fontsize=SMALL, ha="right", va="bottom", weight="bold")
    axes.text(1.02, -0.6, "JS, bits", color=INK, fontsize=SMALL, va="bottom", weight="bold")
    for silo, distance in enumerate(divergence):
        axes.text(1.02, silo, f"{distance:.3f}", color=INK, fontsize=SMALL, va="center")


def draw_missing(axes: "Axes", columns: Sequence[str], missing: NDArray[np.float64]) -> None:
    """One cell per silo and column, the stronger the emptier; a dot where nothing is missing."""
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("missing", list(MISSING))
    axes.imshow(np.ma.masked_equal(missing, 0), cmap=scale, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for (silo, column), share in np.ndenumerate(missing):
        words = "·" if share == 0 else "<1" if share < 0.01 else f"{math.floor(100 * share + 1e-9)}"
        axes.text(column, silo, words, color="black" if share else INK, fontsize=SMALL, **CENTRE)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="left", rotation_mode="anchor", color=INK)
    axes.xaxis.tick_top()
    axes.set_xlabel("missing, % of rows", color=INK, fontsize=SMALL, loc="left")
    bare(axes)


def bare(axes: "Axes") -> None:
    """No frame and no ticks; small grey names."""
    axes.patch.set_alpha(0)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=SMALL, colors=INK)
