"""Faults of a silo's machine."""

from dataclasses import dataclass

from fl_kit.errors import IncompatibleError
from sim.faults.fault import MachineFault, check_seconds


@dataclass(frozen=True, kw_only=True)
class Slow(MachineFault):
    """The step takes so many seconds more, by its own clock. Nobody waits for them: the clock is moved on.

    seconds  how many; the silo is late if the job's deadline is then over

    >>> job = replace(job, min_silos=3, deadline=60)
    >>> faults = {"delta": Slow(seconds=90, rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds(self)


@dataclass(frozen=True, kw_only=True)
class Hang(MachineFault):
    """The step never ends by itself, and never looks at the clock: it is ended from outside.

    Needs Job(deadline=…). Nobody waits for the deadline here: it counts as over at once.

    >>> job = replace(job, min_silos=3, deadline=60)
    >>> faults = {"delta": Hang(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """


@dataclass(frozen=True, kw_only=True)
class Crash(MachineFault):
    """The step's process is killed, as by a machine that runs out of memory; what it had done is lost.

    at  at which of its batches, counted from 1

    >>> job = replace(job, min_silos=3)
    >>> faults = {"delta": Crash(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    at: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.at) is not int or self.at < 1:
            raise IncompatibleError(f"Crash(at={self.at!r}): must be a whole number of at least 1, the batch")


@dataclass(frozen=True, kw_only=True)
class ClockSkew(MachineFault):
    """The machine's clock is wrong. No bit of a run hangs on it: a deadline is held by differences of time.

    seconds  by how much it is fast; negative where it is slow

    >>> faults = {"delta": ClockSkew(seconds=3600)}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds(self, negative=True)
