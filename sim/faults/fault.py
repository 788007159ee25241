"""What a fault is: something that goes wrong in an honest silo, or with what it sends."""

import math
from dataclasses import dataclass
from typing import Any

from fl_kit.errors import IncompatibleError
from fl_kit.plan import Step
from fl_kit.randomness import SEED_BITS, derived_seed


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that befalls a silo's training step (`fit`).

    rounds       in which rounds; None means in all
    probability  how likely it is in each of them: drawn from the job's seed, the silo, the round and the step, so that
                 it is the same in every backend and after a resume
    times        how many attempts of a step it strikes, before the step is left in peace; 0 means every attempt
    """

    rounds: tuple[int, ...] | None = None
    probability: float = 1.0
    times: int = 1

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not (self.rounds is None or are_rounds(self.rounds)):
            raise IncompatibleError(f"{name}(rounds={self.rounds!r}): must be a tuple of rounds from 1, or None")
        if not (is_number(self.probability) and 0 < self.probability <= 1):
            raise IncompatibleError(f"{name}(probability={self.probability!r}): must be above 0 and at most 1")
        if type(self.times) is not int or self.times < 0:
            raise IncompatibleError(f"{name}(times={self.times!r}): must be a whole number of at least 0; 0 is always")

    def strikes(self, step: Step, attempt: int, *, seed: int, place: int) -> bool:
        """Whether it strikes that attempt of a step, counted from 1; `place` is its own among the silo's faults."""
        if step.op != "fit" or (self.rounds is not None and step.round not in self.rounds):
            return False
        if self.times and attempt > self.times:
            return False
        lot: float = derived_seed(seed, "fault", type(self).__name__, place, step.id) / 2**SEED_BITS
        return lot < self.probability


class MachineFault(Fault):
    """Befalls the machine on which a silo's step runs."""


def check_seconds(fault: Any, *, negative: bool = False) -> None:
    """Raise IncompatibleError for seconds that are no number, or not above 0 where they have to be."""
    seconds = fault.seconds
    if not (is_number(seconds) and (negative or seconds > 0)):
        above = "" if negative else " above 0"
        raise IncompatibleError(f"{type(fault).__name__}(seconds={seconds!r}): must be a number of seconds{above}")


def are_rounds(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(type(round) is int and round > 0 for round in value)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
