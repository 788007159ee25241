"""OnRay: the engine whose silos' steps are tasks of a cluster; the orchestrator's run in this process."""

import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, ClassVar

from fl_kit.approvals import Approval
from fl_kit.errors import FederationError, IncompatibleError, MessageError, StepFailed
from fl_kit.events import Event
from fl_kit.execute import Inputs, Outputs, run_step
from fl_kit.job import Job
from fl_kit.legs import Leg
from fl_kit.messages import Memory, Message, State, Update
from fl_kit.plan import ORCHESTRATOR, Step, to_dict
from fl_kit.protocols import Emit
from fl_kit.silo import Federation
from fl_kit.spent import Meter, timed
from sim.engines.engine import Ahead, Engine, Runner, Simulation
from sim.faults.in_step import Words
from sim.ray_cluster import placement, worker
from sim.ray_cluster.connection import connection, imported, nodes_now, put_word
from sim.ray_cluster.errors import ClusterError
from sim.ray_cluster.placement import A_LITTLE, Amounts
from sim.ray_cluster.sealed import from_message, sealed, to_message, unsealed

LOOK = 0.5
"""Seconds between two looks at whether the run was asked to stop."""
LOOK_AT_NODES = 5.0
LOOK_WITHIN = 120.0
"""Seconds in which the nodes should have looked at the silos' folders; later a step itself will say what is wrong."""


class OnRay(Engine):
    """Hands silos' steps to a cluster, a bounded number at a time, and gives their outputs in silo order.

    demands    silo → what one step of it asks for
    in_flight  steps that are handed over and not taken back yet, at most; None means twice what the nodes can run
    tries      how often a step is begun anew whose node or process was lost
    margin     seconds beyond the job's deadline and grace, after which a step that hangs is ended
    patience   seconds for which a silo waits for a node that has what it asks for
    """

    name: ClassVar[str] = "ray"
    same_bits: ClassVar[bool] = True

    def __init__(
        self,
        simulation: Simulation,
        *,
        address: str,
        demands: Mapping[str, Amounts],
        in_flight: int | None,
        tries: int,
        margin: float,
        patience: float,
    ) -> None:
        self.simulation = simulation
        self._job = simulation.job
        self._address = address
        self._demands = demands
        self._asked_in_flight = in_flight
        self._in_flight = in_flight or 1
        self._tries = tries
        self._margin = margin
        self._patience = patience
        self._is_open = False
        self._words = f"ray: silos' steps as tasks of the cluster {address!r}"
        self._bundle = b""
        self._word = secrets.token_hex(16)
        """What is put into the cluster to stop the steps that are in flight."""
        self._forget()

    def _forget(self) -> None:
        """Hold nothing of the cluster's."""
        self._waiting: deque[Ahead] = deque()
        self._handed: dict[str, Any] = {}
        self._state: State | None = None
        self._state_there: Any = None
        self._bundle_there: Any = None

    @property
    def words(self) -> str:
        return self._words

    def take(self, job: Job) -> None:
        self._job = job

    def begin(self, leg: Leg, approvals: Sequence[Approval], label: str) -> None:
        """Go on with a leg; `label` is the digest that its updates name, or empty."""
        self.take(leg.job)
        about = {
            "source": worker.source_digest(),
            "digest": leg.digest,
            "label": label,
            "approvals": [asdict(approval) for approval in approvals],
        }
        texts = (leg.job.to_json(), leg.plan.to_json(), leg.job.task.source)
        self._bundle, self._bundle_there = sealed(about, *(text.encode() for text in texts)), None

    def open(self) -> None:
        """Connect; raises ClusterError where there is no cluster, or none of its nodes has what a silo asks for."""
        if self._is_open:
            return
        connection.hold(self._address)
        self._is_open = True
        nodes = nodes_now()
        placement.check_placed(self._demands, nodes)
        some = next(iter(self._demands.values()))
        # where each silo has a node of its own, they run at once all the same: only CPUs and GPUs count
        at_once = placement.at_once({name: some[name] for name in placement.OWN if name in some}, nodes)
        self._in_flight = self._asked_in_flight or 2 * at_once
        cpus = sum(node.get("CPU", 0.0) for node in nodes)
        self._words = (
            f"ray: {at_once} silos at once, on {len(nodes)} node{'s' * (len(nodes) != 1)} with {cpus:g} CPUs in all"
        )

    def check_folders(self, federation: Federation) -> None:
        """Look at the silos' folders where their steps will run.

        Raises FederationError that lists every silo at fault, IncompatibleError for nodes with another fl-kit.
        """
        ray = imported()
        groups: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for silo in federation.silos:
            places = tuple(sorted(name for name in self._demands[silo.name] if name not in placement.OWN))
            groups.setdefault(places, []).append((silo.name, silo.data))
        looking = ray.remote(worker.look)
        asked = [
            looking.options(num_cpus=0, resources=dict.fromkeys(places, A_LITTLE)).remote(sealed({"silos": silos}))
            for places, silos in groups.items()
        ]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=LOOK_WITHIN)
        try:
            found = [unsealed(ray.get(reference))[0] for reference in done]
        except ray.exceptions.RayError as error:
            why = str(error).strip().splitlines()[-1]
            raise ClusterError(
                f"the cluster's nodes cannot run fl-kit's steps ({why}): they need the packages of a silo, and fl-kit "
                "itself where the notebook called ray.init before; else sim.Ray brings it along"
            ) from error
        for about in found:
            if about["source"] != worker.source_digest():
                raise IncompatibleError(worker.other_source(about["node"]))
        if faults := sorted(fault for about in found for fault in about["faults"]):
            raise FederationError("the federation is not ready:\n" + "\n".join(f"  {fault}" for fault in faults))

    def ahead(self, steps: Sequence[Ahead], check: Callable[[], None]) -> None:
        self._void()
        self._waiting.extend(steps)

    def struck(self, words: Words) -> Runner:
        """How a step runs on a faulty machine: what was handed over for it before is not looked at."""

        def run(step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
            self.open()
            self._waiting = deque(ahead for ahead in self._waiting if ahead[0] is not step)
            self._handed[step.id] = self._task(step, inputs, words)
            return self(step, inputs, emit, check)

        return run

    def __call__(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        if step.party == ORCHESTRATOR:
            return run_step(self._job, step, inputs, self.simulation.bench, emit=emit, check=check)
        self.open()
        meter = Meter()
        try:
            with meter.working():
                return self._outputs(step, inputs, emit, check, meter)
        finally:
            emit(timed(meter.spent, round=step.round, party=step.party))

    def _outputs(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None], meter: Meter) -> Outputs:
        with meter.transferring():
            self._hand_over(step, inputs)
        self._wait_for(step, check)
        with meter.transferring():
            about, parts = unsealed(self._taken_back(step))
            for line in about["events"]:
                emit(Event.from_json(line))
            if "failure" in about:
                raise StepFailed(**about["failure"], op=step.op, silo=step.party, round=step.round)
            try:
                return {name: output(name, part) for name, part in zip(about["outputs"], parts, strict=True)}
            except MessageError as error:
                raise self._failed(step, str(error), error) from error

    def _hand_over(self, step: Step, inputs: Inputs) -> None:
        """As many of the steps ahead as may be in flight, and this one, if it is not among them."""
        self._fill()
        if step.id not in self._handed:  # it is tried again, or nothing is ahead
            self._handed[step.id] = self._task(step, inputs)

    def _fill(self) -> None:
        while self._waiting and len(self._handed) < self._in_flight:
            ahead, its = self._waiting.popleft()
            self._handed[ahead.id] = self._task(ahead, its)

    def _task(self, step: Step, inputs: Inputs, words: Words = MappingProxyType({})) -> Any:
        """Hand one step to the cluster, on a machine with such faults; gives the reference of its outputs."""
        ray = imported()
        if self._bundle_there is None:
            self._bundle_there = ray.put(self._bundle)
        state = inputs.get("state") if "state" in step.inputs else None
        memory = inputs.get("memory") if "memory" in step.inputs else None
        limit = self._job.patience
        about = {
            "step": to_dict(step),
            "data": inputs["data"],
            "key": worker.key_of(self._bundle),
            "state": state.sha256 if isinstance(state, State) else "",
            "threads": self.simulation.threads,
            "stop": self._word,
            "limit": None if limit is None else limit + self._margin,
            "struck": dict(words),
        }
        request = sealed(about, *([from_message(memory)] if isinstance(memory, Memory) else []))
        asked = dict(self._demands[step.party])
        task = ray.remote(worker.run).options(
            num_cpus=asked.pop("CPU", 0),
            num_gpus=asked.pop("GPU", 0),
            resources=asked,
            max_retries=self._tries,
            retry_exceptions=False,
            name=step.id,
        )
        return task.remote(request, self._there(state), [self._bundle_there])

    def _there(self, state: object) -> Any:
        """The reference of a state, which is put into the cluster once for all silos of its round."""
        if not isinstance(state, State):
            return b""
        if state is not self._state:
            self._state, self._state_there = state, imported().put(from_message(state))
        return self._state_there

    def _wait_for(self, step: Step, check: Callable[[], None]) -> None:
        """Wait until a step has ended; raises StepFailed where no node is left that could run it."""
        ray = imported()
        reference, looked, placed = self._handed[step.id], time.monotonic(), time.monotonic()
        while not ray.wait([reference], timeout=LOOK)[0]:
            check()
            if time.monotonic() - looked < LOOK_AT_NODES:
                continue
            looked, nodes = time.monotonic(), nodes_now()
            if placement.fits(self._demands[step.party], nodes):
                placed = looked
            elif looked - placed > self._patience:
                del self._handed[step.id]
                raise self._failed(step, placement.nowhere(step.party, self._demands[step.party], nodes))

    def _taken_back(self, step: Step) -> bytes:
        """What a step gave; the next one takes its place."""
        ray = imported()
        reference = self._handed.pop(step.id)
        self._fill()
        try:
            return bytes(ray.get(reference))
        except ray.exceptions.RayTaskError as error:
            cause = cause_of(error)
            raise self._failed(step, f"its task failed: {first_line(cause)}", cause, str(error)) from error
        except ray.exceptions.RayError as error:
            lost = f"its process or its node was lost, begun {self._tries + 1} times in all"
            raise self._failed(step, f"{lost}: {first_line(error)}", error) from error

    def _failed(self, step: Step, message: str, cause: BaseException | None = None, detail: str = "") -> StepFailed:
        kind = "StepFailed" if cause is None else type(cause).__name__
        return StepFailed(message, op=step.op, silo=step.party, round=step.round, kind=kind, detail=detail)

    def _void(self) -> None:
        """Have what is in flight end at its next batch, and forget what waits.

        By a word that the steps look for: Ray's own `cancel` may end this very process, where a step ends just then
        (Ray 2.53, "Tried to complete task that was not pending").
        """
        self._waiting.clear()
        if self._handed:
            put_word(self._word)
            self._word = secrets.token_hex(16)
        self._handed = {}

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            self._void()
        finally:
            self._forget()
            connection.release()


def output(name: str, data: bytes) -> Message:
    """What a silo's step gave under that name."""
    return to_message(Update, data) if name == "update" else to_message(Memory, data)


def cause_of(error: BaseException) -> BaseException:
    """What a task raised, where Ray tells of it by an error of its own."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else error


def first_line(error: BaseException) -> str:
    """An error's class and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
