"""RunPanel on a loop that the test turns: what it draws and what its controls do (in a real browser: tests/browser)."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import IPython.display
import pytest

from fl_kit import RunPanel
from fl_kit.errors import FlKitError, QuorumLost, Stopped
from fl_kit.widgets import run_panel
from sim.in_process import InProcess
from tests.sim.small import federation, job

sys.path.insert(0, str(Path(__file__).parents[1] / "chart"))
scripted = importlib.import_module("scripted_run")
ScriptedRun, story = scripted.ScriptedRun, scripted.story

FINAL = {"image/svg+xml", "image/png", "text/plain"}
WIDGET = "application/vnd.jupyter.widget-view+json"


class Loop:
    """The kernel's loop, in a time of its own: `turn` calls what is due."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def add_callback(self, call: Callable[[], None]) -> None:
        self.call_later(0.0, call)

    def call_later(self, seconds: float, call: Callable[[], None]) -> None:
        self._due.append((self.now + seconds, call))

    def turn(self, seconds: float) -> int:
        """Let time pass; gives how many calls there were."""
        end, calls = self.now + seconds, 0
        while due := sorted((each for each in self._due if each[0] <= end), key=lambda each: each[0]):
            self.now = max(self.now, due[0][0])
            self._due.remove(due[0])
            due[0][1]()
            calls += 1
        self.now = end
        return calls

    def sleep(self, seconds: float) -> None:
        """What a waiting cell does: time passes, and the loop is held."""
        self.now += seconds


Shown = list[tuple[str, dict[str, Any]]]


class Handle:
    shown: Shown

    def display(self, data: dict[str, Any], metadata: dict[str, Any], raw: bool) -> None:
        assert raw
        self.shown.append(("display", data))

    def update(self, data: dict[str, Any], metadata: dict[str, Any], raw: bool) -> None:
        assert raw
        self.shown.append(("update", data))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    Handle.shown = []
    monkeypatch.setattr(IPython.display, "DisplayHandle", Handle)
    return Handle.shown


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch, shown: Shown) -> Loop:
    """A live front end with a loop of the test's own."""
    turned = Loop()
    monkeypatch.setattr(run_panel, "front_end", lambda: "live")
    monkeypatch.setattr(run_panel, "loop", lambda: turned)
    return turned


def run_of(loop: Loop, delay: float = 0.05, **kwargs: Any) -> Any:
    return ScriptedRun(list(story(silos=3, rounds=20)), delay=delay, clock=loop, sleep=loop.sleep, **kwargs)


def chart(panel: Any) -> str:
    return str(panel._view._chart.value)


def test_it_draws_between_cells_and_one_picture_stays(loop: Loop, shown: Shown) -> None:
    panel = RunPanel(run_of(loop)).show()
    assert [(call, WIDGET in data) for call, data in shown] == [("display", True)]
    assert "FedAvg" in shown[0][1]["text/plain"] or "waiting" in shown[0][1]["text/plain"]
    seen = set()
    while panel.run.status == "running":
        loop.turn(0.5)
        seen.add(chart(panel))
    assert len(seen) > 5
    loop.turn(1.0)
    assert [call for call, _ in shown] == ["display", "update"]
    assert set(shown[1][1]) == FINAL
    assert "completed after 20 rounds" in shown[1][1]["image/svg+xml"]
    assert loop.turn(10.0) == 0, "it goes on ticking after the end"


def test_the_loop_is_left_alone_most_of_the_time(loop: Loop) -> None:
    panel = RunPanel(run_of(loop)).show()
    assert loop.turn(2.0) <= 21
    assert panel.run.stops == 0


def test_an_ended_run_is_just_its_picture(loop: Loop, shown: Shown) -> None:
    panel = RunPanel(run_of(loop, delay=0.0))
    panel._ipython_display_()
    assert [(call, set(data)) for call, data in shown] == [("display", FINAL)]
    assert panel.wait() is panel.run
    panel.show()
    assert [set(data) for _, data in shown] == [FINAL, FINAL]


def test_the_stop_button_stops_the_run_and_leaves_what_is_done(loop: Loop, shown: Shown) -> None:
    panel = RunPanel(run_of(loop, lag=0.3)).show()
    loop.turn(3.0)
    button = panel._view._button
    button.click()
    assert panel.run.stops == 1
    assert button.disabled
    loop.turn(0.6)
    assert "stopped after" in shown[-1][1]["image/svg+xml"]
    assert panel.wait().status == "stopped"


def test_a_stop_that_fails_is_told_and_can_be_tried_again(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = RunPanel(run_of(loop)).show()

    def refuse() -> None:
        raise FlKitError("no <network>")

    monkeypatch.setattr(panel.run, "stop", refuse)
    with pytest.raises(FlKitError):
        panel._view._stop_pressed()
    assert "could not be stopped: no &lt;network&gt;" in panel._view._status.value
    assert not panel._view._button.disabled


@pytest.fixture
def resting(tmp_path: Path) -> Iterator[Any]:
    run = job(rounds=4).run(federation(tmp_path), on=InProcess(folder=None), paused=True)
    yield run.wait(timeout=10)
    run.stop()


def test_a_run_is_made_round_by_round_with_a_button(loop: Loop, resting: Any) -> None:
    panel = RunPanel(resting).show()
    view = panel._view
    assert (view._pause.description, view._step.disabled) == ("Continue", False)
    for round in (1, 2):
        view._step.click()
        assert view._step.disabled
        assert resting.wait(timeout=10).status == "paused"
        loop.turn(1.0)
        assert f"paused after {round} of 4 rounds" in chart(panel)
        assert not view._step.disabled
    resting.change(lr=0.05)
    loop.turn(1.0)
    assert "from round 3 on: lr 0.2 → 0.05" in chart(panel)
    assert panel.wait() is resting, "waiting for a run that rests would hold the kernel for good"
    view._pause.click()
    assert resting.wait(timeout=10).status == "completed"
    loop.turn(1.0)
    assert view._pause.disabled
    assert view._step.disabled


def test_a_run_that_goes_on_is_paused_with_a_button(loop: Loop, tmp_path: Path) -> None:
    run = job(rounds=5_000).run(federation(tmp_path), on=InProcess(folder=None))
    panel = RunPanel(run).show()
    view = panel._view
    assert (view._pause.description, view._step.disabled) == ("Pause", True)
    view._pause.click()
    assert run.wait(timeout=20).status == "paused"
    loop.turn(1.0)
    assert view._pause.description == "Continue"
    run.stop()
    run.wait()


def test_what_a_button_cannot_do_is_told(loop: Loop, resting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = RunPanel(resting).show()

    def refuse(**_: Any) -> None:
        raise FlKitError("all its rounds are <submitted>")

    monkeypatch.setattr(resting, "step", refuse)
    with pytest.raises(FlKitError):
        panel._view._asked(resting.step)
    assert "cannot be done: all its rounds are &lt;submitted&gt;" in panel._view._status.value
    assert not panel._view._step.disabled


def test_a_run_that_cannot_be_paused_has_no_buttons_for_it(loop: Loop) -> None:
    view = RunPanel(run_of(loop)).show()._view
    assert view._pause not in view._controls.children
    assert view._button in view._controls.children


def test_what_is_drawn_can_be_chosen_and_stays_chosen(loop: Loop) -> None:
    panel = RunPanel(run_of(loop)).show()
    loop.turn(1.0)
    view = panel._view
    assert [name for name, _ in view._metric.options] == ["loss and auc", "loss", "auc"]
    view._metric.value = ("auc",)
    loop.turn(0.11)
    assert ">loss<" not in chart(panel)
    assert ">auc<" in chart(panel)
    loop.turn(2.0)
    assert view._metric.value == ("auc",)
    view._metric.value = ()
    loop.turn(0.11)
    assert ">loss<" in chart(panel)
    assert ">0.5<" in chart(panel) or ">0.50<" in chart(panel)
    before = chart(panel)
    view._log.value = True
    loop.turn(0.11)
    assert len(set(before.split(">")) ^ set(chart(panel).split(">"))) > 4


def test_a_choice_is_drawn_at_once_though_nothing_happens_in_the_run(loop: Loop) -> None:
    run = ScriptedRun(list(story(rounds=1)), delay=100.0, clock=loop, sleep=loop.sleep)
    panel = RunPanel(run, metrics=("loss",)).show()
    loop.turn(0.3)
    before = chart(panel)
    panel._view._see(metrics=("auc",))
    loop.turn(0.2)
    assert chart(panel) != before


def test_a_look_is_checked_before_anything_is_shown(loop: Loop) -> None:
    with pytest.raises(FlKitError, match="metrics is a tuple of names"):
        RunPanel(run_of(loop), metrics="loss")  # type: ignore[arg-type]


def test_what_the_run_raises_surfaces_where_somebody_waits(loop: Loop, shown: Shown) -> None:
    panel = RunPanel(run_of(loop, status="failed", error=QuorumLost("1 of 3"))).show()
    loop.turn(60.0)
    assert set(shown[-1][1]) == FINAL
    for _ in range(2):
        with pytest.raises(QuorumLost):
            panel.wait()


def test_a_cell_that_waits_goes_on_drawing(loop: Loop, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_panel, "Watcher", watcher_in(loop))
    panel = RunPanel(run_of(loop))
    assert panel.wait() is panel.run
    assert [call for call, _ in shown] == ["display", "update"]
    assert set(shown[-1][1]) == FINAL
    assert loop.turn(5.0) <= 1, "the ticks go on after the wait"
    assert len(shown) == 2


def watcher_in(loop: Loop) -> Any:
    from fl_kit.watcher import Watcher

    return lambda run, view: Watcher(run, view, clock=loop, sleep=loop.sleep)


def test_an_interrupted_wait_stops_the_run(loop: Loop, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_panel, "Watcher", watcher_in(loop))
    panel = RunPanel(run_of(loop)).show()
    loop.turn(1.0)
    sleeps = iter([False, False, True])
    monkeypatch.setattr(loop, "sleep", lambda seconds: interrupt(loop, seconds, next(sleeps, False)))
    monkeypatch.setattr(panel._watcher, "_sleep", loop.sleep)
    with pytest.raises(Stopped, match="stopped on request"):
        panel.wait()
    assert panel.run.stops == 1
    assert "stopped after" in shown[-1][1]["image/svg+xml"]
    loop.turn(5.0)
    assert [call for call, _ in shown] == ["display", "update"]


def interrupt(loop: Loop, seconds: float, now: bool) -> None:
    loop.now += seconds
    if now:
        raise KeyboardInterrupt


def test_a_drawing_that_fails_is_told_and_raised_in_whoever_waits(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = RunPanel(run_of(loop)).show()
    loop.turn(1.0)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no pixels")

    monkeypatch.setattr(panel._view, "update", fail)
    loop.turn(1.0)
    assert "no pixels" in panel._view._status.value
    with pytest.raises(ZeroDivisionError):
        panel.wait()


def test_in_a_terminal_it_waits_and_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FL_KIT_DISPLAY", "text")
    run = ScriptedRun(story(), delay=0.001)
    panel = RunPanel(run, metrics=("auc",))
    assert repr(panel).startswith("RunPanel of run scripted: ")
    panel._ipython_display_()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("run scripted: FedAvg · completed after 5 rounds · auc 0.")
    assert panel.wait() is run
    assert capsys.readouterr().out == ""  # what was said once is not said again by whoever waits
    assert RunPanel(run).wait() is run
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_bar_is_heard_in_steps_of_ten_per_cent(loop: Loop) -> None:
    panel = RunPanel(run_of(loop)).show()
    said = []
    while panel.run.status == "running":
        loop.turn(0.2)
        if panel._view._status.value not in said:
            said.append(panel._view._status.value)
    assert len(said) <= 11
    assert 'role="status"' in said[-1]
