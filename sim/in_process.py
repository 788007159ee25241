"""InProcess: a whole federation simulated in the notebook's own process."""

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fl_kit.approvals import brought
from fl_kit.branching import branch
from fl_kit.errors import StoreError
from fl_kit.job import Job
from fl_kit.legs import Leg, first_leg
from fl_kit.memory_store import MemoryStore
from fl_kit.readable import as_code
from fl_kit.retention import Keep, checked
from fl_kit.run_ids import new_id
from fl_kit.silo import Federation
from fl_kit.store import KEEP_KEY, FolderStore, Store
from fl_kit.workbench import Load, Workbench, load
from sim.engines.choice import AUTO, engine_for
from sim.engines.choice import checked as checked_engine
from sim.engines.engine import Engine, Runner, Simulation
from sim.engines.exact import Exact
from sim.faults.disturbance import Disturbance, Given
from sim.faults.striking import in_this_process, refuse_hanging
from sim.guarded import guarded
from sim.kept_updates import KeptInFolder, KeptInMemory, KeptUpdates, keeping
from sim.run import SimulatedRun

FAULTS, ENGINE = "faults", "engine"
"""Where the run folder's environment.json holds them."""


@dataclass(frozen=True, kw_only=True, repr=False)
class InProcess:
    """Simulates every silo on this machine; the bits of its exact engine define all others.

    folder    where run folders are made; None keeps the run in memory only (its last state)
    threads   torch threads; the bits may depend on it, so it is fixed (1) and recorded in the run
    engine    how the silos' steps are computed: "exact", one silo after the other in this process; "workers", several
              at once in processes of their own, to the same bits; "stacked", many small silos as one tensor program,
              close to those bits; "auto" chooses, and says what and why in the run
    workers   how many processes compute silos at once, this one among them, where the engine has any; None takes the
              cores that there are. Each has the memory of torch, of the model and of the rows that it reads
    keep      which rounds' states stay: "all", "last", or so many of the last ones; None means all in a folder, and
              the last one in memory. A run can be resumed from the last one; older ones are there to look at
    load      how a silo's rows are read; the task's own `data` by default
    keep_updates  keep every silo's update of every round too, for `contribution`: a model each, beside the states
    faults    silo → a fault or attack of `sim.faults`, or several that act one after the other
    approvals  a folder of approvals, or a file, that silos' own policies (`policy.toml`) ask for

    >>> run = job.run(federation, on=InProcess())          # doctest: +SKIP
    """

    folder: str | Path | None = "runs"
    threads: int = 1
    engine: str = AUTO
    workers: int | None = None
    keep: Keep | None = None
    load: Load = load
    keep_updates: bool = False
    faults: Given = field(default_factory=dict)
    approvals: str | Path | None = None

    def __post_init__(self) -> None:
        checked_engine(self.engine, self.workers)
        if self.keep is not None:
            checked(self.keep, "InProcess")

    def __repr__(self) -> str:
        return as_code(self)

    def start(self, job: Job, federation: Federation, *, paused: bool = False) -> SimulatedRun:
        """Start a run and give it at once; a paused one rests before its first step.

        Raises FederationError if a silo's folder is missing or empty, or faults are given to a silo that there is
        not; StoreError if the run folder cannot be made.
        """
        plan = job.plan(federation)
        brought(self.approvals, None)  # what is wrong with them is said before there is a run folder
        if self.load is load:
            federation.check()
        disturbance = Disturbance.given(self.faults, federation)
        refuse_hanging(disturbance.faults(), job)
        bench = Workbench(job.task, seed=job.seed, device=job.device, load=disturbance.load(self.load, federation))
        run_id = new_id(job.task.name)
        engine = self._engine(job, federation, bench, self.threads, disturbance)
        store: Store = MemoryStore(keep=self.keep or "last")
        if self.folder is not None:
            found = {
                **environment(self.threads, bench.device),
                ENGINE: engine.name,
                FAULTS: disturbance.recorded(),
                KEEP_KEY: self.keep or "all",
            }
            store = FolderStore.create(Path(self.folder) / run_id, job, plan, federation, found)
        legs = [first_leg(job, plan, federation)]
        run = self._run(run_id, legs, federation, store, bench, self.threads, disturbance, engine)
        return run.start(paused=paused)

    def resume(self, run_id: str, *, paused: bool = False) -> SimulatedRun:
        """Go on with an unfinished run from its last whole round; the bits are those of an undisturbed run.

        Everything is read from the run folder, the task's source too; the faults and `keep` are, unless they are given
        again. A run that has ended is given as it is.
        Raises RunNotFound for an unknown id, StoreError for a damaged folder.
        """
        store = FolderStore.open(self._runs, run_id)
        legs, federation = store.legs(), store.federation()
        job = legs[-1].job
        found = store.environment()
        store.keep = self.keep or store.keep
        threads = int(found.get("threads", self.threads))
        disturbance = (
            Disturbance.given(self.faults, federation) if self.faults else Disturbance.restored(found.get(FAULTS, {}))
        )
        bench = Workbench(job.task, seed=job.seed, device=job.device, load=disturbance.load(self.load, federation))
        federation = federation.check() if self.load is load else federation
        engine = self._engine(job, federation, bench, threads, disturbance, str(found.get(ENGINE, Exact.name)))
        run = self._run(run_id, legs, federation, store, bench, threads, disturbance, engine)
        return run.start(resumed=True, paused=paused)

    def undo(self, run_id: str, to_round: int) -> SimulatedRun:
        """A new run that goes on from an earlier round of another one; it rests at first, so that it can be changed.

        Raises RunNotFound for an unknown id, StoreError for a round that was not kept.
        """
        if self.folder is None:
            raise StoreError(f"run {run_id} is kept in memory only: give InProcess a folder, to go back to a round")
        store = FolderStore.open(self._runs, run_id)
        other = branch(store, self._runs / new_id(store.job().task.name), to_round)
        return self.resume(other, paused=True)

    @property
    def _runs(self) -> Path:
        return Path(self.folder or "runs")

    def _engine(
        self,
        job: Job,
        federation: Federation,
        bench: Workbench,
        threads: int,
        disturbance: Disturbance,
        begun: str = "",
    ) -> Engine:
        simulation = Simulation(
            job=job,
            federation=federation,
            bench=bench,
            threads=threads,
            own_load=self.load is not load,
            workers=self.workers,
        )
        return engine_for(self.engine, simulation, disturbed=bool(disturbance.of), begun=begun)

    def _run(
        self,
        run_id: str,
        legs: list[Leg],
        federation: Federation,
        store: Store,
        bench: Workbench,
        threads: int,
        disturbance: Disturbance,
        engine: Engine,
    ) -> SimulatedRun:
        approvals = brought(self.approvals, store.folder if isinstance(store, FolderStore) else None)
        kept = kept_updates(store)

        def runner(leg: Leg) -> Runner:
            # a run that is kept in memory only writes nothing, so that its updates name no bundle
            bench.bundle = "" if self.folder is None else leg.digest
            engine.take(leg.job)
            own = guarded(self.watched(engine), leg, approvals)
            own = keeping(own, kept) if self.keep_updates else own
            struck, events = in_this_process(own, bench, leg.job), store.events.read()
            own = disturbance.striking(own, job=leg.job, plan=leg.plan, bench=bench, events=events, struck=struck)
            return disturbance.runner(own, leg.plan, leg.job.seed, kept if self.keep_updates else None)

        return SimulatedRun(
            run_id=run_id,
            legs=legs,
            federation=federation,
            store=store,
            runner=runner,
            threads=threads,
            kept=kept,
            undo=self.undo,
            engine=engine,
        )

    def watched(self, run: Runner) -> Runner:
        """What runs the steps, and is asked for each of them; a subclass may watch it."""
        return run


def kept_updates(store: Store) -> KeptUpdates:
    """Where a run with that store keeps updates."""
    return KeptInFolder(store.folder) if isinstance(store, FolderStore) else KeptInMemory()


def environment(threads: int, device: torch.device) -> dict[str, Any]:
    """What the bits may depend on beside job, federation and seed."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": threads,
        "device": str(device),
    }
