"""Walks a plan round by round, wherever its steps run: the order, the retries and the quorum of every simulation."""

from collections.abc import Callable, Iterator, Sequence

from fl_kit.door import failed, left_out
from fl_kit.errors import StepFailed
from fl_kit.events import ROUND_COMPLETED, ROUND_STARTED, STEP_TIMED, Event, now
from fl_kit.execute import Inputs
from fl_kit.gate import Gate
from fl_kit.legs import Leg
from fl_kit.messages import Memory, State, Update
from fl_kit.plan import ORCHESTRATOR, Step
from fl_kit.planning import until
from fl_kit.protocols import Emit
from fl_kit.silo import Federation
from fl_kit.spent import Spent
from fl_kit.store import Store
from sim.engines.engine import Ahead, Runner
from sim.saver import Saver, stopwatch


class Walk:
    """Walks the orchestrator's steps; a silo's step runs when its update is asked for.

    So an update lives only until it is added up, and memory does not grow with the number of silos.

    legs    what holds from which round on; one that is added while a round is made holds after it
    runner  gives what runs the steps of a leg
    ahead   hears of the silos' steps of a round before the first one is asked for
    gate    asked before each step whether the run may go on
    rests   called before the run rests at the gate, when what is done is kept; goes_on when it does so
    """

    def __init__(
        self,
        *,
        legs: list[Leg],
        federation: Federation,
        store: Store,
        runner: Callable[[Leg], Runner],
        ahead: Callable[[Sequence[Ahead], Callable[[], None]], None],
        emit: Emit,
        check: Callable[[], None],
        gate: Gate,
        rests: Callable[[], None],
        goes_on: Callable[[], None],
    ) -> None:
        self.legs = legs
        self.leg = legs[0]
        self.folders = {silo.name: silo.data for silo in federation.silos}
        self.store = store
        self.runner = runner
        self.ahead = ahead
        self.emit = emit
        self.check = check
        self.gate = gate
        self.rests, self.goes_on = rests, goes_on
        self.state: State | None = None
        self.memories: dict[str, Memory] = {}
        self._spent = Spent()
        self._spent_in: dict[int, Spent] = {}

    def run(self) -> None:
        """Run what the store does not hold yet; raises what made a step fail."""
        last = self.store.last_round()
        if last is not None:
            self.state, self.memories = self.store.state(last), self.store.memories(last)
        self._saver = saver = Saver(self.store, self._saved)
        try:
            for step in self._steps():
                self._combine(step, saver)
        finally:
            saver.close()

    def _steps(self) -> Iterator[Step]:
        """The orchestrator's steps that are left, each of the leg that holds when it begins."""
        taken: Leg | None = None
        left: Iterator[Step] = iter(())
        while True:
            with self.gate.lock:
                leg = self._in_force()
                if leg is not taken:
                    taken, left = leg, self._take(leg)
                step = next(left, None)
                if step is None:
                    self.gate.finished = True
                    return
            if "state" in step.outputs and self._enough():
                continue
            self._enter(step.round)
            if self._in_force() is leg:  # what was changed while the run rested holds from here on
                yield step

    def _take(self, leg: Leg) -> Iterator[Step]:
        """Go on with a leg: its orchestrator's steps after the one that made the state."""
        self.leg, self._run_here = leg, self.runner(leg)
        begun = 0 if self.state is None else len(until(leg.plan, self.state.round))
        return (step for step in leg.plan.steps[begun:] if step.party == ORCHESTRATOR)

    def _in_force(self) -> Leg:
        """The last leg of those that hold for the round that follows."""
        done = -1 if self.state is None else self.state.round
        return next(leg for leg in reversed(self.legs) if leg.after <= done)

    def _enough(self) -> bool:
        """Whether the job has stopped early: no round is left to run."""
        return self.state is not None and self.leg.job.is_enough(self.state)

    def _enter(self, round: int) -> None:
        """Rest at the gate as long as it is closed."""
        if self.gate.enter(round, self._rest):
            self.goes_on()
        self.check()

    def _rest(self) -> None:
        self._saver.settle()
        self.rests()

    def _combine(self, step: Step, saver: Saver) -> None:
        """One step of the orchestrator, and the silos' steps that it waits for."""
        self._tell(ROUND_STARTED, self.state.round if self.state and self._enough() else step.round)
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
        producers = [self._producer(silo, source) for silo, source in step.updates.items()]
        self.ahead(producers, self.check)
        for producer, inputs in producers:
            outputs = self._attempt(producer, inputs)
            if outputs is None:
                continue
            if isinstance(memory := outputs.get("memory"), Memory):
                fresh[producer.party] = memory
            update = outputs.pop("update")
            assert isinstance(update, Update)
            yield update
            del update

    def _producer(self, silo: str, source: str) -> Ahead:
        """The step that makes a silo's update, and what it begins with."""
        inputs = {"data": self.folders[silo], "state": self.state, "memory": self.memories.get(silo)}
        return self.leg.plan.by_id[source.partition(":")[0]], inputs

    def _attempt(self, step: Step, inputs: Inputs) -> dict[str, object] | None:
        """A silo's step, tried again as often as the job says; None if the silo is left out."""
        for left in range(self.leg.job.retries, -1, -1):
            try:
                return self._run(step, inputs)
            except StepFailed as failure:
                self.emit(failed(failure))
                if left:
                    continue
                if self.leg.job.min_silos is None:
                    raise
                self.emit(left_out(step.party, step.round, failure.message))
        return None

    def _run(self, step: Step, inputs: Inputs) -> dict[str, object]:
        self._enter(step.round)
        seconds, others, told = stopwatch(), self._spent, Spent()

        def hear(event: Event) -> None:
            nonlocal told
            if event.name == STEP_TIMED:
                told += Spent(**event.value)  # type: ignore[arg-type]  # a step of fl-kit's own says it
            else:
                self.emit(event)

        try:
            return dict(self._run_here(step, inputs, hear, self.check))
        finally:  # what has said nothing of itself ran here, and so did the steps that it waited for
            own = seconds() - (self._spent.total - others.total)
            self._spent += told if told.total else Spent(compute=own)

    def _tell(self, name: str, round: int) -> None:
        self.emit(Event(time=now(), round=round, party=ORCHESTRATOR, name=name))

    def _saved(self, round: int, seconds: float) -> None:
        value = self._spent_in.pop(round).of(seconds)
        self.emit(Event(time=now(), round=round, party=ORCHESTRATOR, name=ROUND_COMPLETED, value=value))
