"""compare: what federation bought, against pooled data and against each silo alone."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fl_kit.errors import DataError
from fl_kit.job import Job
from fl_kit.silo import Federation
from fl_kit.table import Cell, Shown, Table
from sim.in_process import InProcess
from sim.run import SimulatedRun
from sim.twins import load_pooled, pooled, twin_job

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FEDERATED, CENTRALISED, ALONE = "federated", "centralised", "silo-only"


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Shown):
    """One model's worth under each way of training, on the test rows of every silo together.

    metric   what is compared
    better   "higher" or "lower"
    values   way → one value per seed; ways are "federated", "centralised", "silo-only" (the mean over silos)
             and each silo's own name (the model trained there alone)
    curves   way → the metric after each round, of the first seed
    seeds    the seeds that were run
    """

    metric: str
    better: str
    values: dict[str, tuple[float, ...]]
    curves: dict[str, tuple[float, ...]]
    seeds: tuple[int, ...]

    @property
    def silos(self) -> tuple[str, ...]:
        """The silos, in silo order."""
        return tuple(way for way in self.values if way not in (FEDERATED, CENTRALISED, ALONE))

    def gain(self, over: str) -> tuple[float, float]:
        """By how much the federation is better than another way: (mean, half-width of its 95 % interval).

        Over the seeds, paired by seed, by Student's t; positive is better whatever the metric's direction.
        The half-width is nan for a single seed, both are where the metric is not a number for some seed.
        """
        sign = 1.0 if self.better == "higher" else -1.0
        pairs = zip(self.values[FEDERATED], self.values[over], strict=True)
        return interval([sign * (ours - theirs) for ours, theirs in pairs])

    @property
    def verdict(self) -> str:
        """One sentence: who wins, by how much, and how sure that is."""
        return f"{self._against(ALONE)}; {self._against(CENTRALISED, short=True)}."

    def _against(self, other: str, *, short: bool = False) -> str:
        mean, half = self.gain(other)
        ours, theirs = statistics.fmean(self.values[FEDERATED]), statistics.fmean(self.values[other])
        least = half if len(self.seeds) > 1 else 0.0
        word = "beats" if mean - least > 0 else "loses to" if mean + least < 0 else "cannot be told from"
        doubt = f"95 % interval {mean - half:+z.3f} to {mean + half:+z.3f} over {len(self.seeds)} seeds"
        if len(self.seeds) == 1:
            doubt = "one seed, so without an interval"
        start = f"it {word} {other}" if short else f"Federated {self.metric} {ours:.3f} {word} {other}"
        return f"{start} {theirs:.3f} by {mean:+z.3f} ({doubt})"

    def table(self) -> Table:
        """One row for each way of training."""
        ways = [FEDERATED, CENTRALISED, ALONE, *self.silos]
        rows: list[list[Cell]] = [
            [
                f"only {way}" if way in self.silos else way,
                statistics.fmean(self.values[way]),
                spread(self.values[way]) if len(self.seeds) > 1 else None,
                None if way == FEDERATED else self.gain(way)[0],
            ]
            for way in ways
        ]
        return Table(
            columns=["trained", self.metric, "± over seeds", "federated is better by"],
            rows=rows,
            title=f"On the test rows of all {len(self.silos)} silos, {len(self.seeds)} seeds",
            note=self.verdict,
        )

    def plot(self) -> "Figure":
        """A picture: each way's value with one dot a seed, the federation's marked."""
        from sim.comparison_picture import draw

        return draw(self.metric, self.better, self.values, self.curves, self.seeds)


def compare(
    job: Job,
    federation: Federation | Callable[[int], Federation],
    *,
    metric: str | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
) -> Comparison:
    """Train the job, its centralised twin and each silo-only twin, once for each seed.

    job         its `seed` is replaced by each of `seeds`
    federation  one federation for all seeds, or a function from the seed to one, so that the uncertainty
                covers the split into train and test rows too
    metric      what to compare; default: the task's first metric, or the loss
    seeds       at least one; five give a usable interval

    Every model is measured on the test rows of all silos together, from mergeable sums. Nothing is written
    to disk. Simulation only: the centralised twin sees every silo's rows.
    Raises DataError for a metric that the task does not have, no seeds or one seed twice, a silo with the
    name of a way; IncompatibleError for a job whose gradient steps cannot be counted; whatever a run raises.
    """
    metric = metric or next(iter(job.task.metrics), "loss")
    if metric != "loss" and metric not in job.task.metrics:
        raise DataError(f"the task has no metric {metric!r}; it has {', '.join(['loss', *job.task.metrics])}")
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise DataError(f"compare() needs at least one seed, each of them once, not {seeds}")
    better = "lower" if metric == "loss" else job.task.metrics[metric].better
    curves = [one_seed(job, federation(s) if callable(federation) else federation, metric, s) for s in seeds]
    values = {way: tuple(found[way][-1] for found in curves) for way in curves[0]}
    return Comparison(metric=metric, better=better, values=values, curves=curves[0], seeds=seeds)


def one_seed(job: Job, federation: Federation, metric: str, seed: int) -> dict[str, tuple[float, ...]]:
    """Way → the metric after each round, for one seed."""
    if taken := {FEDERATED, CENTRALISED, ALONE} & set(federation.names):
        raise DataError(f"compare() calls a way of training {min(taken)!r}; give the silo of that name another")
    federation.check()
    job = replace(job, seed=seed, evaluate_every=1)
    twin, load = twin_job(job, federation), load_pooled(job, federation)

    def trained_on(silos: Sequence[str], name: str) -> tuple[float, ...]:
        return curve(InProcess(folder=None, load=load).start(twin, pooled(silos, name)), metric)

    federated = curve(InProcess(folder=None).start(job, federation), metric)
    centralised = trained_on(federation.names, CENTRALISED)
    alone = {silo: trained_on([silo], silo) for silo in federation.names}
    mean = tuple(map(statistics.fmean, zip(*alone.values(), strict=True)))
    return {FEDERATED: federated, CENTRALISED: centralised, ALONE: mean, **alone}


def curve(run: SimulatedRun, metric: str) -> tuple[float, ...]:
    frame: pd.DataFrame = run.wait().history()
    found = frame[(frame["party"] == "global") & (frame["metric"] == metric)].sort_values("round")
    return tuple(float(value) for value in found["value"])


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the half-width of its 95 % interval by Student's t; a half-width of nan for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    from scipy.stats import t

    return mean, float(t.ppf(0.975, len(values) - 1)) * spread(values) / math.sqrt(len(values))


def spread(values: Sequence[float]) -> float:
    """The standard deviation, estimated from at least two values; nan if one of them is not finite."""
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
