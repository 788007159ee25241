"""The scene as a matplotlib figure: the same primitives as the SVG, and no trace in matplotlib's state."""

import struct
import sys

import matplotlib as mpl
import pytest
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Polygon
from matplotlib.text import Text as Writing
from scripted_run import story

from fl_kit.chart.curves import Fold
from fl_kit.chart.figure import to_figure, to_png
from fl_kit.chart.layout import picture
from fl_kit.chart.scene import Area, Box, Line, Mark, Scene, Text


@pytest.fixture(params=[3, 12])
def scene(request: pytest.FixtureRequest) -> Scene:
    known = Fold(story(silos=request.param, rounds=8, fails=(1, 4), missing=lambda silo, r: silo == 0 and r == 1))
    return picture(known.curves())


def test_every_primitive_becomes_one_artist_in_order(scene: Scene) -> None:
    kinds = {Line: Line2D, Mark: Line2D, Area: Polygon, Box: FancyBboxPatch, Text: Writing}
    axes = to_figure(scene).axes[0]
    artists = sorted(
        (a for a in axes.get_children() if a.get_zorder() > 0.5 and a in drawn(axes)), key=lambda a: a.zorder
    )
    assert [type(artist) for artist in artists] == [kinds[type(item)] for item in scene.items]


def drawn(axes: object) -> list[object]:
    """What was added to the axes, without their own spines, titles and patch."""
    return [*axes.lines, *axes.patches, *axes.texts, *axes.artists]  # type: ignore[attr-defined]


def test_lines_have_the_scene_s_points_and_colours(scene: Scene) -> None:
    lines = [line for line in to_figure(scene).axes[0].lines if line.get_linestyle() != "None"]
    wanted = [item for item in scene.items if isinstance(item, Line)]
    assert len(lines) == len(wanted)
    for line, item in zip(lines, wanted, strict=True):
        assert list(zip(*line.get_data(), strict=True)) == list(item.points)
        assert to_hex(line.get_color()) == item.colour.lower()  # type: ignore[arg-type]


def test_the_png_is_twice_the_scene_and_transparent(scene: Scene) -> None:
    png = to_png(scene)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert (width, height) == (2 * scene.width, 2 * scene.height)
    assert (depth, colour) == (8, 6)


def test_dollars_and_unknown_glyphs_are_plain_text() -> None:
    odd = Text(x=5, y=20, text="$\\frac{1}{$ \U0001f3e5 漢")
    assert to_png(Scene(width=100, height=50, items=(odd,), description=""))


def test_the_picture_does_not_depend_on_the_users_settings(scene: Scene) -> None:
    plain = to_png(scene)
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.facecolor": "red", "lines.marker": "o"}):
        assert to_png(scene) == plain


def test_pyplot_is_not_touched() -> None:
    import subprocess

    code = (
        "import sys\nfrom fl_kit.chart.scene import Scene\nfrom fl_kit.chart.figure import to_png\n"
        "assert 'matplotlib' not in sys.modules\n"
        "to_png(Scene(width=10, height=10, items=(), description=''))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
