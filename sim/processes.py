"""Processes: each step is a process of its own, started by the very command that runs in a real silo."""

import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fl_kit.approvals import brought
from fl_kit.branching import branch
from fl_kit.bundle import Bundle, verify, write_bundle
from fl_kit.errors import BundleError
from fl_kit.job import Job
from fl_kit.legs import Leg, first_leg, part_of
from fl_kit.plan import Plan
from fl_kit.retention import Keep, checked
from fl_kit.run_ids import new_id
from fl_kit.silo import Federation
from fl_kit.store import KEEP_KEY, STEPS, FolderStore
from fl_kit.workbench import Workbench, choose_device
from sim.engines.engine import Runner
from sim.faults.disturbance import Disturbance, Given
from sim.faults.striking import refuse_hanging
from sim.in_process import FAULTS, environment
from sim.kept_updates import KeptInFolder
from sim.run import SimulatedRun
from sim.step_process import StepProcess


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Simulates each step as `python -m fl_kit.step` on folders: the bundle, the door and the bits of a real run.

    Slower than InProcess by the start of a Python for each step. A step sees its bundle and its folders, but
    nothing keeps it from others of this machine: it proves the wiring, not the privacy.

    folder   where run folders are made; the steps' own folders are in `<run id>/steps`
    threads  torch threads of each step; the bits may depend on it
    faults   silo → a fault of `sim.faults`, or several
    margin   seconds beyond the job's deadline and grace, for a silo's step to start and to end; one that hangs is ended
             then
    approvals  a folder of approvals, or a file, that silos' own policies (`policy.toml`) ask for
    keep     which rounds' states, and outputs of their steps, stay: "all", "last", or so many of the last ones; None
             means all, and of a run that is resumed what it was begun with

    >>> run = job.run(federation, on=Processes()).wait()  # doctest: +SKIP
    """

    folder: str | Path = "runs"
    threads: int = 1
    margin: float = 60.0
    faults: Given = field(default_factory=dict)
    approvals: str | Path | None = None
    keep: Keep | None = None

    def __post_init__(self) -> None:
        if self.keep is not None:
            checked(self.keep, "Processes")

    def start(self, job: Job, federation: Federation, *, paused: bool = False) -> SimulatedRun:
        """Start a run and give it at once; raises as InProcess.start does."""
        plan = job.plan(federation)
        brought(self.approvals, None)  # what is wrong with them is said before there is a run folder
        federation.check()
        disturbance = Disturbance.given(self.faults, federation).faults_only("Processes")
        refuse_hanging(disturbance.faults(), job)
        run_id = new_id(job.task.name)
        place = self._runs / run_id
        own = {FAULTS: disturbance.recorded(), KEEP_KEY: self.keep or "all"}
        found = {**environment(self.threads, choose_device(job.device)), **own}
        store = FolderStore.create(place, job, plan, federation, found)
        write_bundle(job, plan, place / "bundle")
        legs = [first_leg(job, plan, federation)]
        return self._run(run_id, legs, federation, store, disturbance).start(paused=paused)

    def resume(self, run_id: str, *, paused: bool = False) -> SimulatedRun:
        """Go on with an unfinished run from its last whole round; raises as InProcess.resume does."""
        store = FolderStore.open(self._runs, run_id)
        store.keep = self.keep or store.keep
        federation = store.federation().check()
        disturbance = Disturbance.restored(store.environment().get(FAULTS, {}))
        if self.faults:
            disturbance = Disturbance.given(self.faults, federation).faults_only("Processes")
        run = self._run(run_id, store.legs(), federation, store, disturbance)
        return run.start(resumed=True, paused=paused)

    def undo(self, run_id: str, to_round: int) -> SimulatedRun:
        """A new run that goes on from an earlier round of another one; as InProcess.undo does."""
        store = FolderStore.open(self._runs, run_id)
        return self.resume(branch(store, self._runs / new_id(store.job().task.name), to_round), paused=True)

    @property
    def _runs(self) -> Path:
        return Path(self.folder).resolve()

    def _run(
        self, run_id: str, legs: list[Leg], federation: Federation, store: FolderStore, disturbance: Disturbance
    ) -> SimulatedRun:
        brought(self.approvals, store.folder)

        def runner(leg: Leg) -> Runner:
            job, plan = leg.job, leg.plan
            process = StepProcess(
                bundle=sound_bundle(job, plan, store.folder / part_of(legs.index(leg)) / "bundle"),
                plan=plan,
                work=store.folder / STEPS,
                threads=self.threads,
                limit=None if job.patience is None else job.patience + self.margin,
            )
            if not disturbance.faults():
                return process
            bench = Workbench(job.task, seed=job.seed, device="cpu", bundle=leg.digest)
            struck, events = partial(StepProcess.on_a_faulty_machine, process), store.events.read()
            return disturbance.striking(process, job=job, plan=plan, bench=bench, events=events, struck=struck)

        return SimulatedRun(
            run_id=run_id,
            legs=legs,
            federation=federation,
            store=store,
            runner=runner,
            threads=self.threads,
            kept=KeptInFolder(store.folder),
            undo=self.undo,
        )


def sound_bundle(job: Job, plan: Plan, folder: Path) -> Bundle:
    """The bundle that a run was begun with, or a new one where a kill or a power cut left it unfinished."""
    try:
        return verify(folder)
    except BundleError:
        shutil.rmtree(folder, ignore_errors=True)
        return write_bundle(job, plan, folder)
