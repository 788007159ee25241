"""Which silos are chosen: the state behind the picker, without a widget."""

import threading
from collections.abc import Iterable

from fl_kit.errors import FederationError
from fl_kit.silo import Federation, Silo, matching
from fl_kit.silo_facts import Known, SiloFacts


class Selection:
    """A choice among the silos of a federation that can take part; safe for threads.

    everyone  the federation to choose from
    facts     silo → what is known of it; one with a `reason` cannot be chosen
    chosen    names to start with; None means all that can take part

    Raises FederationError for a name that is unknown, or that cannot take part.
    """

    def __init__(self, everyone: Federation, facts: Known, chosen: Iterable[str] | None = None) -> None:
        self.everyone = everyone
        self._facts = facts
        self._lock = threading.Lock()
        self._chosen: frozenset[str] = frozenset()
        self.only(self.able if chosen is None else chosen)

    def facts(self, silo: str) -> SiloFacts:
        """What is known of a silo."""
        return self._facts.get(silo, SiloFacts())

    @property
    def able(self) -> tuple[str, ...]:
        """The silos that can take part, in silo order."""
        return tuple(name for name in self.everyone.names if not self.facts(name).reason)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The chosen silos, in silo order."""
        with self._lock:
            return tuple(name for name in self.everyone.names if name in self._chosen)

    @property
    def federation(self) -> Federation:
        """The federation of the chosen silos; raises FederationError if there are none."""
        if not self.chosen:
            raise FederationError("no silo is chosen; tick at least one, or call .all()")
        return self.everyone.select(self.chosen)

    def only(self, names: Iterable[str]) -> None:
        """Choose these, which may be patterns such as "hospital-*", and no others."""
        if isinstance(names, str):
            names = [names]
        found: set[str] = set()
        for name in names:
            meant = matching(name, self.everyone.names, "silo")
            if meant == [name] and self.facts(name).reason:
                raise FederationError(f"silo {name!r} cannot take part: {self.facts(name).reason}")
            found |= {each for each in meant if not self.facts(each).reason}
        with self._lock:
            self._chosen = frozenset(found)

    def where(self, *, region: str | None = None, min_rows: int | None = None) -> tuple[str, ...]:
        """The silos that can take part, of a region (or pattern) and with at least so many rows (if known)."""
        silos: Iterable[Silo] = self.everyone.silos if region is None else self.everyone.select(region=region).silos
        enough = [silo.name for silo in silos if min_rows is None or (self.facts(silo.name).rows or 0) >= min_rows]
        return tuple(name for name in enough if not self.facts(name).reason)

    def set(self, silo: str, on: bool) -> None:
        """Choose or drop one silo; one that cannot take part stays out."""
        with self._lock:
            able = on and not self.facts(silo).reason
            self._chosen = self._chosen | {silo} if able else self._chosen - {silo}

    def invert(self) -> None:
        """Choose what is not chosen, and drop what is."""
        with self._lock:
            self._chosen = frozenset(self.able) - self._chosen

    def summary(self) -> str:
        """`10 of 12 silos · 20,801 rows · 4 regions · both classes · 1.20 a round`: what is known of the choice."""
        chosen = self.chosen
        facts = [self.facts(name) for name in chosen]
        parts = [f"{len(chosen)} of {len(self.everyone)} silos"]
        rows = [one.rows for one in facts if one.rows is not None]
        if rows:
            parts.append(f"{sum(rows):,} rows" + ("" if len(rows) == len(facts) else " where known"))
        regions = {self.everyone[name].region for name in chosen} - {""}
        if regions:
            parts.append(f"{len(regions)} region{'s' if len(regions) > 1 else ''}")
        if everywhere := self.classes:
            here = {label for one in facts for label, count in one.labels.items() if count}
            lacking = [label for label in everywhere if label not in here]
            parts.append(f"no rows of class {', '.join(lacking)}" if lacking else f"all {len(everywhere)} classes")
        prices = [one.price for one in facts if one.price is not None]
        if prices:
            parts.append(f"{sum(prices):,.2f} a round" + ("" if len(prices) == len(facts) else " where known"))
        return " · ".join(parts)

    @property
    def classes(self) -> tuple[str, ...]:
        """Every class that any silo is known to have, in order of first appearance."""
        names = (label for name in self.everyone.names for label, count in self.facts(name).labels.items() if count)
        return tuple(dict.fromkeys(names))
