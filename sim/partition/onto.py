"""Partitioners on top of another, which deals the rows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from sim.partition.columns import Rows
from sim.partition.iid import IID
from sim.partition.partitioner import Change, Partitioner
from sim.partition.sources import Columns

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Onto(Partitioner, ABC):
    """Rows are dealt by `base`; what silos hold differs beyond that, by `own_change`.

    base  default IID, so that nothing else differs
    """

    base: Partitioner = IID()  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        check_base(self.base)

    @abstractmethod
    def own_change(self, columns: Columns, silos: Sequence[str], *, label: str | None, seed: int) -> Change:
        """As `change`, without the base's."""

    def assign(self, frame: "pd.DataFrame", n: int | None, *, label: str | None, seed: int) -> dict[str, Rows]:
        return self.base.assign(frame, n, label=label, seed=seed)

    @property
    def left_out(self) -> tuple[str, ...]:
        return self.base.left_out

    def hold(
        self, frame: "pd.DataFrame", rows: Rows, strata: Rows, share: float, random: np.random.Generator
    ) -> NDArray[np.bool_]:
        return self.base.hold(frame, rows, strata, share, random)

    def change(self, columns: Columns, silos: Sequence[str], *, label: str | None, seed: int) -> Change:
        before = self.base.change(columns, silos, label=label, seed=seed)
        own = self.own_change(columns, silos, label=label, seed=seed)

        def change(part: Columns, silo: str, split: str) -> Columns:
            first = {} if before is None else before(part, silo, split)
            return {**first, **own({**part, **first}, silo, split)}

        return change


def check_base(base: object) -> Partitioner:
    """The same; raises DataError unless it is a partitioner."""
    if not isinstance(base, Partitioner):
        raise DataError(f"base must be a partitioner, such as Dirichlet(0.3), not {base!r}")
    return base
