"""Walks a plan round by round, wherever its steps run: the order, the retries and the quorum of every simulation."""

from collections.abc import Callable, Iterator

from fl_kit.door import failed, left_out
from fl_kit.errors import StepFailed
from fl_kit.events import ROUND_COMPLETED, ROUND_STARTED, STEP_TIMED, Event, now
from fl_kit.execute import Inputs, Outputs
from fl_kit.job import Job
from fl_kit.messages import Memory, State, Update
from fl_kit.plan import ORCHESTRATOR, Plan, Step
from fl_kit.protocols import Emit
from fl_kit.silo import Federation
from fl_kit.spent import Spent
from fl_kit.store import Store
from sim.saver import Saver, stopwatch

Runner = Callable[[Step, Inputs, Emit, Callable[[], None]], Outputs]
"""(step, inputs, emit, check) → outputs: where and how one step runs."""


class Engine:
    """Walks the orchestrator's steps; a silo's step runs when its update is asked for.

    So an update lives only until it is added up, and memory does not grow with the number of silos.
    """

    def __init__(
        self,
        *,
        job: Job,
        plan: Plan,
        federation: Federation,
        store: Store,
        runner: Runner,
        emit: Emit,
        check: Callable[[], None],
    ) -> None:
        self.job = job
        self.plan = plan
        self.folders = {silo.name: silo.data for silo in federation.silos}
        self.store = store
        self.runner = runner
        self.emit = emit
        self.check = check
        self.state: State | None = None
        self.memories: dict[str, Memory] = {}
        self._spent = Spent()
        self._spent_in: dict[int, Spent] = {}

    def run(self) -> None:
        """Run what the store does not hold yet; raises what made a step fail."""
        last = self.store.last_round()
        if last is not None:
            self.state, self.memories = self.store.state(last), self.store.memories(last)
        saver = Saver(self.store, self._saved)
        try:
            for step in self.plan.steps:
                if step.party == ORCHESTRATOR and not self._done(step, last):
                    self._combine(step, saver)
        finally:
            saver.close()

    def _done(self, step: Step, last: int | None) -> bool:
        enough = self.state is not None and self.state.done  # the job has stopped early: no round is left to run
        return "state" in step.outputs and (enough or (last is not None and step.round <= last))

    def _combine(self, step: Step, saver: Saver) -> None:
        """One step of the orchestrator, and the silos' steps that it waits for."""
        self._tell(ROUND_STARTED, self.state.round if self.state and self.state.done else step.round)
        seconds = stopwatch()
        self._spent = Spent()
        fresh: dict[str, Memory] = {}
        try:
            outputs = self._run(step, {"state": self.state, "updates": self._deliver(step, fresh)})
        except StepFailed as failure:
            if failure.silo == ORCHESTRATOR:  # a silo's own is told by _attempt
                self.emit(failed(failure))
            raise
        state = outputs.get("state")
        if isinstance(state, State):
            self.state = state
            counted = [silo for silo, round in state.counted.items() if round == state.round]
            # what a silo learnt in a round that does not count is forgotten, as its update is
            self.memories.update({silo: kept for silo, kept in fresh.items() if silo in counted})
            self._spent_in[state.round] = self._spent
            saver.save(state, dict(self.memories), seconds())

    def _deliver(self, step: Step, fresh: dict[str, Memory]) -> Iterator[Update]:
        """The updates that a step combines, in silo order, each made when it is asked for."""
        for silo, source in step.updates.items():
            producer = self.plan.by_id[source.partition(":")[0]]
            inputs: dict[str, object] = {
                "data": self.folders[silo],
                "state": self.state,
                "memory": self.memories.get(silo),
            }
            outputs = self._attempt(producer, inputs)
            if outputs is None:
                continue
            if isinstance(memory := outputs.get("memory"), Memory):
                fresh[silo] = memory
            update = outputs.pop("update")
            assert isinstance(update, Update)
            yield update
            del update

    def _attempt(self, step: Step, inputs: dict[str, object]) -> dict[str, object] | None:
        """A silo's step, tried again as often as the job says; None if the silo is left out."""
        for left in range(self.job.retries, -1, -1):
            try:
                return self._run(step, inputs)
            except StepFailed as failure:
                self.emit(failed(failure))
                if left:
                    continue
                if self.job.min_silos is None:
                    raise
                self.emit(left_out(step.party, step.round, failure.message))
        return None

    def _run(self, step: Step, inputs: dict[str, object]) -> dict[str, object]:
        self.check()
        seconds, others, told = stopwatch(), self._spent, Spent()

        def hear(event: Event) -> None:
            nonlocal told
            if event.name == STEP_TIMED:
                told += Spent(**event.value)  # type: ignore[arg-type]  # a step of fl-kit's own says it
            else:
                self.emit(event)

        try:
            return dict(self.runner(step, inputs, hear, self.check))
        finally:  # what has said nothing of itself ran here, and so did the steps that it waited for
            own = seconds() - (self._spent.total - others.total)
            self._spent += told if told.total else Spent(compute=own)

    def _tell(self, name: str, round: int) -> None:
        self.emit(Event(time=now(), round=round, party=ORCHESTRATOR, name=name))

    def _saved(self, round: int, seconds: float) -> None:
        value = self._spent_in.pop(round).of(seconds)
        self.emit(Event(time=now(), round=round, party=ORCHESTRATOR, name=ROUND_COMPLETED, value=value))
