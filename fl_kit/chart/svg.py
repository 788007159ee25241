"""A scene as SVG: no script, no style sheet, a transparent background, about a millisecond."""

import re
from collections.abc import Iterable
from functools import singledispatch
from html import escape

from fl_kit.chart.scene import Area, Box, Line, Mark, Point, Scene, Text

FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 does not allow in a text, even escaped."""


def to_svg(scene: Scene) -> str:
    """The scene as one `<svg>` element that scales down with its column."""
    body = "".join(map(draw, scene.items))
    label = safe(scene.description)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {scene.width} {scene.height}" '
        f'width="{scene.width}" height="{scene.height}" role="img" aria-label="{label}" '
        f'font-family="{FONT}" style="max-width:100%;height:auto"><title>{label}</title>{body}</svg>'
    )


def safe(text: str) -> str:
    """The text as XML content or attribute value."""
    return escape(FORBIDDEN.sub("�", text))


def number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def path(points: Iterable[Point]) -> str:
    return " ".join([f"{x:.1f},{y:.1f}" for x, y in points])


@singledispatch
def draw(item: object) -> str:
    raise TypeError(f"no way to draw a {type(item).__name__}")


@draw.register(Line)
def _(item: Line) -> str:
    dash = f' stroke-dasharray="{" ".join(map(number, item.dash))}"' if item.dash else ""
    opacity = f' stroke-opacity="{item.opacity:g}"' if item.opacity < 1 else ""
    return (
        f'<polyline points="{path(item.points)}" fill="none" stroke="{item.colour}" stroke-width="{item.width:g}" '
        f'stroke-linejoin="round"{dash}{opacity}/>'
    )


@draw.register(Area)
def _(item: Area) -> str:
    return f'<polygon points="{path(item.points)}" fill="{item.colour}" fill-opacity="{item.opacity:g}"/>'


@draw.register(Text)
def _(item: Text) -> str:
    anchor = "" if item.anchor == "start" else f' text-anchor="{item.anchor}"'
    bold = ' font-weight="bold"' if item.bold else ""
    return (
        f'<text x="{number(item.x)}" y="{number(item.y)}" font-size="{item.size:g}" fill="{item.colour}"{anchor}{bold}>'
        f"{safe(item.text)}</text>"
    )


@draw.register(Box)
def _(item: Box) -> str:
    paint = "fill" if item.filled else "stroke"
    none = "" if item.filled else ' fill="none"'
    radius = f' rx="{item.radius:g}"' if item.radius else ""
    return (
        f'<rect x="{number(item.x)}" y="{number(item.y)}" width="{number(item.width)}" height="{number(item.height)}" '
        f'{paint}="{item.colour}" {paint}-opacity="{item.opacity:g}"{none}{radius}/>'
    )


@draw.register(Mark)
def _(item: Mark) -> str:
    x, y, r = item.x, item.y, item.size
    if item.shape == "dot":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}" fill="{item.colour}"/>'
    stroke = f'fill="none" stroke="{item.colour}" stroke-width="1.6"'
    if item.shape == "diamond":
        return f'<polygon points="{path([(x, y - r), (x + r, y), (x, y + r), (x - r, y)])}" {stroke}/>'
    cross = f"M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x - r:.1f} {y + r:.1f}L{x + r:.1f} {y - r:.1f}"
    return f'<path d="{cross}" {stroke}/>'
