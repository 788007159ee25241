"""Who takes part in which round, where not every silo trains in each."""

from collections.abc import Callable, Collection
from typing import TypeAlias

from fl_kit.randomness import derived_seed

Participants: TypeAlias = Callable[[int], tuple[str, ...]]
"""round → the silos that train in it, in silo order."""


def drawn_by(seed: int, silos: Collection[str], count: int) -> Participants:
    """In each round `count` silos, drawn without replacement, each subset as likely as any other.

    Every silo draws a number from (seed, round, its name), and the lowest numbers take part. So who does follows
    from nothing else: not from the order of listing, nor from how many rounds there are.
    """

    def of_round(round: int) -> tuple[str, ...]:
        lots = sorted(silos, key=lambda silo: (derived_seed(seed, "takes part", round, silo), silo))
        return tuple(sorted(lots[:count]))

    return of_round


def share_of(fraction: float, silos: int) -> int:
    """How many silos a fraction is: rounded half up, at least 1.

    >>> share_of(0.3, 10), share_of(0.25, 10), share_of(0.01, 10)
    (3, 3, 1)
    """
    return max(1, int(fraction * silos + 0.5))
