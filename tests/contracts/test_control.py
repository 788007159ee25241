"""A run that is stepped, changed, extended and undone is the same run, to the bit, wherever it runs.

SCAFFOLD, whose silos keep a memory: one that is left out for a round and comes back goes on with its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Scaffold
from fl_kit.audit import verify_audit
from fl_kit.errors import FlKitError
from fl_kit.events import RUN_CHANGED, RUN_PAUSED
from sim.in_process import InProcess
from sim.processes import Processes
from tests.contracts.local_azureml import LocalAzureML
from tests.tasks import QUADRATIC, job, silos

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return silos(tmp_path_factory.mktemp("control") / "silos", ash=[[1, 0]], birch=[[1, 2]], cedar=[[1, 5]])


@pytest.fixture(scope="module", params=[InProcess, LocalAzureML], ids=lambda kind: kind.__name__)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = request.param(folder=tmp_path_factory.mktemp(request.param.__name__))
    yield made
    getattr(made, "close", lambda: None)()


@dataclass
class Story:
    """A run that was led by hand, and the one that branched off it."""

    run: Any
    branch: Any


def led(federation: Federation, place: Any) -> Story:
    """Two rounds alone, the second at another rate; a third without cedar; then one more with it; round 2 undone."""
    run = job(QUADRATIC, strategy=Scaffold(lr=0.5, batch_size=1), rounds=3).run(federation, on=place, paused=True)
    run.step().step(lr=0.25).step(silos=["ash", "birch"])
    run.extend(rounds=1, silos=federation.names)
    run.wait()
    branch = run.undo(to_round=2)
    branch.step(lr=0.125).resume().wait()
    return Story(run, branch)


@pytest.fixture(scope="module")
def expected(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return led(federation, InProcess(folder=tmp_path_factory.mktemp("expected")))


@pytest.fixture(scope="module")
def story(place: Any, federation: Federation) -> Story:
    return led(federation, place)


def test_the_bits_of_each_round(story: Story, expected: Story) -> None:
    assert [story.run.digest(r) for r in range(5)] == [expected.run.digest(r) for r in range(5)]
    assert [story.branch.digest(r) for r in range(4)] == [expected.branch.digest(r) for r in range(4)]
    assert story.run.digest(2) == story.branch.digest(2)
    assert story.run.digest(3) != story.branch.digest(3)


def test_what_was_changed_is_told(story: Story) -> None:
    words = [event.value["words"] for event in story.run.events() if event.name == RUN_CHANGED]
    assert words == [
        "from round 2 on: lr 0.5 → 0.25",
        "from round 3 on: without cedar",
        "from round 4 on: rounds 3 → 4, with cedar again",
    ]
    rests = [event.round for event in story.run.events() if event.name == RUN_PAUSED]
    assert rests[-2:] == [1, 2]  # whether it rested before round 1 depends on who was faster
    assert (story.run.status, story.run.rounds_done) == ("completed", 4)
    lines = [
        entry.event
        for entry in verify_audit(story.run.folder.parent / "audit.jsonl").entries
        if entry.run == story.run.id
    ]
    assert lines.count("changed") == 3
    assert (story.branch.status, story.branch.rounds_done) == ("completed", 3)


def test_the_figures_are_those_of_the_simulation(story: Story, expected: Story) -> None:
    for run, other in ((story.run, expected.run), (story.branch, expected.branch)):
        ours, theirs = (figures(each) for each in (run, other))
        assert ours == theirs


def figures(run: Any) -> dict[tuple[int, str, str], float]:
    frame = run.history()
    return {(r.round, r.party, r.metric): r.value for r in frame.itertuples()}


def test_another_kernel_sees_the_same_run(story: Story, place: Any) -> None:
    again = place.resume(story.run.id).wait()
    assert again.status == "completed"
    assert again.digest() == story.run.digest()
    assert figures(again) == figures(story.run)
    words = [[e.value["words"] for e in run.events() if e.name == RUN_CHANGED] for run in (again, story.run)]
    assert words[0] == words[1]


def test_each_leg_has_its_own_bundle_where_steps_are_processes(federation: Federation, tmp_path: Path) -> None:
    """One silo, since a step takes seconds: round 2 has another rate, so its step has to know of the change."""
    alone, plain = federation.select(["birch"]), job(QUADRATIC, strategy=FedAvg(lr=0.5, batch_size=1), rounds=1)
    runs = [
        plain.run(alone, on=kind(folder=tmp_path / kind.__name__), paused=True).change(rounds=2).step().step(lr=0.25)
        for kind in (InProcess, Processes)
    ]
    assert [runs[0].digest(r) for r in range(3)] == [runs[1].digest(r) for r in range(3)]
    assert runs[1].state().params["w"].item() == 1.25  # 0 → 1 at rate ½ → 1 + (2 − 1)/4


def test_what_is_submitted_at_once_cannot_be_changed_on_its_way(place: Any, federation: Federation) -> None:
    if not isinstance(place, LocalAzureML):
        return  # a simulation asks before each step
    run = job(QUADRATIC, strategy=Scaffold(lr=0.5, batch_size=1), rounds=1).run(federation, on=place)
    with pytest.raises(FlKitError, match="all its rounds are submitted"):
        run.pause()
    with pytest.raises(FlKitError, match="rounds_per_pipeline=1"):
        run.change(lr=0.1)
    run.stop()
    run.wait()
