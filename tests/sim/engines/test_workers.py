"""What the workers compute is what the exact engine computes: bits, figures, memories, failures, what is printed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, Scaffold, strategies
from fl_kit.aggregators import Krum, Median
from fl_kit.job import Job
from fl_kit.silo import Federation
from fl_kit.tensors import digest
from sim.engines.workers import receiving
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.sim.engines.standing import PATIENCE, Standing, run_by, standing_workers
from tests.tasks import BATCHNORM, DROPOUT, LINEAR, NORMED, job, random_rows, silos, write_task

SIZES = {"ash": 11, "birch": 4, "cedar": 19, "elm": 7, "fir": 14}
"""Of several sizes, so that who is ready first is not who comes first."""
SMALL: dict[str, Any] = {"lr": 0.1, "batch_size": 4, "epochs": 2}


@pytest.fixture(scope="module")
def _standing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, standing_workers(patch, 3):
        yield


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    rows = {name: random_rows(size, 4, size) for name, size in SIZES.items()}
    return silos(tmp_path_factory.mktemp("silos"), **rows)


def digests(run: SimulatedRun) -> list[str]:
    return [run.digest(round) for round in range(run.rounds_done + 1)]


def figures(run: SimulatedRun) -> list[tuple[Any, ...]]:
    """Every figure, in the order in which it was told."""
    return [
        (e.round, e.party, e.name, e.value if e.value == e.value else "nan")
        for e in run.events()
        if e.name.startswith("metric/")
    ]


def failures(run: SimulatedRun) -> list[tuple[Any, ...]]:
    """Every failure and every silo left out, without the times."""
    names = ("step/failed", "silo/left-out", "run/failed", "round/started")
    return [(e.round, e.party, e.name, e.value) for e in run.events() if e.name in names]


def same(job: Job, federation: Federation, **settings: Any) -> tuple[SimulatedRun, SimulatedRun]:
    """The job by both engines, of which every bit must be the same."""
    exact, made = (run_by(name, job, federation, **settings) for name in ("exact", "workers"))
    assert made.status == exact.status, made._error
    assert digests(made) == digests(exact)
    assert figures(made) == figures(exact)
    assert failures(made) == failures(exact)
    assert {s: m.tensors.keys() for s, m in made.memories().items()} == {
        s: m.tensors.keys() for s, m in exact.memories().items()
    }
    for silo, kept in exact.memories().items():
        for group, tensors in kept.tensors.items():
            assert digest(made.memories()[silo].tensors[group]) == digest(tensors), (silo, group)
    return exact, made


STRATEGIES = {name: getattr(strategies, name) for name in strategies.__all__}
JOBS = {
    **{
        name: (NORMED, kind(**{key: value for key, value in SMALL.items() if key not in kind.FIXED}), {})
        for name, kind in STRATEGIES.items()
    },
    "dropout": (DROPOUT, FedAvg(**SMALL), {}),
    "momentum is kept": (DROPOUT, FedAvg(**SMALL, momentum=0.9, optimizer_state="kept"), {}),
    "scaffold": (LINEAR, Scaffold(**SMALL), {}),
    "batch norm": (BATCHNORM, FedAvg(**SMALL), {}),
    "some silos a round": (DROPOUT, Scaffold(**SMALL), {"per_round": 3}),
    "all updates at once": (DROPOUT, FedAvg(**SMALL), {"aggregator": Krum(bad=1)}),
    "the median": (DROPOUT, FedAvg(**SMALL), {"aggregator": Median()}),
}


@pytest.mark.usefixtures("_standing")
@pytest.mark.parametrize("name", JOBS)
def test_the_bits_and_figures_are_those_of_the_exact_engine(federation: Federation, name: str) -> None:
    task, strategy, settings = JOBS[name]
    exact, _ = same(job(task, strategy, 3, **settings), federation)
    assert exact.status == "completed"
    assert Standing.pool_of_all is not None
    assert set(Standing.pool_of_all.made) <= {1, 2, 3}, "this process made a silo's step"


@pytest.mark.usefixtures("_standing")
@pytest.mark.parametrize("name", ["dropout", "scaffold", "all updates at once", "batch norm"])
def test_so_are_those_of_updates_that_are_looked_at_where_they_are(
    federation: Federation, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large ones are; an aggregator that keeps all of them leaves the workers places to go on."""
    monkeypatch.setattr(receiving, "COPIED", 0)
    task, strategy, settings = JOBS[name]
    exact, made = same(job(task, strategy, 3, **settings), federation, keep_updates=True)
    for ours, theirs in zip(made.updates(2), exact.updates(2), strict=True):
        assert (ours.silo, ours.weight, ours.norm) == (theirs.silo, theirs.weight, theirs.norm)
        assert ours.origin is not None
        assert theirs.origin is not None
        assert (ours.origin.step, ours.origin.bundle) == (theirs.origin.step, theirs.origin.bundle)
        assert ours.origin.began_with(made.state(1))
        assert digest(ours.delta) == digest(theirs.delta)


FAILING = """
from tests.tasks.dropout import data, loss, model  # noqa: F401

def fit(model, data, context):
    if context.silo == "cedar" and context.round in ROUNDS:
        print("cedar gives up")
        raise RuntimeError("this silo is away")
    context.check()
"""


@pytest.mark.usefixtures("_standing")
@pytest.mark.parametrize("settings", [{}, {"min_silos": 4}, {"min_silos": 2, "retries": 1}], ids=str)
def test_a_task_that_fails_says_the_same_and_does_the_same_to_the_run(
    federation: Federation, tmp_path: Path, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(tmp_path, FAILING.replace("ROUNDS", "(2,)"))
    _, made = same(job(task, FedAvg(**SMALL), 3, **settings), federation)
    assert made.status == ("completed" if settings else "failed")
    failure = next(e.value for e in made.events() if e.name == "step/failed")
    assert isinstance(failure, dict)
    assert failure["message"].startswith("RuntimeError: this silo is away (made_up.py, line 7")
    assert str(task) in failure["detail"]
    said = capsys.readouterr().out
    assert said.count("cedar gives up") == 2 * (1 + settings.get("retries", 0)), "once by each engine, at each attempt"


ENDLESS = """
import time
from tests.tasks.dropout import data, loss, model  # noqa: F401

def fit(model, data, context):
    while True:
        time.sleep(0.01)
        context.check()
"""


@pytest.mark.usefixtures("_standing")
def test_a_run_that_is_stopped_ends_the_workers_steps_at_their_next_batch(
    federation: Federation, tmp_path: Path
) -> None:
    endless = job(write_task(tmp_path, ENDLESS), FedAvg(**SMALL), 3)
    run = InProcess(folder=None, engine="workers").start(endless, federation)
    pool = Standing.pool_of_all
    assert pool is not None
    while not any(worker.tasks for worker in pool._workers):
        assert not run._ended.wait(0.05)
    run.stop()
    assert run.wait(PATIENCE).status == "stopped"
    same(job(DROPOUT, FedAvg(**SMALL), 1), federation)


@pytest.mark.usefixtures("_standing")
def test_the_deadline_is_held_where_the_step_runs(federation: Federation, tmp_path: Path) -> None:
    late = job(write_task(tmp_path, ENDLESS), FedAvg(**SMALL), 1, deadline=0.05, min_silos=1)
    made = run_by("workers", late, federation)
    kinds = {e.value["kind"] for e in made.events() if e.name == "step/failed" and isinstance(e.value, dict)}
    assert "DeadlineExceeded" in kinds


@pytest.mark.usefixtures("_standing")
def test_a_change_of_the_job_goes_to_the_workers_too(federation: Federation) -> None:
    made = []
    for name in ("exact", "workers"):
        run = InProcess(folder=None, keep="all", engine=name).start(job(DROPOUT, FedAvg(**SMALL), 3), federation)
        run._ended.wait(PATIENCE)
        run.extend(2)
        run._ended.wait(PATIENCE)
        made.append(digests(run))
    assert made[0] == made[1]
    assert len(made[0]) == 6
