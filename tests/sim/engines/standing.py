"""Workers that stay for all tests of a module: starting Python and torch takes longer than what they then do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fl_kit.job import Job
from fl_kit.silo import Federation
from sim.engines.engine import Simulation
from sim.engines.workers import engine
from sim.engines.workers.pool import Pool
from sim.in_process import InProcess
from sim.run import SimulatedRun

PATIENCE = 120.0
"""Seconds for what takes one on a machine that has nothing else to do."""


def unhurried() -> None:
    """Nobody asks to stop."""


class Standing(engine.Workers):
    """The engine with a pool that outlives it; this process combines only, so that every silo's step is a worker's."""

    helps = False
    pool_of_all: "Pool | None" = None

    @classmethod
    def refusal(cls, simulation: Simulation) -> str:
        return ""

    def _new_pool(self) -> Pool:
        kind = Standing
        if kind.pool_of_all is None:
            kind.pool_of_all = super()._new_pool()
        kind.pool_of_all.compute = self._run_silo
        return kind.pool_of_all

    def close(self) -> None:
        self.pool.ahead([], unhurried)


@contextmanager
def standing_workers(patch: pytest.MonkeyPatch, count: int) -> Iterator[None]:
    """Within the block engine="workers" means those that stay, so many of them, from the first step on."""
    patch.setattr(engine, "PAYS", 0.0)
    patch.setattr("sim.engines.choice.HOMES", {"workers": f"{__name__}:Standing"})
    patch.setattr(engine, "count", lambda simulation: count)
    try:
        yield
    finally:
        pool, Standing.pool_of_all = Standing.pool_of_all, None
        if pool is not None:
            pool.close()


def run_by(name: str, job: Job, federation: Federation, **settings: Any) -> SimulatedRun:
    """A run by that engine, ended; every state of it is kept."""
    run = InProcess(**{"folder": None, "keep": "all", **settings}, engine=name).start(job, federation)
    run._ended.wait(PATIENCE)
    return run
