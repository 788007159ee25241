"""Workers that are killed, helped, or follow another engine: the bits stay the same."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, Scaffold
from fl_kit.silo import Federation
from sim.engines.workers.round import HERE
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.sim.engines.standing import PATIENCE, Standing, run_by, standing_workers
from tests.tasks import DROPOUT, digests, job, random_rows, silos, write_task

SMALL: dict[str, Any] = {"lr": 0.1, "batch_size": 4}

DEADLY = """
import os
from pathlib import Path
from tests.tasks.dropout import data, loss, model  # noqa: F401

def fit(model, data, context):
    if (context.silo, context.round) == ("birch", 2) and os.getpid() != SAFE and not Path(DONE).exists():
        ONCE and Path(DONE).touch()
        os.kill(os.getpid(), 9)
    loss(model(data[0]), data[1]).backward()
    for p in model.parameters():
        p.data -= 0.1 * p.grad
"""


def deadly(folder: Path, *, once: bool) -> Path:
    """A task whose second round at birch kills its process, unless that is this one."""
    names = {"SAFE": os.getpid(), "DONE": str(folder / "done"), "ONCE": once}
    source = DEADLY
    for name, value in names.items():
        source = source.replace(name, repr(value))
    return write_task(folder, source)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    rows = {name: random_rows(size, 4, size) for name, size in {"ash": 11, "birch": 4, "cedar": 9}.items()}
    return silos(tmp_path_factory.mktemp("silos"), **rows)


@pytest.fixture(scope="module")
def _standing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, standing_workers(patch, 1):
        yield


def notes(run: SimulatedRun) -> list[str]:
    return [str(event.value) for event in run.events() if event.name == "note"]


@pytest.mark.usefixtures("_standing")
def test_a_worker_that_is_killed_is_replaced_and_its_step_is_computed_again(
    federation: Federation, tmp_path: Path
) -> None:
    task = deadly(tmp_path, once=True)
    exact = run_by("exact", job(task, FedAvg(**SMALL), 3), federation)
    made = run_by("workers", job(task, FedAvg(**SMALL), 3), federation)
    assert made.status == "completed", made._error
    assert digests(made) == digests(exact)
    assert notes(made) == [
        "a worker was ended by signal 9 (SIGKILL) while it computed round_002/birch/fit, which is computed again"
    ]
    assert not any(event.name == "step/failed" for event in made.events())


@pytest.mark.usefixtures("_standing")
def test_a_step_that_ends_every_worker_has_failed_and_is_never_tried_in_the_notebooks_own_process(
    federation: Federation, tmp_path: Path
) -> None:
    found = run_by("workers", job(deadly(tmp_path, once=False), FedAvg(**SMALL), 3, retries=1, min_silos=2), federation)
    assert found.status == "completed", found._error
    failed = [event.value for event in found.events() if event.name == "step/failed"]
    assert len(failed) == 2, "the step and its one retry"
    message = str(failed[0]["message"])  # type: ignore[index,call-overload]
    assert message.startswith("a worker was ended by signal 9 (SIGKILL), 2 times while it computed this step")
    assert "want of memory" in message
    assert "workers=" in message
    assert [event.party for event in found.events() if event.name == "silo/left-out"] == ["birch"]


@pytest.mark.usefixtures("_standing")
def test_this_process_lends_a_hand(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have made steps, whoever was faster, and the bits are the same."""
    settings = job(DROPOUT, Scaffold(**SMALL, epochs=3), 6)
    exact = run_by("exact", settings, federation)
    run_by("workers", job(DROPOUT, FedAvg(**SMALL), 1), federation)  # the worker is there now
    pool = Standing.pool_of_all
    assert pool is not None
    monkeypatch.setattr(pool, "_helps", True)
    pool.made.clear()
    made = run_by("workers", settings, federation)
    assert digests(made) == digests(exact)
    assert sum(pool.made.values()) == 3 * 7
    assert len(pool.made) == 2
    assert pool.made[HERE] > 0


@pytest.mark.usefixtures("_standing")
@pytest.mark.parametrize("names", [("exact", "workers"), ("workers", "exact")], ids=" then ".join)
def test_a_run_that_one_engine_began_goes_on_by_another(
    federation: Federation, tmp_path: Path, names: tuple[str, str]
) -> None:
    settings = job(DROPOUT, Scaffold(**SMALL), 4)
    whole = run_by("exact", settings, federation)
    begun = InProcess(folder=tmp_path, engine=names[0]).start(settings, federation, paused=True)
    begun.step()
    begun.wait(PATIENCE)
    begun.stop()
    begun._ended.wait(PATIENCE)
    ended = InProcess(folder=tmp_path, engine=names[1]).resume(begun.id)
    ended._ended.wait(PATIENCE)
    assert begun.status == "stopped"
    assert digests(ended) == digests(whole)
