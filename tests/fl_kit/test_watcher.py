"""`watch`: how often it draws, how it ends, and what it leaves in a notebook."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
import pytest

from fl_kit.chart.curves import Curves
from fl_kit.errors import FlKitError, QuorumLost, StepFailed, Stopped
from fl_kit.watcher import Interrupted, Watcher, watch

SCRIPTS = Path(__file__).parent / "chart"
sys.path.insert(0, str(SCRIPTS))
scripted = importlib.import_module("scripted_run")
ScriptedRun, story = scripted.ScriptedRun, scripted.story


class Clock:
    """A time that passes only by sleeping and by what takes time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.interrupts: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Sleep; an interrupt that is due comes in the middle of it."""
        self.now += seconds
        if self.interrupts and self.now >= self.interrupts[0]:
            del self.interrupts[0]
            raise KeyboardInterrupt


class Recorder:
    """A view that takes `cost` seconds to draw and notes when it did, and what."""

    def __init__(self, clock: Clock, cost: Callable[[int], float] = lambda i: 0.0) -> None:
        self._clock = clock
        self._cost = cost
        self.drawn: list[tuple[float, float, Curves]] = []
        self.last: Curves | None = None

    def update(self, curves: Curves, now: float) -> None:
        start = self._clock()
        self._clock.now += self._cost(len(self.drawn))
        self.drawn.append((start, self._clock(), curves))

    def finish(self, curves: Curves, now: float) -> None:
        assert self.last is None
        self.last = curves


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run_of(clock: Clock, delay: float = 0.05, **kwargs: object) -> ScriptedRun:
    events = list(story(silos=3, rounds=20))
    return ScriptedRun(events, delay=delay, clock=clock, sleep=clock.sleep, **kwargs)


def follow(run: ScriptedRun, view: Recorder, clock: Clock) -> ScriptedRun:
    return Watcher(run, view, clock=clock, sleep=clock.sleep).until_the_end()


@pytest.mark.parametrize("cost", [0.0, 0.001, 0.03, 0.2, 2.0])
def test_drawing_takes_a_quarter_of_the_time_at_most(clock: Clock, cost: float) -> None:
    view = Recorder(clock, lambda i: cost)
    follow(run_of(clock), view, clock)
    pairs = list(zip(view.drawn, view.drawn[1:], strict=False))
    assert pairs
    for (start, end, _), (then, _, _) in pairs:
        assert end - start <= (then - start) / 4 + 1e-9
        assert then - start >= 0.1 - 1e-9


def test_one_slow_frame_does_not_slow_the_rest(clock: Clock) -> None:
    view = Recorder(clock, lambda i: 1.0 if i == 3 else 0.0)
    follow(run_of(clock), view, clock)
    gaps = [then[0] - now[0] for now, then in zip(view.drawn, view.drawn[1:], strict=False)]
    assert gaps[3] == pytest.approx(4.0, abs=0.06)
    assert max(gaps[:3] + gaps[4:]) < 0.2


def test_an_idle_run_is_redrawn_about_once_a_second(clock: Clock) -> None:
    view = Recorder(clock)
    run = ScriptedRun(list(story(rounds=1))[:3], delay=10.0, clock=clock, sleep=clock.sleep)
    follow(run, view, clock)
    # nothing for 10 s, an event, nothing for 10 s, an event, nothing for 10 s
    assert 25 <= len(view.drawn) <= 33


def test_each_event_is_fetched_once_and_the_picture_is_complete(clock: Clock) -> None:
    run, view = run_of(clock), Recorder(clock)
    assert follow(run, view, clock) is run
    assert run.asked == sorted(run.asked)
    assert view.last is not None
    assert (view.last.done, view.last.status) == (20, "completed")
    assert [curves.done for _, _, curves in view.drawn] == sorted(curves.done for _, _, curves in view.drawn)


def test_the_end_of_the_run_is_not_slept_over(clock: Clock) -> None:
    run, view = run_of(clock, delay=0.01), Recorder(clock, lambda i: 0.5)
    follow(run, view, clock)
    length = 0.01 * len(list(story(silos=3, rounds=20)))
    assert clock() <= length + 0.5 + 0.06


def test_watching_from_the_middle_shows_the_whole_run(clock: Clock) -> None:
    run, view = run_of(clock), Recorder(clock)
    clock.now = 6.0
    follow(run, view, clock)
    assert view.drawn[0][2].done > 5
    assert len(view.drawn[0][2].of("loss")) > 5


def test_a_finished_run_is_just_shown(clock: Clock) -> None:
    run, view = run_of(clock, delay=0.0), Recorder(clock)
    for _ in range(2):
        view.last = None
        assert follow(run, view, clock) is run
        assert view.last is not None
        assert view.drawn == []
    assert clock() == 0.0


@pytest.mark.parametrize("delay", [0.0, 0.05])
@pytest.mark.parametrize(
    "error",
    [QuorumLost("1 of 3 silos"), StepFailed("loss is NaN", op="fit", silo="a", round=3)],
    ids=lambda e: type(e).__name__,
)
def test_a_failed_run_completes_its_picture_and_raises(clock: Clock, delay: float, error: FlKitError) -> None:
    run, view = run_of(clock, delay=delay, status="failed", error=error), Recorder(clock)
    with pytest.raises(type(error)) as caught:
        follow(run, view, clock)
    assert caught.value is error
    assert view.last is not None
    assert view.last.done == 20


def test_an_interrupt_stops_cleanly_completes_the_picture_and_halts(clock: Clock) -> None:
    run, view = run_of(clock, lag=0.7), Recorder(clock)
    clock.interrupts = [5.0]
    with pytest.raises(Stopped) as caught:
        follow(run, view, clock)
    assert run.stops == 1
    assert view.last is not None
    assert view.last.status == "stopped"
    assert clock() == pytest.approx(5.7, abs=0.11)
    assert isinstance(caught.value, Interrupted)
    assert caught.value._render_traceback_() == [f"Stopped: {caught.value}"]
    assert "\n" not in str(caught.value)


def test_a_second_interrupt_gives_up_at_once(clock: Clock) -> None:
    run, view = run_of(clock, lag=1000.0), Recorder(clock)
    clock.interrupts = [5.0, 6.0]
    with pytest.raises(KeyboardInterrupt):
        follow(run, view, clock)
    assert run.stops == 1
    assert clock() == pytest.approx(6.0, abs=0.06)


def test_a_run_that_raises_stopped_after_an_interrupt_says_it_once(clock: Clock) -> None:
    run, view = run_of(clock, error=Stopped("asked to")), Recorder(clock)
    clock.interrupts = [5.0]
    with pytest.raises(Interrupted):
        follow(run, view, clock)
    assert view.last is not None


def test_a_run_that_fails_after_an_interrupt_says_why(clock: Clock) -> None:
    run, view = run_of(clock, error=QuorumLost("1 of 3")), Recorder(clock)
    clock.interrupts = [5.0]
    with pytest.raises(QuorumLost):
        follow(run, view, clock)


@pytest.mark.parametrize("metrics", ["loss", (), ("loss", 3), 5])
def test_metrics_that_are_no_names_are_refused(metrics: object) -> None:
    with pytest.raises(FlKitError, match="metrics is a tuple of names"):
        watch(ScriptedRun(story()), metrics=metrics)  # type: ignore[arg-type]


def test_in_a_script_the_summary_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FL_KIT_DISPLAY", "text")
    run = ScriptedRun(story(), delay=0.001)
    assert watch(run, metrics=("auc",)) is run
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("run scripted: FedAvg · completed after 5 rounds · auc 0.")
    assert "loss" not in line


def test_importing_watch_loads_nothing_heavy() -> None:
    heavy = ("torch", "matplotlib", "IPython", "ipywidgets", "pandas", "numpy")
    code = f"import sys, fl_kit.watcher; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=SCRIPTS.parents[2], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def execute(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> nbformat.NotebookNode:
    """The notebook of one cell, run by papermill in a kernel that finds fl_kit and the scripted run."""
    root = SCRIPTS.parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), str(SCRIPTS)]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "in.ipynb")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    papermill.execute_notebook(folder / "in.ipynb", folder / "out.ipynb", progress_bar=False, cwd=folder)
    return nbformat.read(folder / "out.ipynb", as_version=4)


SETUP = "from scripted_run import ScriptedRun, story\nfrom fl_kit.watcher import watch\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_papermill_leaves_one_picture_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = SETUP + "run = watch(ScriptedRun(story(rounds=5), delay=0.02))"
    outputs = execute(tmp_path, monkeypatch, source).cells[0].outputs
    assert sorted(output.output_type for output in outputs) == ["display_data", "stream"]
    (picture,) = (output for output in outputs if output.output_type == "display_data")
    assert set(picture.data) == {"image/svg+xml", "image/png", "text/plain"}
    (printed,) = (output for output in outputs if output.output_type == "stream")
    assert printed.name == "stdout"
    assert printed.text.count("\n") == 1
    assert printed.text.startswith("run scripted: FedAvg · completed after 5 rounds")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_error_of_a_failed_run_surfaces_in_the_cell_after_its_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        f"{SETUP}from fl_kit.errors import QuorumLost\n"
        "watch(ScriptedRun(story(rounds=5), delay=0.01, status='failed', error=QuorumLost('1 of 3 silos')))"
    )
    with pytest.raises(papermill.exceptions.PapermillExecutionError, match="1 of 3 silos"):
        execute(tmp_path, monkeypatch, source)
    saved = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    (cell,) = (cell for cell in saved.cells if "ScriptedRun" in cell.source)
    kinds = [output.output_type for output in cell.outputs]
    assert kinds.count("display_data") == 1
    assert kinds[-1] == "error"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_interrupted_cell_shows_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        f"import os, signal, threading\n{SETUP}"
        "threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "watch(ScriptedRun(story(rounds=500), delay=0.05))"
    )
    with pytest.raises(papermill.exceptions.PapermillExecutionError):
        execute(tmp_path, monkeypatch, source)
    saved = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    (cell,) = (cell for cell in saved.cells if "ScriptedRun" in cell.source)
    error = cell.outputs[-1]
    assert error.ename == "Interrupted"
    assert len(error.traceback) == 1
    assert error.traceback[0].startswith("Stopped: run scripted was stopped on request")
    (picture,) = (output for output in cell.outputs if output.output_type == "display_data")
    assert "stopped after" in picture.data["image/svg+xml"]
