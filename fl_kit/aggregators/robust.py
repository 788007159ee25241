"""What the robust aggregators have in common."""

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

from fl_kit.errors import IncompatibleError, QuorumLost
from fl_kit.messages import Update
from fl_kit.protocols import Context


class Robust:
    """A rule that some of the silos cannot overrule, however they lie.

    It holds every update of a round at once, a model for each silo. An update of no weight does not count. All
    others count alike, whatever number of rows they claim: a silo that lies about its update lies about its rows.

    needs       how many updates must count in a round
    inequality  the same with its reason, as in "n ≥ 2·bad + 3 = 7"
    """

    inspects_individuals: ClassVar[bool] = True
    is_mean: ClassVar[bool] = False

    @property
    def needs(self) -> int:
        return 1

    @property
    def inequality(self) -> str:
        return f"n ≥ {self.needs}"

    def check(self, silos: Sequence[str], *, drawn: int, least: int) -> None:
        if least < self.needs:
            raise IncompatibleError(
                f"{self} needs {self.inequality} updates in a round, and this job may have only {least} "
                f"({drawn} of {len(silos)} silos take part in a round, {least} must deliver)"
            )

    def gather(self, updates: Iterable[Update], ctx: Context) -> list[Update]:
        """The updates that count; raises QuorumLost if there are too few."""
        found = [update for update in updates if update.weight > 0]
        if len(found) < self.needs:
            raise QuorumLost(
                f"round {ctx.step.round}: {self} needs {self.inequality} updates, and {len(found)} count. "
                "Mend the silos that are missing, then resume the run"
            )
        return found


def check_whole(rule: Robust, name: str, least: int) -> None:
    """Raise IncompatibleError if a setting is no whole number of at least `least`."""
    value = getattr(rule, name)
    if type(value) is not int or value < least:
        raise IncompatibleError(f"{type(rule).__name__}({name}={value!r}): must be a whole number of at least {least}")


def check_positive(rule: Robust, name: str) -> None:
    """Raise IncompatibleError if a setting is no number above 0."""
    value = getattr(rule, name)
    if not (isinstance(value, int | float) and 0 < value < math.inf):
        raise IncompatibleError(f"{type(rule).__name__}({name}={value!r}): must be a number above 0")
