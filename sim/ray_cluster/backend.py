"""Ray: a federation simulated past one machine, its silos' steps on the nodes of a Ray cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fl_kit.approvals import brought
from fl_kit.branching import branch
from fl_kit.errors import IncompatibleError, StoreError
from fl_kit.events import RUN_COMPLETED
from fl_kit.job import Job
from fl_kit.legs import Leg, first_leg
from fl_kit.memory_store import MemoryStore
from fl_kit.readable import as_code
from fl_kit.retention import Keep, checked
from fl_kit.run_ids import new_id
from fl_kit.silo import Federation
from fl_kit.store import KEEP_KEY, FolderStore, Store
from fl_kit.workbench import Workbench
from sim.engines.choice import kind
from sim.engines.engine import Runner, Simulation
from sim.faults.disturbance import Disturbance, Given
from sim.faults.striking import refuse_hanging
from sim.in_process import ENGINE, FAULTS, environment, kept_updates
from sim.kept_updates import keeping
from sim.ray_cluster.connection import AUTO, check_address
from sim.ray_cluster.engine import OnRay
from sim.ray_cluster.placement import Amounts, demands
from sim.run import SimulatedRun


@dataclass(frozen=True, kw_only=True, repr=False)
class Ray:
    """Simulates silos on the nodes of a Ray cluster, with the bits of InProcess. Needs `pip install 'fl-kit[ray]'`.

    address    "auto": the cluster that this machine belongs to; "host:port" of a cluster's head; "ray://host:port" of
               its client server; "local": one that is started on this machine, and ends with the run
    resources  silo, or pattern of silos → resource → how much of it one step takes. A node has it if it was started so
               (`ray start --address=… --resources='{"clinic_a": 1}'`), so that the silo's steps run there; where that
               is all that is wanted, a thousandth of it will do. Other silos' steps run on any node
    cpus       of each step; so many steps run on a node at once as it has room for
    gpus       of each step, which then trains on CUDA; a fraction lets several silos share one
    threads    torch threads of each step; the bits may depend on it
    in_flight  steps that are handed to the cluster and not taken back yet, at most: this process never holds more
               updates than that. None means twice the number that the nodes can run at once
    tries      how often a step is begun anew whose node or process was lost; a step that fails by itself is tried
               again as the job's `retries` says
    margin     seconds beyond the job's deadline and grace, after which a step that hangs is ended
    patience   seconds for which a silo waits for a node that has what it asks for, where the last one was lost
    folder     where run folders are made, on this machine; None keeps the run in memory only (its last state)
    keep       as for InProcess
    keep_updates  as for InProcess
    approvals  a folder of approvals, or a file, that silos' own policies (`policy.toml`) ask for
    faults     silo → a fault of `sim.faults`, or several that act one after the other

    The orchestrator's steps run in this process. A round's state is put into the cluster once, for all its silos; a
    node's processes keep model and rows from step to step. A silo's `data` is a path on the nodes where its steps run:
    they look at it before the run begins.

    What is handed to Ray is bytes, JSON and safetensors, and the task travels as its source. Ray itself pickles the
    name of the function that it calls, its own references and errors, and trusts whoever can reach its ports: a
    cluster belongs into a network of one's own. This connects by itself, and brings fl-kit's own source to the nodes,
    which need Python, Ray and the packages of a silo in the same releases as here; in a notebook that called
    `ray.init` before, it uses that connection as it is.

    What a task prints stays in Ray's own logs. Attacks are simulated by InProcess.

    >>> run = job.run(federation, on=Ray(address="10.0.0.4:6379"))  # doctest: +SKIP
    """

    address: str = AUTO
    resources: Mapping[str, Amounts] = field(default_factory=dict)
    cpus: float = 1
    gpus: float = 0
    threads: int = 1
    in_flight: int | None = None
    tries: int = 3
    margin: float = 60.0
    patience: float = 60.0
    folder: str | Path | None = "runs"
    keep: Keep | None = None
    keep_updates: bool = False
    approvals: str | Path | None = None
    faults: Given = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_address(self.address)
        for name, least in (("in_flight", 1), ("threads", 1), ("tries", 0)):
            value = getattr(self, name)
            if not (value is None and name == "in_flight") and (type(value) is not int or value < least):
                raise IncompatibleError(f"Ray({name}={value!r}) must be a whole number from {least} on")
        for name in ("margin", "patience"):
            if not getattr(self, name) >= 0:
                raise IncompatibleError(f"Ray({name}={getattr(self, name)!r}) must be a number of seconds from 0 on")
        if self.keep is not None:
            checked(self.keep, "Ray")

    def __repr__(self) -> str:
        return as_code(self)

    def start(self, job: Job, federation: Federation, *, paused: bool = False) -> SimulatedRun:
        """Start a run and give it once the cluster has answered; a paused one rests before its first step.

        Raises IncompatibleError without Ray, or for a device that no step will have; ClusterError where no cluster
        answers, or no node has what a silo asks for; FederationError where a silo's folder is missing on its node;
        StoreError if the run folder cannot be made.
        """
        plan = job.plan(federation)
        brought(self.approvals, None)  # what is wrong with them is said before there is a run folder
        disturbance = Disturbance.given(self.faults, federation).faults_only("Ray")
        refuse_hanging(disturbance.faults(), job)
        engine = self._engine(job, federation, self.threads)
        try:
            engine.open()
            engine.check_folders(federation)
            run_id = new_id(job.task.name)
            store: Store = MemoryStore(keep=self.keep or "last")
            if self.folder is not None:
                device = torch.device("cuda" if self.gpus else "cpu")
                own = {ENGINE: engine.name, FAULTS: disturbance.recorded(), KEEP_KEY: self.keep or "all"}
                found = {**environment(self.threads, device), **own}
                store = FolderStore.create(self._runs / run_id, job, plan, federation, found)
            run = self._run(run_id, [first_leg(job, plan, federation)], federation, store, engine, disturbance)
            return run.start(paused=paused)
        except BaseException:
            engine.close()
            raise

    def resume(self, run_id: str, *, paused: bool = False) -> SimulatedRun:
        """Go on with an unfinished run, of InProcess too, from its last whole round; the bits stay the same.

        A run that has ended is given as it is. Raises as `start` does, and RunNotFound for an unknown id, StoreError
        for a damaged folder, IncompatibleError for a run with faults, or one whose engine has bits of its own.
        """
        store = FolderStore.open(self._runs, run_id)
        legs, federation = store.legs(), store.federation()
        found = store.environment()
        disturbance = Disturbance.restored(found.get(FAULTS, {})).faults_only("Ray")
        if self.faults:
            disturbance = Disturbance.given(self.faults, federation).faults_only("Ray")
        if not kind(str(found.get(ENGINE, ""))).same_bits:
            raise IncompatibleError(f"run {run_id} was begun with the engine {found[ENGINE]!r}, whose bits are its own")
        store.keep = self.keep or store.keep
        engine = self._engine(legs[-1].job, federation, int(found.get("threads", self.threads)))
        run = self._run(run_id, legs, federation, store, engine, disturbance)
        try:
            if not any(event.name == RUN_COMPLETED for event in store.events.read()[-1:]):
                engine.open()
                engine.check_folders(federation)
            return run.start(resumed=True, paused=paused)
        except BaseException:
            engine.close()
            raise

    def undo(self, run_id: str, to_round: int) -> SimulatedRun:
        """A new run that goes on from an earlier round of another one; it rests at first, so that it can be changed.

        Raises RunNotFound for an unknown id, StoreError for a round that was not kept.
        """
        if self.folder is None:
            raise StoreError(f"run {run_id} is kept in memory only: give Ray a folder, to go back to a round")
        store = FolderStore.open(self._runs, run_id)
        return self.resume(branch(store, self._runs / new_id(store.job().task.name), to_round), paused=True)

    @property
    def _runs(self) -> Path:
        return Path(self.folder or "runs")

    def _engine(self, job: Job, federation: Federation, threads: int) -> OnRay:
        if job.device.startswith("cuda") and not self.gpus:
            raise IncompatibleError(f"Job(device={job.device!r}) and Ray(gpus=0): give each step a GPU, such as gpus=1")
        bench = Workbench(job.task, seed=job.seed, device="cpu")  # the orchestrator's: it trains nothing
        simulation = Simulation(job=job, federation=federation, bench=bench, threads=threads, own_load=False)
        return OnRay(
            simulation,
            address=self.address,
            demands=demands(federation, cpus=self.cpus, gpus=self.gpus, resources=self.resources),
            in_flight=self.in_flight,
            tries=self.tries,
            margin=self.margin,
            patience=self.patience,
        )

    def _run(
        self,
        run_id: str,
        legs: list[Leg],
        federation: Federation,
        store: Store,
        engine: OnRay,
        disturbance: Disturbance,
    ) -> SimulatedRun:
        approvals = brought(self.approvals, store.folder if isinstance(store, FolderStore) else None)
        kept = kept_updates(store)

        def runner(leg: Leg) -> Runner:
            # a run that is kept in memory only writes nothing, so that its updates name no bundle
            label = engine.simulation.bench.bundle = leg.digest if isinstance(store, FolderStore) else ""
            engine.begin(leg, approvals, label)
            own = keeping(engine, kept) if self.keep_updates else engine
            bench, events = engine.simulation.bench, store.events.read()
            return disturbance.striking(
                own, job=leg.job, plan=leg.plan, bench=bench, events=events, struck=engine.struck
            )

        return SimulatedRun(
            run_id=run_id,
            legs=legs,
            federation=federation,
            store=store,
            runner=runner,
            threads=engine.simulation.threads,
            kept=kept,
            undo=self.undo,
            engine=engine,
        )
