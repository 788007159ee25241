"""The whole picture: its size never jumps, its texts never collide, its lines break where values lack."""

import itertools
import string
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text as Writing
from scripted_run import names, story, value

from fl_kit.chart.curves import Curves, Fold
from fl_kit.chart.figure import SHARPNESS, to_figure
from fl_kit.chart.layout import WIDTH, picture
from fl_kit.chart.look import Look
from fl_kit.chart.scene import SILO_COLOURS, VERMILION, Area, Box, Line, Mark, Scene, Text
from fl_kit.events import RUN_FAILED, Event, metric_event


def curves(**script: object) -> Curves:
    return Fold(story(**script)).curves()  # type: ignore[arg-type]


def texts(scene: Scene) -> list[str]:
    return [item.text for item in scene.items if isinstance(item, Text)]


def curve_lines(scene: Scene, colour: str) -> list[Line]:
    """The lines of one colour, without the stubs of two points that stand before labels."""
    return [
        item
        for item in scene.items
        if isinstance(item, Line) and item.colour == colour and item.points[-1][0] - item.points[0][0] != 14
    ]


def collisions(scene: Scene) -> list[str]:
    """Texts that cover one another or leave the picture, as matplotlib measures them."""
    figure = to_figure(scene)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.axes[0].findobj(Writing)
        if isinstance(text, Writing) and text.get_text()
    ]
    full = figure.bbox
    found = [f"{text!r} leaves the picture" for text, box in boxes if box.x0 < -1 or box.x1 > full.x1 + 1]
    for (a, first), (b, second) in itertools.combinations(boxes, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        along = min(first.y1, second.y1) - max(first.y0, second.y0)
        # a text's box has room for ascenders and descenders that it may not have: a sliver is no collision
        if across > 1 and along > 3 * SHARPNESS:
            found.append(f"{a!r} covers {b!r}")
    return found


@pytest.mark.parametrize("silos", [1, 3, 8, 9, 100])
@pytest.mark.parametrize("until", [-1, 0, 1, 9, 20])
def test_texts_do_not_collide(silos: int, until: int) -> None:
    assert collisions(picture(curves(silos=silos, rounds=20, until=until))) == []


name = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=63)


@settings(max_examples=15)
@given(st.lists(name, min_size=1, max_size=12, unique_by=str.lower), st.integers(0, 30), st.integers(1, 3))
def test_texts_do_not_collide_whatever_the_names(silos: Sequence[str], until: int, panels: int) -> None:
    metrics = ("loss", "auc", "brier_score_of_the_calibrated_model")[:panels]
    known = curves(silos=silos, rounds=30, until=until, metrics=metrics)
    assert collisions(picture(known, Look(metrics=metrics))) == []


@pytest.mark.parametrize("silos", [1, 8, 9, 13, 100])
def test_the_size_is_the_same_in_every_round(silos: int) -> None:
    sizes = {
        (scene.width, scene.height)
        for until in range(-1, 11)
        for scene in [picture(curves(silos=silos, rounds=10, until=until, fails=(0, 3)))]
    }
    assert len(sizes) == 1
    assert sizes.pop()[0] == WIDTH


def test_before_any_value_the_frame_says_what_it_waits_for() -> None:
    scene = picture(curves(until=-1))
    assert "waiting for round 1" in texts(scene)
    assert "No value of loss yet" in scene.description


def test_a_metric_that_never_came_is_named_at_the_end() -> None:
    assert "no value of recall" in texts(picture(curves(), Look(metrics=("loss", "recall"))))


def test_eight_silos_are_eight_lines_with_names() -> None:
    scene = picture(curves(silos=8, metrics=("loss",)))
    said = " ".join(texts(scene))
    assert all(silo in said for silo in names(8))
    styles = {(line.colour, line.dash) for c in SILO_COLOURS for line in curve_lines(scene, c)}
    assert len(styles) == 8
    assert not any(isinstance(item, Area) for item in scene.items)


def test_the_federation_is_the_bold_line_on_top() -> None:
    scene = picture(curves(silos=4, metrics=("loss",)))
    (bold,) = curve_lines(scene, VERMILION)
    rest = [line for c in SILO_COLOURS for line in curve_lines(scene, c)]
    assert all(bold.width >= 2 * line.width for line in rest)
    assert all(scene.items.index(bold) > scene.items.index(line) for line in rest)


def test_nine_silos_are_bands_and_small_panels() -> None:
    scene = picture(curves(silos=9))
    assert sum(isinstance(item, Area) for item in scene.items) == 4
    assert sum(isinstance(item, Box) and not item.filled for item in scene.items) == 9
    assert "loss by silo, worst first" in texts(scene)
    assert any(text.startswith("highest hospital-009") for text in texts(scene))
    assert any(text.startswith("lowest hospital-001") for text in texts(scene))


def test_a_hundred_silos_show_the_twelve_worst_and_say_how_many_more() -> None:
    scene = picture(curves(silos=100, rounds=3))
    said = texts(scene)
    assert sum(isinstance(item, Box) and not item.filled for item in scene.items) == 12
    assert "loss by silo, worst first … and 88 more" in said
    # the scripted loss grows with the silo's number
    shown = [text.removeprefix("▲ ") for text in said if text.removeprefix("▲ ") in set(names(100))]
    assert shown == [f"hospital-{i:03d}" for i in range(100, 88, -1)]


def test_the_worst_auc_is_the_lowest() -> None:
    scene = picture(curves(silos=9, rounds=3), Look(metrics=("auc",)))
    shown = [text for text in texts(scene) if text.removeprefix("▲ ") in set(names(9))]
    assert shown[0] == "hospital-009"


def test_a_silo_a_quarter_worse_is_marked() -> None:
    # losses at a round are proportional to .35 + .05 i, mean .35 + .05 · 4 = .55 for nine silos;
    # a quarter more is .6875, which i = 7 (.70) and i = 8 (.75) exceed and i = 6 (.65) does not
    marked = [text for text in texts(picture(curves(silos=9, rounds=3))) if text.startswith("▲ hospital")]
    assert marked == ["▲ hospital-009", "▲ hospital-008"]


def test_a_gap_breaks_the_line_and_a_lone_value_is_a_dot() -> None:
    # silo 0 has values in rounds 0 to 2, 4, and 6 to 10
    known = curves(silos=2, rounds=10, metrics=("loss",), missing=lambda silo, r: silo == 0 and r in (3, 5))
    scene = picture(known)
    lines = [line for line in curve_lines(scene, SILO_COLOURS[0]) if len(line.points) > 2]
    assert [len(line.points) for line in lines] == [3, 5]
    assert sum(isinstance(item, Mark) and item.colour == SILO_COLOURS[0] for item in scene.items) == 1
    (whole,) = curve_lines(scene, SILO_COLOURS[1])
    assert len(whole.points) == 11


def test_the_axis_spans_all_rounds_from_the_start() -> None:
    early, late = (picture(curves(rounds=10, until=until, metrics=("loss",))) for until in (2, 10))
    (short,), (long,) = curve_lines(early, VERMILION), curve_lines(late, VERMILION)
    assert [x for x, _ in short.points] == pytest.approx([x for x, _ in long.points[:3]])


def test_lines_are_where_the_values_are() -> None:
    # one silo: the loss runs from .35 · 5 = 1.75 down, and the axis has a mark at 1.0 and at 1.4
    scene = picture(curves(silos=1, rounds=4, metrics=("loss",)))
    height = {item.text: item.y - 4 for item in scene.items if isinstance(item, Text) and item.anchor == "end"}
    (line,) = curve_lines(scene, VERMILION)
    one, more = height["1.0"], height["1.4"]
    expected = [one + (more - one) * (value("loss", 0, r) - 1) / 0.4 for r in range(5)]
    assert [y for _, y in line.points] == pytest.approx(expected)


def test_the_best_round_is_marked() -> None:
    events = [metric_event(round=r, party="global", metric="loss", value=v) for r, v in enumerate([3.0, 1.0, 2.0])]
    scene = picture(Fold(events).curves())
    (line,) = curve_lines(scene, VERMILION)
    (diamond,) = (item for item in scene.items if isinstance(item, Mark) and item.shape == "diamond")
    assert (diamond.x, diamond.y) == pytest.approx(line.points[1])
    assert "best 1.00 in round 1" in texts(scene)


def test_failures_are_marked_on_the_axis_and_said_in_words() -> None:
    scene = picture(curves(silos=3, rounds=6, fails=(1, 3), metrics=("loss",)))
    (cross,) = (item for item in scene.items if isinstance(item, Mark) and item.shape == "cross")
    (line,) = curve_lines(scene, VERMILION)
    assert cross.x == pytest.approx(line.points[3][0])
    assert "✕ round 3, hospital-002: left out: no column <age> (and 1 more)" in texts(scene)
    assert "hospital-002 left out" in texts(scene)


def test_a_failed_run_says_why() -> None:
    failed = Event(time=0.0, round=2, party="global", name=RUN_FAILED, value="QuorumLost: 1 of 3 silos")
    scene = picture(Fold([*story(until=2), failed]).curves())
    assert "✕ failed: QuorumLost: 1 of 3 silos" in texts(scene)
    assert any(isinstance(item, Box) and item.colour == VERMILION for item in scene.items)


def test_a_value_off_the_scale_points_there() -> None:
    events = list(story(silos=3, rounds=20, metrics=("loss",)))
    events += [metric_event(round=r, party="hospital-002", metric="loss", value=1e6) for r in (19, 20)]
    scene = picture(Fold(events).curves())
    assert any(text.startswith("hospital-002 1e+06↑") for text in texts(scene))
    assert "2.0" in texts(scene)


@pytest.mark.parametrize("rounds", [300, 5000])
def test_no_line_has_more_than_240_points(rounds: int) -> None:
    scene = picture(curves(silos=9, rounds=rounds))
    assert max(len(item.points) for item in scene.items if isinstance(item, Line)) <= 240
    assert max(len(item.points) for item in scene.items if isinstance(item, Area)) <= 2 * 120


def test_rounds_may_be_unknown_and_silos_unannounced() -> None:
    scene = picture(Fold([metric_event(round=1, party="a", metric="loss", value=1.0)]).curves())
    assert any(text.startswith("a 1.00") for text in texts(scene))
