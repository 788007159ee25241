"""under_attack: what each aggregator is worth, by how many silos lie. Simulation only."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fl_kit.errors import DataError
from fl_kit.job import Job
from fl_kit.protocols import Aggregator
from fl_kit.silo import Federation
from fl_kit.table import Cell, Shown, Table
from sim.evaluation.measuring import chosen_metric
from sim.faults.attack import Attack
from sim.in_process import InProcess

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Given = Attack | Sequence[Attack]


@dataclass(frozen=True, kw_only=True, repr=False)
class Resilience(Shown):
    """The final metric of every attack, aggregator and number of bad silos.

    metric  what is measured on the test rows of all silos
    better  "higher" or "lower"
    silos   how many silos there are
    bad     the numbers of bad ones, ascending
    values  attack → aggregator → the metric for each of `bad`
    digest  sha256 over the final parameters of all runs

    >>> found = under_attack(job, federation, attacks={"flip": SignFlip()}, aggregators={"mean": Mean()}, bad=(0, 1))
    >>> len(found.worst("mean"))
    2
    """

    metric: str
    better: str
    silos: int
    bad: tuple[int, ...]
    values: Mapping[str, Mapping[str, tuple[float, ...]]]
    digest: str

    def worst(self, aggregator: str) -> tuple[float, ...]:
        """The metric under the attack that does the most harm, for each of `bad`."""
        choose = min if self.better == "higher" else max
        rows = [found[aggregator] for found in self.values.values()]
        return tuple(choose(column) for column in zip(*rows, strict=True))

    @property
    def verdict(self) -> str:
        """One sentence on the largest number of bad silos, each aggregator under its worst attack."""
        last = {name: self.worst(name)[-1] for name in next(iter(self.values.values()))}
        ranked = sorted(last, key=last.__getitem__, reverse=self.better == "higher")
        best, least = ranked[0], ranked[-1]
        return (
            f"With {self.bad[-1]} of {self.silos} silos lying, each under its worst attack, {best} keeps "
            f"{self.metric} {last[best]:.3f}, {least} {last[least]:.3f}."
        )

    def table(self) -> Table:
        """One row for each attack and aggregator, one column for each number of bad silos."""
        rows: list[list[Cell]] = [
            [attack, name, *line] for attack, found in self.values.items() for name, line in found.items()
        ]
        return Table(
            columns=["attack", "aggregator", *(f"{count} bad" for count in self.bad)],
            rows=rows,
            title=f"Final {self.metric} with so many of {self.silos} silos bad ({self.better} is better)",
        )

    def markdown(self) -> str:
        """The same table in Markdown."""
        found = self.table()
        lines = [list(found.columns), ["---"] * len(found.columns), *found.shown(every=True)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def plot(self) -> "Figure":
        """A picture: a heat map for each attack."""
        from sim.faults.resilience_picture import draw

        return draw(self.metric, self.better, self.silos, self.bad, self.values)


def under_attack(
    job: Job,
    federation: Federation,
    *,
    attacks: Mapping[str, Given],
    aggregators: Mapping[str, Aggregator],
    bad: Sequence[int] = (0, 1, 2, 3, 4),
    metric: str | None = None,
) -> Resilience:
    """Train the job once for each attack, aggregator and number of bad silos, in this process.

    attacks      name → attack of `sim.faults`, or several that act one after the other
    aggregators  name → what takes the place of the job's own
    bad          how many silos make the attack: the first ones in silo order. With 0 there is one run for all attacks
    metric       default: the task's first, or the loss

    The model is measured after the last round on the test rows of all silos, which stay honest. Nothing is written
    to disk. Raises DataError for nothing to compare, or more bad silos than there are; whatever a run raises.

    >>> rules = {"mean": Mean(), "median": Median()}
    >>> found = under_attack(job, federation, attacks={"flip": SignFlip()}, aggregators=rules, bad=(0, 1))
    """
    bad = tuple(sorted(set(bad)))
    if not (attacks and aggregators and bad):
        raise DataError("under_attack() needs at least one attack, one aggregator and one number of bad silos")
    if bad[0] < 0 or bad[-1] > len(federation):
        raise DataError(f"under_attack(bad={bad}): there are {len(federation)} silos")
    metric = chosen_metric(job, metric)
    jobs = {name: replace(job, aggregator=rule, evaluate_every=0) for name, rule in aggregators.items()}
    for asked in jobs.values():  # all are refused before the first runs
        asked.plan(federation)
    honest: dict[str, tuple[float, str]] = {}
    values: dict[str, dict[str, tuple[float, ...]]] = {}
    sha = hashlib.sha256()
    for attack, given in attacks.items():
        values[attack] = {}
        for name, asked in jobs.items():
            line = []
            for count in bad:
                if count == 0 and name not in honest:
                    honest[name] = final(asked, federation, {}, metric)
                liars = dict.fromkeys(federation.names[:count], given)
                value, digest = honest[name] if count == 0 else final(asked, federation, liars, metric)
                sha.update(digest.encode())
                line.append(value)
            values[attack][name] = tuple(line)
    better = "higher" if job.task.sign(metric) > 0 else "lower"
    return Resilience(
        metric=metric, better=better, silos=len(federation), bad=bad, values=values, digest=sha.hexdigest()
    )


def final(job: Job, federation: Federation, faults: Mapping[str, Given], metric: str) -> tuple[float, str]:
    """The metric after the last round, and the digest of the parameters."""
    run = InProcess(folder=None, faults=faults).start(job, federation).wait()
    frame: pd.DataFrame = run.history()
    found = frame[(frame["party"] == "global") & (frame["metric"] == metric)].sort_values("round")
    return float(found["value"].iloc[-1]), run.digest()
