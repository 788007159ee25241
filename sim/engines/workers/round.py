"""The steps of one round, from when they are announced until they are asked for: which are left, and for whom."""

import itertools
from collections import deque
from collections.abc import Iterable

from fl_kit.plan import Step
from sim.engines.workers.tasks import Task

HERE = 0
"""This process, among the numbers of the workers."""
NEAR = 8
"""Steps among which a process prefers those of silos whose rows it has read."""
ROOM = 64 << 20
"""Bytes of results that this process may have before they are asked for; one result it may always have."""


class Round:
    """Steps in the order in which they will be asked for; about so they are begun, so that few results wait.

    A silo goes to the process that has its rows already, unless that one has too much to do.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        """Step id → what was announced and not yet asked for."""
        self.waiting: deque[Task] = deque()
        """Those that nobody has begun."""
        self.home: dict[str, int] = {}
        """Silo → the process that computed its last step."""
        self._mine: list[Task] = []

    def begin(self, tasks: list[Task], *, helps: bool) -> None:
        """A new round. The first step is left for this process if it helps, since it will be asked for at once."""
        self.tasks = {task.step.id: task for task in tasks}
        self.waiting = deque(tasks)
        self._mine = []
        if tasks and helps:
            tasks[0].here = True
            self.waiting.popleft()

    def add(self, task: Task) -> None:
        """A step that is asked for now."""
        self.tasks[task.step.id] = task
        self.waiting.appendleft(task)

    def wants(self, task: Task) -> bool:
        """Whether the step will still be asked for."""
        return self.tasks.get(task.step.id) is task

    def asked_for(self, step: Step) -> None:
        """Let go of a step that was asked for, and of what came of it."""
        self.tasks.pop(step.id, None)
        self._mine = [task for task in self._mine if self.wants(task)]

    def waits(self, task: Task) -> bool:
        """Whether nobody has begun a step that is asked for now; if so, it is among the first of those."""
        return any(one is task for one in itertools.islice(self.waiting, NEAR))

    def next(self, who: int) -> Task | None:
        """The step that a process should do next, which then no longer waits.

        A step that has ended a process is not for this one.
        """
        near = [task for task in itertools.islice(self.waiting, NEAR) if not (task.deaths and who == HERE)]
        own = (task for task in near if self.home.get(task.step.party, who) == who)
        found = next(own, near[0] if near else None)
        if found is not None:
            self.waiting.remove(found)
            self.home[found.step.party] = who
        return found

    def back(self, tasks: Iterable[Task]) -> None:
        """What its process did not end waits again, in its place."""
        wanted = [task for task in tasks if self.wants(task)]
        self.waiting = deque(sorted([*wanted, *self.waiting], key=lambda task: task.number))

    def computed(self, task: Task) -> None:
        """This process has computed a step, whose result is there until it is asked for."""
        self.home[task.step.party] = HERE
        self._mine.append(task)

    def is_full(self) -> bool:
        """Whether as many results of this process wait as there is room for."""
        sizes = [task.result.size for task in self._mine if task.result is not None]
        return bool(sizes) and sum(sizes) + max(sizes) > ROOM
