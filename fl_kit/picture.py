"""Matplotlib figures that a notebook shows by themselves, without pyplot and its global state."""

import io
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#767676"
"""Grey that reads on white and on dark: text and axes."""
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Okabe–Ito: told apart by colour-blind readers."""

SHARPNESS = 200
"""Dots an inch of the PNG: twice a screen's, so that it stays sharp on dense ones."""


def new_figure(width: float, height: float, **settings: Any) -> "Figure":
    """An empty figure of that size in inches, on a transparent ground that suits light and dark pages.

    settings  further arguments of matplotlib's Figure, such as layout="constrained"
    """
    figure = shown_figure()(figsize=(width, height), **settings)
    figure.patch.set_alpha(0)
    return figure


@cache
def shown_figure() -> "type[Figure]":
    """Figure with a picture of its own; a plain one shows only where pyplot has been set up."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """A figure that is its own output in a notebook's cell."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            FigureCanvasAgg(self)

        def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=SHARPNESS)
            width, height = self.get_size_inches() * 100
            return buffer.getvalue(), {"width": round(width), "height": round(height)}

    return ShownFigure
