"""The picture of a comparison: convergence on the left, where each way ends on the right."""

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fl_kit.picture import INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = (0.5, 0.5, 0.5, 0.25)
COLOURS = {"federated": "#D55E00", "centralised": "#0072B2", "silo-only": "#009E73"}
"""Okabe–Ito: told apart by colour-blind readers, on white and on dark. Any other way is one silo alone."""

Values = Mapping[str, Sequence[float]]


def draw(metric: str, better: str, values: Values, curves: Values, seeds: Sequence[int]) -> "Figure":
    """A matplotlib figure with a transparent ground, readable in dark and light.

    values  way → one value per seed      curves  way → the metric after each round, of the first seed
    """
    figure = new_figure(9.2, 3.9, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    draw_curves(left, curves, f"{metric}, seed {seeds[0]}")
    draw_ends(right, values, f"at the end, {len(seeds)} seeds ({better} is better)")
    for axes in (left, right):
        style(axes)
    return figure


def in_order(values: Values) -> list[str]:
    """The three ways first, then each silo."""
    return [*COLOURS, *(way for way in values if way not in COLOURS)]


def draw_curves(axes: Any, curves: Values, title: str) -> None:
    alone = [way for way in curves if way not in COLOURS]
    for way in alone:
        label = "one silo alone" if way == alone[0] else None
        axes.plot(range(len(curves[way])), curves[way], color=INK, linewidth=0.8, alpha=0.55, label=label)
    for way, colour in reversed(COLOURS.items()):
        width = 2.6 if way == "federated" else 1.6
        axes.plot(range(len(curves[way])), curves[way], color=colour, linewidth=width, label=way)
    axes.set_xlabel("round", color=INK)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9, reverse=True)


def draw_ends(axes: Any, values: Values, title: str) -> None:
    ways = in_order(values)
    for row, way in enumerate(ways):
        mean, colour = statistics.fmean(values[way]), COLOURS.get(way, INK)
        axes.plot(values[way], [row] * len(values[way]), "o", color=colour, alpha=0.35, markersize=5, markeredgewidth=0)
        axes.plot([mean], [row], "D", color=colour, markersize=7 if way in COLOURS else 5)
        axes.annotate(
            f"{mean:.3f}", (mean, row), xytext=(0, 8), textcoords="offset points", ha="center", color=colour, fontsize=9
        )
    axes.set_yticks(range(len(ways)), [way if way in COLOURS else f"only {way}" for way in ways])
    axes.set_ylim(len(ways) - 0.4, -0.8)
    axes.set_title(title, loc="left", fontsize=10, color=INK)


def style(axes: Any) -> None:
    axes.patch.set_alpha(0)
    axes.grid(color=GRID)
    axes.tick_params(colors=INK, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
