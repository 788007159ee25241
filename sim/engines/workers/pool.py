"""The workers of a run, and this process, which computes too: who computes which of a round's steps."""

import itertools
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from fl_kit.errors import MessageError, StepFailed
from fl_kit.events import Event
from fl_kit.execute import Inputs
from fl_kit.messages import State
from fl_kit.plan import Step
from sim.engines.engine import Ahead, Runner
from sim.engines.workers import receiving
from sim.engines.workers.parcels import taken_apart
from sim.engines.workers.process import AREAS, DEEP, WorkerProcess, ended_by
from sim.engines.workers.round import HERE, Round
from sim.engines.workers.shared import Shelf, private_folder
from sim.engines.workers.tasks import Done, Result, Task

LIVES = 2
"""Processes that may end while they compute a step; then it has failed."""
FALSE_STARTS = 2
"""Workers that may end before they are ready; then there are none."""
TICK = 0.2
"""Seconds between two looks at whether the run was stopped, while a worker computes."""


class Pool:
    """Computes the steps that it is told of, several at once, and gives the result of each when it is asked for.

    count    how many processes compute, this one among them
    hello    what a worker is told first
    compute  runs a step in this process
    helps    whether this process computes silos' steps while it waits for the workers'; if not, there is one more
    """

    def __init__(self, *, count: int, hello: dict[str, Any], compute: Runner, helps: bool) -> None:
        self.notes: deque[str] = deque()
        """What is to be said in the run, once."""
        self.why_not = ""
        """Why there are no workers, if they had to be given up."""
        self.made: dict[int, int] = {}
        """How many steps each process has computed; this one is HERE."""
        self.compute, self._count, self._hello, self._helps = compute, count, hello, helps
        self._numbers, self._names = itertools.count(1), itertools.count(1)
        self._turn = threading.Condition(threading.RLock())  # held by whoever reads or changes what follows
        self._round = Round()
        self._workers: list[WorkerProcess] = []
        self._gone: list[WorkerProcess] = []
        self._false_starts = 0
        self._deadly: set[str] = set()
        self._shelf: Shelf | None = None
        self._job: dict[str, Any] = {}
        self._state: State | None = None
        self._shared: dict[str, Any] | None = None

    @property
    def started(self) -> bool:
        """Whether there are workers, or were."""
        return self._shelf is not None or bool(self.why_not)

    def take(self, job: dict[str, Any]) -> None:
        """Go on with another job."""
        with self._turn:
            self._job = job
            for worker in self._workers:
                worker.send("job", **job)

    def ahead(self, steps: Sequence[Ahead], check: Callable[[], None]) -> None:
        """Hear of a round's steps; those of before that nobody asked for are void."""
        with self._turn:
            self._void()
            while any(worker.tasks for worker in self._workers):  # they still read the state that will be written over
                self._turn.wait(TICK)
                check()
            new = [Task(number=next(self._numbers), step=step, inputs=inputs) for step, inputs in steps]
            self._round.begin(new, helps=self._helps)
            state = steps[0][1].get("state") if steps else None
            if isinstance(state, State) and state is not self._state:
                self._state, self._shared = state, None
            self._share()
            self._dispatch()

    def start(self, model: int) -> None:
        """Start the workers; they take part as they become ready.

        model  its bytes: room is looked for for the state, and for what each worker is given and gives
        """
        with self._turn:
            if self.started:
                return
            try:
                folder = private_folder(model * (1 + 2 * (AREAS + DEEP) * self._count))
            except OSError as error:
                self._give_up(f"there is no room for shared memory: {error}")
                return
            self._shelf = Shelf(folder)
            for _ in range(self._count - (1 if self._helps else 0)):
                self._add()
            self._share()

    def knows(self, step: Step) -> bool:
        """Whether the step's result is to be had here: it was announced, or it ends processes and is tried again."""
        with self._turn:
            return step.id in self._round.tasks or step.id in self._deadly

    def result(self, step: Step, inputs: Inputs, check: Callable[[], None]) -> Result:
        """What came of a step. While a worker computes it, this process computes others that will be asked for."""
        with self._turn:
            task = self._round.tasks.get(step.id)
            if task is None:
                task = Task(number=next(self._numbers), step=step, inputs=inputs, deaths=1)
                self._round.add(task)
                self._dispatch()
        try:
            while True:
                with self._turn:
                    found = self._ready(task)
                    own = None if found else self._for_me(task)
                    if found is None and own is None:
                        self._turn.wait(TICK)
                if found is not None:
                    return found
                check()
                if own is not None:
                    self._do(own, check)
        finally:
            with self._turn:
                self._round.asked_for(step)

    def close(self) -> None:
        """End the workers, and take the shared memory away."""
        with self._turn:
            workers, self._workers, self._gone = [*self._workers, *self._gone], [], []
            shelf, self._shelf = self._shelf, None
            self._round = Round()
            self._state = self._shared = None
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.wait()
        if shelf is not None:
            shutil.rmtree(shelf.folder, ignore_errors=True)

    def _do(self, task: Task, check: Callable[[], None]) -> None:
        """Compute a step in this process; what it says is kept until it is asked for."""
        events: list[Event] = []
        try:
            outputs = self.compute(task.step, task.inputs, events.append, check)
            task.result = Result(outputs=outputs, events=events)
        except StepFailed as failure:
            task.result = Result(failure=failure, events=events)
        with self._turn:
            self._round.computed(task)
            self.made[HERE] = self.made.get(HERE, 0) + 1

    # what follows is called by whoever holds the turn

    def _ready(self, task: Task) -> Result | None:
        """The result of a step, if it is there."""
        for worker in self._workers:
            worker.give_back()
        if task.done is None and task.result is None:
            self._make_way(task)
        if task.done is not None:
            self._receive(task, here=False)
            self._dispatch()
        return task.result

    def _make_way(self, wanted: Task) -> None:
        """If the worker that has a step has no place for its outputs, take those of a later step out of there."""
        for worker in self._workers:
            if worker.full and wanted in worker.tasks and len(worker.full) + len(worker.held) >= AREAS:
                self._receive(worker.full[0], here=True)

    def _receive(self, task: Task, *, here: bool) -> None:
        """Take a step's outputs from its worker; `here` into memory of this process."""
        done, task.done = task.done, None
        assert done is not None
        assert self._shelf is not None
        done.worker.full.remove(task)
        try:
            task.result = receiving.received(done.worker, done.message, self._shelf, self._state, here=here)
        except (MessageError, KeyError, TypeError) as error:
            self._only_here(task, f"what a worker gave cannot be read: {error}")

    def _for_me(self, wanted: Task) -> Task | None:
        """A step for this process while it waits for that one: itself, if nobody has begun it, or one after it."""
        if wanted.here:
            return wanted
        alone = not self._workers
        if wanted.deaths and alone:
            wanted.result = Result(failure=died(wanted, "workers ended"))
        elif self._round.waits(wanted) and (self._helps or alone) and not wanted.deaths:
            self._round.waiting.remove(wanted)
            wanted.here = True
            return wanted
        elif self._helps and not self._round.is_full() and (other := self._round.next(HERE)):
            other.here = True
            return other
        return None

    def _dispatch(self) -> None:
        """Give the workers what they can do now: a second step each only while there are plenty."""
        if self._shared is None and self._state is not None:
            return
        for deep in range(1, DEEP + 1):
            for worker in list(self._workers):
                plenty = deep == 1 or len(self._round.waiting) > 2 * self._count
                if not (worker.ready and len(worker.tasks) < deep and plenty):
                    continue
                task = self._round.next(worker.number)
                if task is None:
                    return
                try:
                    worker.give(task)
                except (MessageError, OSError) as error:
                    self._round.back([task])
                    self._give_up(f"what a silo keeps cannot be shared: {error}")
                    return

    def _share(self) -> None:
        """Put the round's state where every worker sees it, unless it is there."""
        if self._shelf is None or self._shared is not None or self._state is None or self.why_not:
            return
        described, tensors = taken_apart({"state": self._state})
        try:
            self._shared = {"described": described, "packed": self._shelf.put("state", tensors)}
        except (MessageError, OSError) as error:
            self._give_up(f"the model cannot be shared: {error}")
            return
        for worker in self._workers:
            worker.send("state", **self._shared)

    def _add(self) -> None:
        """Start one more worker."""
        assert self._shelf is not None
        hello = {**self._hello, "folder": str(self._shelf.folder)}
        try:
            worker = WorkerProcess(next(self._names), self._shelf, hello, self._heard, self._lost)
        except OSError as error:
            self._give_up(f"a process cannot be started: {error}")
            return
        self._workers.append(worker)
        worker.send("job", **self._job)
        if self._shared is not None:
            worker.send("state", **self._shared)

    def _heard(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """A worker's message, in the thread that listens to it."""
        with self._turn:
            if worker not in self._workers:
                return
            if message["kind"] == "ready":
                worker.ready = True
            elif message["kind"] == "unable":
                self._give_up(str(message["why"]))
            else:
                self._came(worker, message)
            self._dispatch()
            self._turn.notify_all()

    def _came(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """What came of a step."""
        if not worker.tasks or worker.tasks[0].number != message.get("number"):
            raise MessageError(f"a worker speaks of a step that it does not have: {message.get('number')!r:.20}")
        task, kind = worker.tasks[0], message["kind"]
        if not self._round.wants(task):
            if kind == "done":
                worker.send("area", area=message["packed"]["area"])
        elif kind == "done":
            task.done = Done(worker=worker, message=message)
            worker.full.append(task)
        elif kind == "failed":
            task.result = receiving.failed(message)
        else:
            self._only_here(task, str(message.get("why", "a worker did not do it")))
        worker.tasks.popleft()
        self.made[worker.number] = self.made.get(worker.number, 0) + 1

    def _only_here(self, task: Task, why: str) -> None:
        """What cannot come from a worker is computed in this process, when it is asked for."""
        self.notes.append(f"{task.step.id} is computed in the run's own process, since {why}")
        task.here = True

    def _lost(self, worker: WorkerProcess, code: int) -> None:
        """A worker has ended, though nobody told it to: another one takes its place, and its steps."""
        with self._turn:
            if worker not in self._workers:
                return
            self._workers.remove(worker)
            ended = f"a worker {ended_by(code)}"
            if worker.tasks and self._round.wants(worker.tasks[0]):
                self._blame(worker.tasks[0], ended)
            self._round.back(task for task in worker.tasks if task.result is None)
            worker.tasks.clear()
            self._false_starts += not worker.ready
            if self._false_starts >= FALSE_STARTS:
                self._give_up(f"{ended} before it was ready")
            else:
                self._add()
            self._turn.notify_all()

    def _blame(self, task: Task, ended: str) -> None:
        """A process ended while it computed this step: it is done again, by another worker, or it has failed."""
        task.deaths += 1
        if task.deaths < LIVES:
            self.notes.append(f"{ended} while it computed {task.step.id}, which is computed again")
            return
        self._deadly.add(task.step.id)
        task.result = Result(failure=died(task, ended))

    def _give_up(self, why: str) -> None:
        """Go on without workers: this process computes what is left."""
        self.why_not = why
        self.notes.append(f"the silos' steps are computed one after the other, since {why}")
        workers, self._workers = self._workers, []
        self._gone += workers
        self._round.back(task for worker in workers for task in worker.tasks)
        for worker in workers:
            worker.end()

    def _void(self) -> None:
        """Tell the workers that nobody waits for their steps any more."""
        for task in self._round.tasks.values():
            if task.done is not None:
                task.done.worker.full.remove(task)
                task.done.worker.send("area", area=task.done.message["packed"]["area"])
        self._round.begin([], helps=False)
        if any(worker.tasks for worker in self._workers):
            upto = next(self._numbers)
            for worker in self._workers:
                worker.send("void", upto=upto)


def died(task: Task, how: str) -> StepFailed:
    """A step whose processes end."""
    step = task.step
    return StepFailed(
        f"{how}, {task.deaths} times while it computed this step: the system may have ended it for want of memory; ask "
        "for fewer workers, InProcess(workers=…), or use engine='exact'",
        op=step.op,
        silo=step.party,
        round=step.round,
    )
