"""The engine "workers": several silos at once, each in a process of its own, to the bits of the exact engine."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from fl_kit.events import NOTE, Event, now
from fl_kit.execute import Inputs, Outputs, run_step
from fl_kit.job import Job
from fl_kit.messages import State
from fl_kit.plan import ORCHESTRATOR, Step
from fl_kit.policy import policy_files
from fl_kit.protocols import Emit
from sim.engines.engine import Ahead, Engine, Simulation
from sim.engines.workers import settings
from sim.engines.workers.cores import usable_cores
from sim.engines.workers.pool import Pool
from sim.engines.workers.shared import bytes_of

PAYS = 3.0
"""Seconds of work that must be left for workers to be started: of less this process has done its share meanwhile."""
FIRST = 1.0
"""Seconds of the first step that tell nothing of the others: rows are read, and libraries loaded."""


class Workers(Engine):
    """Computes a round's steps in this process and in others, which stay for all of the run.

    Every step is computed by the same function as in the exact engine, with as many torch threads, and the updates are
    combined in silo order: so the bits do not depend on how many processes there are, nor on which of them made what.
    A worker that ends is replaced, and what it was doing is done again.

    A task's own module is made anew in each process: what it keeps in global variables, it keeps for each process
    apart.

    helps  whether this process computes silos' steps too; otherwise it combines only, and there is a worker more

    >>> run = job.run(federation, on=InProcess(engine="workers", workers=4))  # doctest: +SKIP
    """

    name: ClassVar[str] = "workers"
    same_bits: ClassVar[bool] = True
    helps: ClassVar[bool] = True

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._job = simulation.job
        self._bench = simulation.bench
        self._count = count(simulation)
        self._left = 0
        self._warm = False
        self._warned = False
        self._why_not = ""
        self.pool = self._new_pool()

    @classmethod
    def refusal(cls, simulation: Simulation) -> str:
        """Why other processes cannot compute this run's steps."""
        if simulation.own_load:
            return "the rows are read by a function of the notebook (load=…), which no other process can call"
        if simulation.bench.device.type != "cpu":
            return f"the model is on {simulation.bench.device}, which the processes would have to share"
        if any(policy_files(silo.data) for silo in simulation.federation.silos):
            return "a silo has a policy of its own, which is asked before each of its steps"
        if not sys.executable:
            return "there is no Python to start a process with"
        if count(simulation) == 1:
            return one_reason(simulation)
        return ""

    @property
    def words(self) -> str:
        if why := self.pool.why_not or self._why_not:
            return f"workers: one silo after the other, since {why}"
        return f"workers: up to {self._count} silos at once, in this process and {self._count - 1} more"

    def take(self, job: Job) -> None:
        self._job = job
        told = {**job.to_dict(), "init": None}  # the weights that a job starts from are in state 0
        self.pool.take(
            {
                "job": json.dumps(told),
                "source": job.task.source,
                "path": job.task.path,
                "bundle": self._bench.bundle,
            }
        )

    def ahead(self, steps: Sequence[Ahead], check: Callable[[], None]) -> None:
        rounds = self._job.rounds - min((step.round for step, _ in steps), default=0)
        self._left = (1 + max(0, rounds)) * len(steps)
        self.pool.ahead(steps, check)
        if PAYS <= 0:
            self._start(steps[0][1] if steps else {})

    def __call__(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        self._warn(step, emit)
        if step.party == ORCHESTRATOR or not self.pool.knows(step):
            return self._run(step, inputs, emit, check)
        self._left -= 1
        result = self.pool.result(step, inputs, check)
        while self.pool.notes:
            emit(note(step, self.pool.notes.popleft()))
        return result.deliver(emit)

    def close(self) -> None:
        self._why_not = self.pool.why_not
        self.pool.close()
        self.pool = self._new_pool()
        self.take(self._job)

    def _new_pool(self) -> Pool:
        hello: dict[str, Any] = {"path": sys.path, "settings": settings.here(self._simulation.threads)}
        return Pool(count=self._count, hello=hello, compute=self._run_silo, helps=self.helps)

    def _run(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        return run_step(self._job, step, inputs, self._bench, emit=emit, check=check)

    def _run_silo(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        """One of the silos' steps that this process computes: what it takes says whether workers would pay."""
        began = time.perf_counter() + (0.0 if self._warm else FIRST)

        def look() -> None:
            if not self.pool.started and (time.perf_counter() - began) * self._left >= PAYS:
                self._start(inputs)

        def checking() -> None:
            check()
            look()

        outputs = self._run(step, inputs, emit, checking)
        self._warm = True
        look()
        return outputs

    def _start(self, inputs: Inputs) -> None:
        state = inputs.get("state")
        self.pool.start(bytes_of(state.params) if isinstance(state, State) else 0)

    def _warn(self, step: Step, emit: Emit) -> None:
        """Say once that there are more workers than the machine can use."""
        cores, threads = usable_cores(), self._simulation.threads
        if self._warned or self._count * threads <= cores:
            return
        self._warned = True
        emit(note(step, too_many(self._count, threads, cores)))


def count(simulation: Simulation) -> int:
    """How many processes compute: as many as were asked for, or as the cores allow, and no more than silos train."""
    asked = simulation.workers
    most = simulation.job.participants(len(simulation.federation))
    return min(most, asked or max(1, usable_cores() // max(1, simulation.threads)))


def one_reason(simulation: Simulation) -> str:
    """Why there is only one process."""
    if simulation.workers == 1:
        return "workers=1 is this process alone"
    if simulation.job.participants(len(simulation.federation)) == 1:
        return "one silo trains in a round"
    return "there is one core to compute on"


def too_many(workers: int, threads: int, cores: int) -> str:
    """What more workers than cores cost."""
    each = f" with {threads} threads each" if threads > 1 else ""
    return (
        f"{workers} workers{each} share {cores} usable cores: no round gets faster, and each takes some 250 MB for "
        f"torch, and the model several times over; workers={max(1, cores // threads)} is as many as pay"
    )


def note(step: Step, text: str) -> Event:
    return Event(time=now(), round=step.round, party=ORCHESTRATOR, name=NOTE, value=text)
