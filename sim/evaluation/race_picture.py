"""The picture of a race: curves with the target, and bytes against what they bought."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fl_kit.picture import INK, new_figure
from sim.comparison_picture import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#7A7A7A")
"""Okabe–Ito, its yellow and black replaced by what reads on white and on dark."""
DASHES = ("-", "--", ":", "-.")
"""More jobs than colours go round again in another dash."""


def draw(
    metric: str,
    target: float,
    *,
    curves: Mapping[str, Sequence[float]],
    moved: Mapping[str, Sequence[int]],
    reached: Mapping[str, int | None],
) -> "Figure":
    """A matplotlib figure with a transparent ground: the metric by round, and by bytes moved.

    curves   name → the metric after each round        moved    name → bytes moved up to each round
    reached  name → the round that gets a dot, if any
    """
    figure = new_figure(9.6, 4.2, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    for place, (name, curve) in enumerate(curves.items()):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        look = {"color": colour, "linestyle": dash, "linewidth": 1.8}
        left.plot(range(len(curve)), curve, label=name, **look)
        right.plot([value / 1e6 for value in moved[name]], curve, **look)
        if (round := reached[name]) is not None:
            left.plot([round], [curve[round]], "o", color=colour, markersize=6)
    for axes, title in ((left, f"{metric} by round"), (right, "by MB moved")):
        axes.axhline(target, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        style(axes)
    say = {"xytext": (0, 3), "textcoords": "offset points", "color": INK, "fontsize": 8.5}
    left.annotate(f"target {target:g}", (0, target), **say)
    left.set_xlabel("round", color=INK)
    right.set_xlabel("MB", color=INK)
    figure.legend(loc="outside right center", frameon=False, labelcolor=INK, fontsize=9)
    return figure
