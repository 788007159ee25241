"""Who wins and who loses by joining, silo by silo, and how fair the shared model is."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from fl_kit.table import Cell, Shown, Table
from sim.evaluation.intervals import interval

FEDERATED = "federated"


@dataclass(frozen=True, kw_only=True, repr=False)
class SiloGains(Shown):
    """Each silo's own test rows under the model that it could train alone, and under the federation's.

    metric  what is compared
    better  "higher" or "lower"
    seeds   the seeds that were run
    on      way → silo → one value per seed on that silo's test rows; ways are "federated" and each silo's name

    >>> gains = comparison.by_silo()
    >>> gains.says("alpha") in ("wins", "loses", "unsure")
    True
    """

    metric: str
    better: str
    seeds: tuple[int, ...]
    on: Mapping[str, Mapping[str, tuple[float, ...]]]

    @property
    def silos(self) -> tuple[str, ...]:
        """The silos, in silo order."""
        return tuple(self.on[FEDERATED])

    def gain(self, silo: str) -> tuple[float, float]:
        """By how much joining helps the silo on its own rows: (mean, half-width of its 95 % interval).

        Paired by seed; positive is better whatever the metric's direction. Seeds for which either value is
        undefined (an AUC on rows of one class) are left out; nan if none is left.
        """
        sign = 1.0 if self.better == "higher" else -1.0
        pairs = zip(self.on[FEDERATED][silo], self.on[silo][silo], strict=True)
        gains = [sign * (joined - alone) for joined, alone in pairs]
        gains = [gain for gain in gains if not math.isnan(gain)]
        return interval(gains) if gains else (math.nan, math.nan)

    def says(self, silo: str) -> str:
        """Whether it "wins", "loses", or is "unsure": the interval holds 0, or there is none."""
        mean, half = self.gain(silo)
        return "wins" if mean - half > 0 else "loses" if mean + half < 0 else "unsure"

    def worst(self, way: str = FEDERATED) -> tuple[str, float]:
        """The silo that is served worst on its own rows, and its mean value; way "own" is each by its own model."""
        means = {silo: mean_of(self.on[silo if way == "own" else way][silo]) for silo in self.silos}
        known = {silo: value for silo, value in means.items() if not math.isnan(value)}
        if not known:
            return "", math.nan
        pick = min if self.better == "higher" else max
        silo = pick(known, key=known.__getitem__)
        return silo, known[silo]

    @property
    def verdict(self) -> str:
        """One sentence: who wins, who loses, and how the worst served silo fares."""
        groups = {word: [silo for silo in self.silos if self.says(silo) == word] for word in ("wins", "loses")}
        said = [
            f"{', '.join(silos)} {word if len(silos) == 1 else word[:-1]}" for word, silos in groups.items() if silos
        ]
        unsure = len(self.silos) - sum(map(len, groups.values()))
        said += [f"for {unsure} of {len(self.silos)} it cannot be told"] if unsure else []
        (silo, joined), (_, alone) = self.worst(), self.worst("own")
        fair = f"the worst served silo has {self.metric} {joined:.3f} ({silo}), and {alone:.3f} without joining"
        return f"By joining, on its own rows: {'; '.join(said)}; {fair}."

    def table(self) -> Table:
        """One row for each silo."""
        rows: list[list[Cell]] = []
        for silo in self.silos:
            mean, half = self.gain(silo)
            alone, joined = mean_of(self.on[silo][silo]), mean_of(self.on[FEDERATED][silo])
            rows.append([silo, *map(known, (alone, joined, mean, half)), self.says(silo)])
        return Table(
            columns=["silo", "alone", "federated", "gain by joining", "± (95 %)", "it"],
            rows=rows,
            title=f"{self.metric} on each silo's own test rows, {len(self.seeds)} seeds",
            note=self.verdict,
        )


def mean_of(values: tuple[float, ...]) -> float:
    """The mean of what is known; nan if nothing is."""
    found = [value for value in values if not math.isnan(value)]
    return statistics.fmean(found) if found else math.nan


def known(value: float) -> float | None:
    return None if math.isnan(value) else value
