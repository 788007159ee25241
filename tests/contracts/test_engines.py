"""Every strategy on every engine, beside the exact one: its bits, or as close as the engine says, or a reason."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fl_kit import strategies
from fl_kit.events import ENGINE
from fl_kit.silo import Federation
from sim.engines import choice
from sim.engines.choice import HOMES, kind
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.sim.engines.standing import standing_workers
from tests.tasks import NORMED, SMOOTH, digests, every_parameter, job, random_rows, silos

KINDS = [getattr(strategies, name) for name in strategies.__all__]
ROUNDS = 5
"""Of which an engine's bound speaks."""
ROWS = {"ash": 10, "birch": 4, "cedar": 14}
Exactly = Callable[[Any], SimulatedRun]
every = pytest.mark.parametrize("strategy", KINDS, ids=lambda strategy: strategy.__name__)
engines = pytest.mark.parametrize("engine", HOMES)


@pytest.fixture(scope="module", autouse=True)
def _standing() -> Iterator[None]:
    """Workers stay from run to run, for starting them takes longer than what they do here."""
    with pytest.MonkeyPatch.context() as patch, standing_workers(patch, 1):
        patch.setattr(choice, "HOMES", {**HOMES, **choice.HOMES})
        yield


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    rows = {name: random_rows(count, 4, seed) for seed, (name, count) in enumerate(ROWS.items())}
    return silos(tmp_path_factory.mktemp("engines") / "silos", **rows)


def task_for(strategy: Any) -> Path:
    """A smooth one, or for what keeps normalising layers one that has them."""
    return NORMED if strategy is strategies.FedBN else SMOOTH


def made(strategy: Any) -> Any:
    settings = {"lr": 0.05, "batch_size": 4, "epochs": 2}
    return strategy(**{name: value for name, value in settings.items() if name not in strategy.FIXED})


def on(engine: str, strategy: Any, federation: Federation, **settings: Any) -> SimulatedRun:
    place = InProcess(folder=None, keep="all", engine=engine)
    return place.start(job(task_for(strategy), made(strategy), ROUNDS, seed=3, **settings), federation).wait()


@pytest.fixture(scope="module")
def exactly(federation: Federation) -> Exactly:
    """Strategy → its run on the exact engine, made once."""
    return cache(lambda strategy: on("exact", strategy, federation))


def said(run: SimulatedRun) -> list[str]:
    """What the run said of what computes it."""
    return [str(event.value) for event in run.events() if event.name == ENGINE]


def off(run: SimulatedRun, other: SimulatedRun) -> float:
    """How far the last parameters differ, relative to their norm."""
    ours, theirs = (every_parameter(each).double() for each in (run, other))
    return float((ours - theirs).norm() / theirs.norm())


def figures(run: SimulatedRun) -> pd.DataFrame:
    return run.history().set_index(["round", "party", "metric"]).value.sort_index()


@every
@engines
def test_every_strategy_on_every_engine(engine: str, strategy: Any, federation: Federation, exactly: Exactly) -> None:
    found, exact = on(engine, strategy, federation), exactly(strategy)
    words = said(found)
    assert found.kept_in.endswith(words[-1])  # what the run's own table says is what it said last
    if kind(engine).same_bits or words[-1].startswith("exact: "):
        assert digests(found) == digests(exact)
        assert figures(found).equals(figures(exact))
    else:
        assert off(found, exact) <= kind(engine).bound
        pd.testing.assert_series_equal(figures(found), figures(exact), rtol=1e-4, atol=1e-6)
    if not words[-1].startswith(engine):
        assert ", since " in words[-1]
        assert len(words) == len(set(words)) <= 2


@engines
def test_a_message_of_the_run_tells_which_silos_counted(engine: str, federation: Federation) -> None:
    """Whoever computes them, updates come in silo order and are told so."""
    found = on(engine, strategies.FedAvg, federation)
    assert [*found.state().counted] == [*ROWS]
    parties = found.history().query("round == 2 and metric == 'train_loss'").party
    assert [*parties] == [*ROWS, "global"]


def test_another_order_of_rows_is_far_outside_the_bounds(federation: Federation, exactly: Exactly) -> None:
    """The bounds tell an engine that is close from one that trains otherwise."""
    exact = exactly(strategies.FedAvg)
    asked = job(SMOOTH, made(strategies.FedAvg), ROUNDS, seed=4, init=exact.state(0))
    other = InProcess(folder=None, engine="exact").start(asked, federation).wait()
    assert off(other, exact) > 100 * max(kind(engine).bound for engine in HOMES)
