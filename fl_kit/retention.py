"""Which rounds a run keeps: all of them, or as many of the last ones as are asked for."""

from collections.abc import Iterable
from typing import Literal, TypeAlias

from fl_kit.errors import IncompatibleError

Keep: TypeAlias = Literal["all", "last"] | int
"""Every round, the last one, or so many of the last ones."""


def checked(keep: object, where: str) -> Keep:
    """The setting; raises IncompatibleError for one that is none, naming where it stands."""
    if keep in ("all", "last") or (type(keep) is int and keep >= 1):
        return keep
    raise IncompatibleError(f"{where}(keep={keep!r}): must be 'all', 'last', or a number of rounds of at least 1")


def oldest_kept(rounds: Iterable[int], keep: Keep) -> int:
    """The oldest round that stays, given those that are safe: all before it may go.

    >>> oldest_kept([0, 1, 2, 3], "last"), oldest_kept([0, 1, 2, 3], 3), oldest_kept([2, 3], 3)
    (3, 1, 0)
    """
    count = {"all": 0, "last": 1}[keep] if isinstance(keep, str) else keep
    newest_first = sorted(rounds, reverse=True)
    return newest_first[count - 1] if 0 < count <= len(newest_first) else 0
