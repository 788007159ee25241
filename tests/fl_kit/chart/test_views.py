"""What each view leaves behind."""

import base64
import io
from typing import Any
from xml.etree import ElementTree

import IPython.display
import pytest
from scripted_run import story

from fl_kit.chart import views
from fl_kit.chart.curves import Fold
from fl_kit.chart.figure import to_png
from fl_kit.chart.layout import picture
from fl_kit.chart.look import Look
from fl_kit.chart.svg import to_svg
from fl_kit.chart.views import LiveView, StaticView, TextView, live_html

Shown = list[tuple[str, dict[str, Any], dict[str, Any]]]


class Handle:
    def __init__(self, shown: Shown) -> None:
        self._shown = shown

    def update(self, data: dict[str, Any], metadata: dict[str, Any], raw: bool) -> None:
        assert raw
        self._shown.append(("update", data, metadata))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Every call of `display` and of the handle's `update`, in order."""
    calls: Shown = []

    def display(data: dict[str, Any], metadata: dict[str, Any], raw: bool, display_id: bool = False) -> Handle | None:
        assert raw
        calls.append(("display", data, metadata))
        return Handle(calls) if display_id else None

    monkeypatch.setattr(IPython.display, "display", display)
    return calls


def test_the_live_view_is_one_output_replaced_by_a_picture(shown: Shown) -> None:
    view = LiveView("7f3a", Look())
    for until in (0, 1, 2):
        view.update(Fold(story(rounds=5, until=until)).curves(), 0.0)
    view.finish(Fold(story(rounds=5)).curves(), 0.0)
    assert [call for call, _, _ in shown] == ["display", "update", "update", "update"]
    assert all(set(data) == {"text/html", "text/plain"} for _, data, _ in shown[:3])
    assert len({data["text/html"] for _, data, _ in shown[:3]}) == 3
    assert set(shown[3][1]) == {"image/svg+xml", "image/png", "text/plain"}


def test_the_final_svg_and_png_come_from_one_scene(shown: Shown) -> None:
    curves = Fold(story(rounds=5)).curves()
    StaticView("7f3a", Look()).finish(curves, 0.0)
    ((call, data, metadata),) = shown
    scene = picture(curves)
    assert call == "display"
    assert data["image/svg+xml"] == to_svg(scene)
    assert base64.b64decode(data["image/png"]) == to_png(scene)
    assert metadata == {"image/png": {"width": scene.width, "height": scene.height}}


def test_both_are_given_the_same_scene(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(views, "to_svg", lambda scene: drawn.append(scene) or "<svg/>")
    monkeypatch.setattr(views, "to_png", lambda scene: drawn.append(scene) or b"png")
    LiveView("7f3a", Look()).finish(Fold(story()).curves(), 0.0)
    assert len(drawn) == 2
    assert drawn[0] is drawn[1]


def test_the_static_view_prints_one_line(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    view = StaticView("7f3a", Look())
    view.update(Fold(story(until=1)).curves(), 0.0)
    assert shown == []
    view.finish(Fold(story(rounds=5)).curves(), 0.0)
    assert len(shown) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("run 7f3a: FedAvg · completed after 5 rounds · loss ")


def test_the_progress_is_there_for_those_who_hear_it() -> None:
    curves = Fold(story(rounds=25, until=11)).curves()
    html = live_html(curves, picture(curves), 'round "11" of 25')
    root = ElementTree.fromstring(f"<body>{html}</body>")
    bar = root[0].attrib
    assert bar["role"] == "progressbar"
    assert (bar["aria-valuemin"], bar["aria-valuenow"], bar["aria-valuemax"]) == ("0", "11", "25")
    assert bar["aria-valuetext"] == 'round "11" of 25'
    assert "aria-valuemax" not in live_html(Fold().curves(), picture(Fold().curves()), "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_rewritten_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    view = TextView("7f3a", Look(), stream)
    long, short = Fold(story(rounds=25, until=11)).curves(), Fold(story(rounds=25, until=-1)).curves()
    view.update(long, 0.0)
    view.update(short, 0.0)
    view.finish(Fold(story()).curves(), 0.0)
    assert "\n" not in stream.getvalue()
    _, first, second, blank, rest = stream.getvalue().split("\r")
    assert first.startswith("FedAvg · round 11 of 25")
    assert second.rstrip() == "FedAvg · waiting for round 1 · 3 silos"
    assert len(second) == len(first)
    assert blank.strip() == rest == ""
    assert capsys.readouterr().out.startswith("run 7f3a: FedAvg · completed")


def test_a_log_file_has_the_summary_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    view = TextView("7f3a", Look(), stream)
    view.update(Fold(story(until=1)).curves(), 0.0)
    view.finish(Fold(story()).curves(), 0.0)
    assert stream.getvalue() == ""
    assert len(capsys.readouterr().out.splitlines()) == 1
