"""What somebody may ask of a picture, and what log, target and reference lines then draw."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from scripted_run import story, value
from test_layout import collisions, curve_lines, texts

from fl_kit.chart.curves import Curves, Fold
from fl_kit.chart.layout import picture
from fl_kit.chart.look import Look, look_of
from fl_kit.chart.scene import INK, SILO_COLOURS, VERMILION, Line, Mark, Scene
from fl_kit.errors import FlKitError
from fl_kit.events import ROUND_COMPLETED, RUN_STARTED, Event, metric_event


def drawn(look: Look, **script: Any) -> Scene:
    return picture(Fold(story(**script)).curves(), look)


def level_lines(scene: Scene, colour: str) -> list[Line]:
    """The dashed lines across a plot, without the stubs before labels."""
    return [line for line in curve_lines(scene, colour) if line.dash and line.points[0][1] == line.points[-1][1]]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"metrics": "loss"}, "metrics is a tuple of names"),
        ({"log": 1}, "log is True or False, not 1"),
        ({"target": 0.9}, 'target={"auc": 0.9}'),
        ({"target": {"auc": "high"}}, 'target={"auc": 0.9}'),
        ({"target": {"auc": math.nan}}, 'target={"auc": 0.9}'),
        ({"reference": {"auc": 0.9}}, "reference of auc gives each name a number"),
        ({"reference": [1]}, "reference gives each metric labels and values"),
    ],
)
def test_a_look_that_makes_no_sense_is_refused(asked: dict[str, object], words: str) -> None:
    with pytest.raises(FlKitError) as caught:
        look_of(**asked)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_a_logarithmic_axis_makes_an_exponential_a_straight_line() -> None:
    events = [metric_event(round=r, party="global", metric="loss", value=2.0 * 0.7**r) for r in range(11)]
    (line,) = curve_lines(picture(Fold(events).curves(), Look(log=True)), VERMILION)
    heights = [y for _, y in line.points]
    steps = [b - a for a, b in itertools.pairwise(heights)]
    assert steps == pytest.approx([steps[0]] * 10)
    assert steps[0] > 5


def of(values: dict[str, list[float]]) -> Curves:
    return Fold(
        metric_event(round=r, party=party, metric="loss", value=v)
        for party, series in values.items()
        for r, v in enumerate(series)
    ).curves()


def test_what_is_not_above_zero_is_a_gap_and_is_counted() -> None:
    known = of({"global": [1.0, 0.5, 0.2, 0.1, 0.05], "a": [2.0, 1.0, -0.5, 0.0, 0.1]})
    scene = picture(known, Look(log=True))
    assert "2 values ≤ 0 not shown" in texts(scene)
    (line,) = [line for line in curve_lines(scene, SILO_COLOURS[0]) if line.width > 1]
    assert len(line.points) == 2
    assert sum(isinstance(i, Mark) and i.shape == "dot" and i.colour == SILO_COLOURS[0] for i in scene.items) == 1
    assert collisions(scene) == []
    assert not any("≤ 0" in text for text in texts(picture(known)))


def test_a_metric_without_a_positive_value_stays_linear_and_says_so() -> None:
    known = of({"global": [-3.0, -2.0, -1.0, 0.0]})
    scene, plain = picture(known, Look(log=True)), picture(known)
    assert "no value above 0: linear" in texts(scene)
    assert curve_lines(scene, VERMILION) == curve_lines(plain, VERMILION)
    assert collisions(scene) == []


@pytest.mark.parametrize("silos", [3, 8, 9, 100])
@pytest.mark.parametrize("until", [-1, 0, 1, 9, 20])
def test_with_lines_and_a_logarithmic_axis_texts_do_not_collide(silos: int, until: int) -> None:
    look = Look(log=True, target={"loss": 0.5}, reference={"auc": {"centralised": 0.83, "silo-only": 0.81}})
    assert collisions(drawn(look, silos=silos, rounds=20, until=until)) == []


def test_the_target_is_a_dashed_line_at_its_value() -> None:
    # one silo: the loss is 1.75 in round 0, and round 4's value is asked for
    goal = value("loss", 0, 4)
    scene = drawn(Look(metrics=("loss",), target={"loss": goal, "auc": 3.0}), silos=1, rounds=9)
    lines = level_lines(scene, VERMILION)
    (curve,) = [line for line in curve_lines(scene, VERMILION) if not line.dash]
    assert [line.points[0][1] for line in lines] == pytest.approx([curve.points[4][1]] * len(lines))
    assert lines
    assert any(text.startswith("target ") for text in texts(scene))


def test_a_target_beyond_the_curves_is_in_the_picture() -> None:
    scene = drawn(Look(metrics=("auc",), target={"auc": 1.5}), silos=2)
    (y,) = {line.points[0][1] for line in level_lines(scene, VERMILION)}
    assert y < min(y for line in curve_lines(scene, VERMILION) if not line.dash for _, y in line.points) - 20


def test_the_run_s_own_stop_rule_is_the_target_unless_another_is_asked_for() -> None:
    rule = {"rounds": 5, "stop": {"metric": "auc", "value": 0.75}}
    begun = Event(time=0.0, round=0, party="orchestrator", name=RUN_STARTED, value=rule)
    known = Fold([*story(), begun]).curves()
    assert "target 0.750" in texts(picture(known))
    assert "target 0.900" in texts(picture(known, Look(target={"auc": 0.9})))
    assert not any(text.startswith("target") for text in texts(picture(known, Look(target={}))))
    patience = Event(
        time=0.0, round=0, party="orchestrator", name=RUN_STARTED, value={"stop": {"metric": "auc", "patience": 3}}
    )
    assert Fold([patience]).curves().target == {}


def test_baselines_are_labelled_lines_in_their_own_panel() -> None:
    scene = drawn(Look(reference={"auc": {"centralised": 0.83, "silo-only": 0.79}}), silos=2, rounds=9)
    assert {"centralised 0.830", "silo-only 0.790"} <= set(texts(scene))
    lines = level_lines(scene, INK)
    assert len({line.points[0][1] for line in lines}) == 2
    assert all(line.points[0][0] > 480 for line in lines), "the loss has none"


def test_the_plot_for_a_paper_has_no_progress() -> None:
    with_header, without = drawn(Look(), silos=2), drawn(Look(header=False), silos=2)
    assert with_header.height - without.height == 60
    assert not any("completed after" in text for text in texts(without))
    assert collisions(without) == []


def test_where_the_seconds_of_a_round_went() -> None:
    value = {"seconds": 2.0, "compute": 1.4, "wait": 0.5, "transfer": 0.1}
    done = Event(time=0.0, round=1, party="orchestrator", name=ROUND_COMPLETED, value=value)
    scene = picture(Fold([*story(until=0), done]).curves())
    assert any("2.0 s/round (compute 1.4 s, wait 0.50 s, transfer 0.10 s)" in text for text in texts(scene))
    assert not any("compute" in text for text in texts(drawn(Look(), until=2)))
    nearly_all = replace(done, value={"seconds": 2.0, "compute": 1.91, "wait": 0.08, "transfer": 0.01})
    assert not any("compute" in text for text in texts(picture(Fold([*story(until=0), nearly_all]).curves())))
    start = replace(done, round=0)
    assert Fold([start]).curves().split == {}


@pytest.mark.parametrize("until", range(0, 21, 2))
def test_a_level_line_leaves_no_stub_right_of_its_label(until: int) -> None:
    look = Look(target={"loss": 0.62, "auc": 0.85}, reference={"auc": {"centralised": 0.83}})
    scene = drawn(look, silos=4, rounds=20, until=until)
    lines = [line for colour in (VERMILION, INK) for line in level_lines(scene, colour)]
    starts = {min(line.points[0][0] for line in lines if line.points[0][0] // 480 == side) for side in (0, 1)}
    assert lines
    assert all(line.points[1][0] - line.points[0][0] > 60 for line in lines if line.points[0][0] not in starts)
