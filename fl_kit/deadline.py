"""Holds a silo's step to the job's deadline: by its own clock, wherever it runs."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from fl_kit.errors import DeadlineExceeded
from fl_kit.events import SILO_LATE, Event, now
from fl_kit.plan import Step
from fl_kit.protocols import Emit

if TYPE_CHECKING:
    from fl_kit.job import Job


class Deadline:
    """The time of one attempt of a silo's step, which begins now.

    A silo is late by what its own step took, not by who else was faster: so who counts in a round does not hang on
    the order of arrival, and is the same where silos work at once and where they are simulated one after the other.

    clock  seconds; only its differences count, so a clock that is wrong does no harm
    """

    def __init__(self, job: "Job", step: Step, clock: Callable[[], float]) -> None:
        self.job = job
        self.step = step
        self.clock = clock
        self.began = clock()

    def holding(self, check: Callable[[], None]) -> Callable[[], None]:
        """The same check, which also raises DeadlineExceeded once deadline and grace are over."""
        limit = self.job.patience
        if limit is None:
            return check
        grace = f" and a grace of {self.job.grace:g} s" if self.job.grace else ""

        def check_both() -> None:
            check()
            if self.clock() - self.began > limit:
                raise DeadlineExceeded(f"it took more than its deadline of {self.job.deadline:g} s{grace}")

        return check_both

    def refuse_late(self, emit: Emit) -> None:
        """Tell of a result that came after the deadline, and raise DeadlineExceeded, so that it does not count."""
        taken, deadline = self.clock() - self.began, self.job.deadline
        if deadline is None or taken <= deadline:
            return
        value = {"step": self.step.op, "seconds": round(taken, 3), "deadline": deadline}
        emit(Event(time=now(), round=self.step.round, party=self.step.party, name=SILO_LATE, value=value))
        raise DeadlineExceeded(
            f"its result came after {taken:.4g} s, {taken - deadline:.3g} s later than its deadline of {deadline:g} s, "
            "and is discarded"
        )
