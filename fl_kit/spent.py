"""What the seconds of steps and rounds go into: computing, and reading and writing messages. For people who wait.

No weight and no figure depends on it, and it never leaves the party whose step it is: a message holds no times.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fl_kit.events import STEP_TIMED, Event, now


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of a step, or of several that waited for one another.

    compute   training, measuring, aggregating
    transfer  reading and writing messages
    """

    compute: float = 0.0
    transfer: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(compute=self.compute + other.compute, transfer=self.transfer + other.transfer)

    @property
    def total(self) -> float:
        """Both together."""
        return self.compute + self.transfer

    def of(self, seconds: float) -> dict[str, float]:
        """What a round of so many seconds went into; what is left is waiting, such as for a process to start."""
        return {
            "seconds": seconds,
            "compute": self.compute,
            "wait": max(0.0, seconds - self.total),
            "transfer": self.transfer,
        }


class Meter:
    """Counts the seconds of one step: those inside `transferring` are transfer, the rest of `working` is compute."""

    def __init__(self) -> None:
        self._transfer = 0.0
        self._compute = 0.0

    @property
    def spent(self) -> Spent:
        """The seconds so far."""
        return Spent(compute=self._compute, transfer=self._transfer)

    @contextmanager
    def transferring(self) -> Iterator[None]:
        """Count what happens within as transfer."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._transfer += time.perf_counter() - start

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count what happens within as compute, without the transfer in it."""
        start, before = time.perf_counter(), self._transfer
        try:
            yield
        finally:
            self._compute += time.perf_counter() - start - (self._transfer - before)


def timed(spent: Spent, *, round: int, party: str) -> Event:
    """How a step that runs as a process of its own says what its seconds went into."""
    value = {"compute": spent.compute, "transfer": spent.transfer}
    return Event(time=now(), round=round, party=party, name=STEP_TIMED, value=value)
