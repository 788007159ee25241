"""Several federations beside each other: the same data, dealt in different ways."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fl_kit.errors import DataError
from fl_kit.picture import INK, new_figure
from sim.skew import Skew
from sim.skew_dots import draw_dots, name_silos
from sim.skew_picture import SMALL

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_grid(skews: Mapping[str, Skew], columns: int = 4) -> "Figure":
    """Several federations beside each other, each with its name and figures: the area of a dot is its rows.

    skews    name → what `skew` found; the same classes in all
    columns  pictures in a row, at least 1

    Raises DataError where there is nothing to draw or the classes differ.
    """
    if not skews or columns < 1:
        raise DataError("give at least one Skew, and at least one column")
    found = list(skews.values())
    if any(each.classes != found[0].classes for each in found) or not found[0].classes:
        raise DataError("the pictures share their classes: give Skews of one label, with the same classes in all")
    columns = min(columns, len(found))
    rows = -(-len(found) // columns)
    width, height = 2.7, 0.6 + 0.21 * len(found[0].classes)
    figure = new_figure(width * columns + 0.5, height * rows + 0.5, dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (name, each) in zip(panels.flat, skews.items(), strict=False):
        draw_dots(axes, each.counts, each.classes, (width - 0.4) / len(each.silos))
        axes.set_title(f"{name}\n{each.headline}", color=INK, fontsize=SMALL, loc="left")
        name_silos(axes, [str(i + 1) for i in range(len(each.silos))], upright=True)
    for axes in panels.flat[len(found) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel(found[0].label, color=INK, fontsize=SMALL)
    figure.supxlabel("silo", color=INK, fontsize=SMALL)
    return figure
