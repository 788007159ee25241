"""The scene as SVG: well-formed whatever the names, with nothing that runs or loads."""

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_run import story

from fl_kit.chart.curves import Fold
from fl_kit.chart.layout import picture
from fl_kit.chart.scene import Area, Box, Line, Mark, Scene, Text
from fl_kit.chart.svg import to_svg

SVG = "{http://www.w3.org/2000/svg}"
EVERY_KIND = (
    Line(points=((0, 0), (5, 5)), colour="#000000", dash=(5, 3), opacity=0.5),
    Area(points=((0, 0), (5, 5), (0, 5)), colour="#000000", opacity=0.5),
    Text(x=1, y=2, text="a"),
    Text(x=1, y=2, text="b", bold=True, anchor="end"),
    Box(x=0, y=0, width=4, height=4, colour="#000000", radius=2),
    Box(x=0, y=0, width=4, height=4, colour="#000000", filled=False),
    *(Mark(x=1, y=1, shape=shape, colour="#000000") for shape in ("dot", "diamond", "cross")),
)


def scene(*items: object, description: str = "a picture") -> Scene:
    return Scene(width=100, height=50, items=items, description=description)  # type: ignore[arg-type]


def test_every_primitive_is_drawn_once() -> None:
    root = ElementTree.fromstring(to_svg(scene(*EVERY_KIND)))
    drawn = [child.tag.removeprefix(SVG) for child in root][1:]
    assert drawn == ["polyline", "polygon", "text", "text", "rect", "rect", "circle", "polygon", "path"]
    assert root.attrib["role"] == "img"
    assert root.attrib["viewBox"] == "0 0 100 50"


def test_an_unknown_primitive_is_refused() -> None:
    with pytest.raises(TypeError, match="str"):
        to_svg(scene("a circle, please"))


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_well_formed_and_kept(text: str) -> None:
    svg = to_svg(scene(Text(x=0, y=0, text=text), description=text))
    root = ElementTree.fromstring(svg.encode("utf-8"))
    written = root.find(f"{SVG}text")
    assert written is not None
    plain = "".join(c for c in text if c.isprintable())
    assert "".join(c for c in written.text or "" if c.isprintable() and (c != "�" or c in text)) == plain


def test_names_cannot_break_out() -> None:
    evil = ['<script>alert("1")</script>', "a & b", "\"'><img src=x onerror=y>"]
    svg = to_svg(picture(Fold(story(silos=evil, rounds=3, fails=(0, 2))).curves()))
    root = ElementTree.fromstring(svg)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "title", "polyline", "polygon", "text", "rect", "circle", "path"}
    assert "onerror" not in {key for element in root.iter() for key in element.attrib}


def test_nothing_runs_loads_or_styles_the_page() -> None:
    svg = to_svg(picture(Fold(story(silos=12)).curves()))
    for word in ("<script", "<style", "href", "url(", "class=", "id="):
        assert word not in svg


def test_the_background_is_transparent() -> None:
    root = ElementTree.fromstring(to_svg(picture(Fold(story()).curves())))
    boxes = [box for box in root.iter(f"{SVG}rect") if float(box.attrib["height"]) > 20]
    assert boxes == []


def test_the_label_says_the_result() -> None:
    root = ElementTree.fromstring(to_svg(picture(Fold(story(silos=3, rounds=5)).curves())))
    assert "The federation's loss fell from" in root.attrib["aria-label"]
