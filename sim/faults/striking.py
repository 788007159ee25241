"""Carries faults out in a simulation: around a silo's step, and around its update on the way."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from fl_kit.context import StepContext
from fl_kit.door import check_arrival
from fl_kit.errors import DeadlineExceeded, IncompatibleError, MessageError, StepFailed
from fl_kit.events import RUN_FAILED, RUN_RESUMED, STEP_FAILED, Event
from fl_kit.execute import Inputs, Outputs
from fl_kit.job import Job
from fl_kit.messages import META_FILE, State, Update, read, write
from fl_kit.plan import Plan, Step, step_id
from fl_kit.protocols import Emit
from fl_kit.workbench import Workbench
from sim.engines.engine import Runner
from sim.faults.fault import Fault
from sim.faults.in_step import Words, on_a_faulty_machine
from sim.faults.machine import ClockSkew, Crash, Hang, Slow
from sim.faults.on_the_way import Duplicate, MessageFault, Stale

Struck = Callable[[Words], Runner]
"""Words of `in_step` → how a step runs on a machine with these faults."""


class Striking:
    """A runner whose silos' steps are struck.

    faults    silo → its faults
    honest    how steps run otherwise
    struck    how they run on a faulty machine
    bench     on which the orchestrator's door looks at what arrives
    attempts  step id → how often it failed before the run was resumed
    """

    def __init__(
        self,
        *,
        faults: Mapping[str, Sequence[Fault]],
        job: Job,
        plan: Plan,
        honest: Runner,
        struck: Struck,
        bench: Workbench,
        attempts: Counter[str],
    ) -> None:
        self.faults = faults
        self.job = job
        self.plan = plan
        self.honest = honest
        self.struck = struck
        self.bench = bench
        self.attempts = attempts
        self.waiting = {source.partition(":")[0]: step for step in plan.steps for source in step.updates.values()}
        self.sent: dict[str, dict[int, Update]] = {}
        """Silo → round → what it sent, of the last two rounds, where that may arrive again."""

    def __call__(self, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        if step.op == "aggregate":
            return self.honest(step, {**inputs, "updates": self._delivered(step, inputs["updates"])}, emit, check)
        if step.op != "fit" or step.party not in self.faults:
            return self.honest(step, inputs, emit, check)
        self.attempts[step.id] += 1
        found = self._striking(step)
        words = words_of(found)
        outputs = (self.struck(words) if words else self.honest)(step, inputs, emit, check)
        update = outputs["update"]
        assert isinstance(update, Update)
        self._keep(step, update)
        if on_the_way := [fault for fault in found if isinstance(fault, MessageFault)]:
            outputs = {**outputs, "update": self._arrived(step, update, on_the_way, inputs["state"])}
        return outputs

    def _striking(self, step: Step) -> list[Fault]:
        """The faults that strike a step at its present attempt."""
        attempt, seed = self.attempts[step.id], self.job.seed
        of_silo = enumerate(self.faults.get(step.party, ()))
        return [fault for place, fault in of_silo if fault.strikes(step, attempt, seed=seed, place=place)]

    def _arrived(self, step: Step, update: Update, faults: Sequence[MessageFault], state: State) -> Update:
        """What is read of an update at its arrival; raises StepFailed if the door refuses it."""
        with TemporaryDirectory(prefix="fl-kit-") as place:
            folder = Path(place) / "update"
            try:
                write(update, folder)
                for fault in faults:
                    fault.damage(folder, step, self.job.seed, self._earlier(step, Path(place) / "earlier"))
                if not (folder / META_FILE).exists():
                    raise ended(step, "it delivered no update", MessageError.__name__)
                found = read(Update, folder)
                check_arrival(StepContext(job=self.job, step=self.waiting[step.id], bench=self.bench), found, state)
            except MessageError as error:
                said = str(error).replace(f"{folder}/", "").replace(str(folder), "its folder")
                raise ended(step, f"malformed update: {said}", MessageError.__name__) from error
        return found

    def _keep(self, step: Step, update: Update) -> None:
        if any(isinstance(fault, Stale) for fault in self.faults[step.party]):
            rounds = self.sent.setdefault(step.party, {})
            rounds[step.round] = update
            self.sent[step.party] = {round: rounds[round] for round in sorted(rounds)[-2:]}

    def _earlier(self, step: Step, folder: Path) -> Path | None:
        """The folder of what a silo sent in an earlier round, written anew; None if there is nothing."""
        rounds = self.sent.get(step.party, {})
        before = max((round for round in rounds if round < step.round), default=0)
        if not before:
            return None
        write(rounds[before], folder)
        return folder

    def _delivered(self, step: Step, updates: Iterable[Update]) -> Iterator[Update]:
        """The updates, and those once more that are delivered twice."""
        for update in updates:
            yield update
            fit = self.plan.by_id[step.updates[update.silo].partition(":")[0]]
            if any(isinstance(fault, Duplicate) for fault in self._striking(fit)):
                yield update
            del update  # or it would live on while the next silo trains


def words_of(faults: Sequence[Fault]) -> dict[str, float]:
    """What `in_step` has to know of the faults of a machine; nothing if none struck."""
    found: dict[str, float] = {}
    for fault in faults:
        match fault:
            case Slow():
                found["slow"] = found.get("slow", 0.0) + fault.seconds
            case ClockSkew():
                found["skew"] = found.get("skew", 0.0) + fault.seconds
            case Crash():
                found["crash"] = min(found.get("crash", fault.at), fault.at)
            case Hang():
                found["hang"] = 1
    return found


def refuse_hanging(faults: Mapping[str, Sequence[Fault]], job: Job) -> None:
    """Raise IncompatibleError for a step that hangs in a job without a deadline."""
    hanging = [silo for silo, found in faults.items() if any(isinstance(fault, Hang) for fault in found)]
    if hanging and job.deadline is None:
        raise IncompatibleError(f"faults: {hanging[0]!r} is to Hang(), and the run would never end: Job(deadline=…)")


def in_this_process(honest: Runner, bench: Workbench, job: Job) -> Struck:
    """How steps run on a faulty machine that is simulated in this process, on this bench."""

    def struck(words: Words) -> Runner:
        def run(step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
            def crash() -> NoReturn:
                raise ended(step, "its process was ended by signal 9", StepFailed.__name__)

            if words.get("hang"):
                raise ended(step, f"it did not end within {job.patience:g} s", DeadlineExceeded.__name__)
            with on_a_faulty_machine(bench, words, emit, check, crash) as (its_emit, its_check):
                return honest(step, inputs, its_emit, its_check)

        return run

    return struck


def ended(step: Step, message: str, kind: str) -> StepFailed:
    return StepFailed(message, op=step.op, silo=step.party, round=step.round, kind=kind)


def failed_before(events: Iterable[Event]) -> Counter[str]:
    """Step id → how often it failed in the parts of a run that failed and were resumed: a fault struck there.

    A part that was stopped or killed is not counted: its last round is run again as it was.
    """
    found: Counter[str] = Counter()
    part: Counter[str] = Counter()
    for event in events:
        if event.name == STEP_FAILED and isinstance(event.value, dict):
            part[step_id(event.round, event.party, str(event.value["step"]))] += 1
        elif event.name == RUN_FAILED:
            found += part
        if event.name in (RUN_FAILED, RUN_RESUMED):
            part.clear()
    return found
