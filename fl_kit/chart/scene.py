"""A picture as a list of drawing primitives, in pixels from the top left corner.

The same scene becomes the live SVG and the final PNG, so that both look the same.
"""

from dataclasses import dataclass

from fl_kit.picture import INK as INK

Point = tuple[float, float]

GREY = "#808080"
BLUE = "#0072B2"
SKY = "#56B4E9"
VERMILION = "#D55E00"
SILO_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", SKY)
"""Okabe and Ito's colours that read on light and dark; vermilion is the federation's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A polyline; `dash` is (on, off) in pixels, or empty for a solid one."""

    points: tuple[Point, ...]
    colour: str
    width: float = 1.5
    dash: tuple[float, ...] = ()
    opacity: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Area:
    """A filled polygon."""

    points: tuple[Point, ...]
    colour: str
    opacity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text with its baseline at `y`; `anchor` is "start", "middle" or "end"."""

    x: float
    y: float
    text: str
    size: float = 11.0
    colour: str = INK
    anchor: str = "start"
    bold: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle, filled or outlined."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    opacity: float = 1.0
    filled: bool = True
    radius: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A sign on a curve: `shape` is "dot", "diamond" (hollow) or "cross"; `size` is half its width."""

    x: float
    y: float
    shape: str
    colour: str
    size: float = 2.0


Item = Line | Area | Text | Box | Mark


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A picture of `width` × `height` pixels; `description` says in words what it shows."""

    width: int
    height: int
    items: tuple[Item, ...]
    description: str
