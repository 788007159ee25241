"""A scene as a matplotlib figure and as PNG: no pyplot, hence no global state and no window."""

import io
import warnings
from functools import singledispatch
from typing import TYPE_CHECKING, Literal

from fl_kit.chart.scene import Area, Box, Line, Mark, Scene, Text
from fl_kit.picture import new_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 100
POINTS_PER_PIXEL = 72 / PIXELS_PER_INCH
ALIGNMENT: dict[str, Literal["left", "center", "right"]] = {"start": "left", "middle": "center", "end": "right"}
SHARPNESS = 2
"""Device pixels a scene pixel, so that the PNG stays sharp on dense screens."""


def to_figure(scene: Scene) -> "Figure":
    """The scene on one axis that fills a transparent figure, which a notebook shows by itself."""
    size = (scene.width / PIXELS_PER_INCH, scene.height / PIXELS_PER_INCH)
    figure = new_figure(*size, dpi=PIXELS_PER_INCH * SHARPNESS, facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, scene.width), ylim=(scene.height, 0))
    axes.set_axis_off()
    for rank, item in enumerate(scene.items):
        artist = shape(item)
        artist.set_zorder(rank + 1)
        axes.add_artist(artist)
    return figure


def to_png(scene: Scene) -> bytes:
    """The scene as a PNG file, twice as many pixels each way as the scene."""
    return save(to_figure(scene))


def save(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box stands for a sign the font lacks
        figure.savefig(buffer, format="png", dpi=PIXELS_PER_INCH * SHARPNESS, transparent=True)
    return buffer.getvalue()


@singledispatch
def shape(item: object) -> "Artist":
    raise TypeError(f"no way to draw a {type(item).__name__}")


@shape.register(Line)
def _(item: Line) -> "Artist":
    from matplotlib.lines import Line2D

    line = Line2D(
        [x for x, _ in item.points],
        [y for _, y in item.points],
        color=item.colour,
        linewidth=item.width * POINTS_PER_PIXEL,
        alpha=item.opacity,
        solid_joinstyle="round",
        solid_capstyle="butt",
        dash_capstyle="butt",
        marker="",
    )
    line.set_linestyle((0, tuple(length / item.width for length in item.dash)) if item.dash else "solid")
    return line


@shape.register(Area)
def _(item: Area) -> "Artist":
    from matplotlib.patches import Polygon

    return Polygon(item.points, closed=True, facecolor=item.colour, alpha=item.opacity, linewidth=0)


@shape.register(Text)
def _(item: Text) -> "Artist":
    from matplotlib.text import Text as Writing

    return Writing(
        item.x,
        item.y,
        item.text,
        color=item.colour,
        size=item.size * POINTS_PER_PIXEL,
        family="DejaVu Sans",
        weight="bold" if item.bold else "normal",
        horizontalalignment=ALIGNMENT[item.anchor],
        verticalalignment="baseline",
        parse_math=False,
        usetex=False,
    )


@shape.register(Box)
def _(item: Box) -> "Artist":
    from matplotlib.patches import BoxStyle, FancyBboxPatch

    return FancyBboxPatch(
        (item.x, item.y),
        item.width,
        item.height,
        boxstyle=BoxStyle.Round(pad=0, rounding_size=item.radius) if item.radius else BoxStyle.Square(pad=0),
        facecolor=item.colour if item.filled else "none",
        edgecolor="none" if item.filled else item.colour,
        linewidth=0 if item.filled else POINTS_PER_PIXEL,
        alpha=item.opacity,
    )


@shape.register(Mark)
def _(item: Mark) -> "Artist":
    from matplotlib.lines import Line2D

    marker = {"dot": "o", "diamond": "D", "cross": "x"}[item.shape]
    size = 2 * item.size * POINTS_PER_PIXEL / (2**0.5 if item.shape == "diamond" else 1)
    return Line2D(
        [item.x],
        [item.y],
        color=item.colour,
        marker=marker,
        markersize=size,
        markerfacecolor=item.colour if item.shape == "dot" else "none",
        markeredgewidth=0 if item.shape == "dot" else 1.6 * POINTS_PER_PIXEL,
        linestyle="none",
    )
