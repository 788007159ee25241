"""compare: what federation bought, against pooled data and against each silo alone."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fl_kit.errors import DataError
from fl_kit.job import Job
from fl_kit.silo import Federation
from fl_kit.table import Cell, Shown, Table
from sim.evaluation.intervals import interval, spread
from sim.evaluation.measuring import Measuring, chosen_metric, value_of
from sim.evaluation.silo_gains import SiloGains
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
    on       way → silo → one value per seed, on that silo's test rows alone; without the mean over silos

    >>> comparison = compare(job, federation, seeds=(0, 1))  # doctest: +SKIP
    >>> gain, half_width = comparison.gain("silo-only")
    >>> figure = comparison.plot()  # doctest: +SKIP
    """

    metric: str
    better: str
    values: dict[str, tuple[float, ...]]
    curves: dict[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    on: Mapping[str, Mapping[str, tuple[float, ...]]]

    @property
    def silos(self) -> tuple[str, ...]:
        """The silos, in silo order."""
        return tuple(way for way in self.values if way not in (FEDERATED, CENTRALISED, ALONE))

    @property
    def reference(self) -> dict[str, dict[str, float]]:
        """The baselines as lines to compare with: `watch(run, reference=comparison.reference)`."""
        return {self.metric: {way: statistics.fmean(self.values[way]) for way in (CENTRALISED, ALONE)}}

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

    def by_silo(self) -> "SiloGains":
        """Who wins and who loses by joining: each silo's own rows under its own model and under the federation's."""
        return SiloGains(metric=self.metric, better=self.better, seeds=self.seeds, on=self.on)

    def heat_map(self) -> "Figure":
        """A picture: every model (a row) on every silo's test rows (a column), mean over the seeds."""
        from sim.evaluation.heat_map import draw

        models = [FEDERATED, CENTRALISED, *self.silos]
        means = [[statistics.fmean(self.on[model][silo]) for silo in self.silos] for model in models]
        rows = [f"only {model}" if model in self.silos else model for model in models]
        return draw(self.metric, self.better, rows, self.silos, means)


def compare(
    job: Job,
    federation: Federation | Callable[[int], Federation],
    *,
    metric: str | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
) -> Comparison:
    """Train the job, its centralised twin and each silo-only twin, once for each seed.

    job         its `seed` is replaced by each of `seeds`; all its rounds are run, whatever its `stop` says
    federation  one federation for all seeds, or a function from the seed to one, so that the uncertainty
                covers the split into train and test rows too
    metric      what to compare; default: the task's first metric, or the loss
    seeds       at least one; five give a usable interval

    Every model is measured on the test rows of all silos together, from mergeable sums. Nothing is written
    to disk. Simulation only: the centralised twin sees every silo's rows.
    Raises DataError for a metric that the task does not have, no seeds or one seed twice, a silo with the
    name of a way; IncompatibleError for a job whose gradient steps cannot be counted; whatever a run raises.

    >>> print(compare(job, federation, seeds=(0,)).verdict)
    Federated accuracy ... silo-only ...
    """
    metric = chosen_metric(job, metric)
    seeds = tuple(seeds)
    if not seeds or len(set(seeds)) < len(seeds):
        raise DataError(f"compare() needs at least one seed, each of them once, not {seeds}")
    better = "higher" if job.task.sign(metric) > 0 else "lower"
    found = [one_seed(job, federation(s) if callable(federation) else federation, metric, s) for s in seeds]
    return Comparison(
        metric=metric,
        better=better,
        values={way: tuple(one.curves[way][-1] for one in found) for way in found[0].curves},
        curves=found[0].curves,
        seeds=seeds,
        on={
            way: {silo: tuple(one.on[way][silo] for one in found) for silo in silos}
            for way, silos in found[0].on.items()
        },
    )


@dataclass(frozen=True, kw_only=True)
class OneSeed:
    """What one seed gave.

    curves  way → the metric after each round
    on      way → silo → the metric of the final model on that silo's test rows
    """

    curves: dict[str, tuple[float, ...]]
    on: dict[str, dict[str, float]]


def one_seed(job: Job, federation: Federation, metric: str, seed: int) -> OneSeed:
    """Every way trained once."""
    if taken := {FEDERATED, CENTRALISED, ALONE} & set(federation.names):
        raise DataError(f"compare() calls a way of training {min(taken)!r}; give the silo of that name another")
    federation.check()
    job = replace(job, seed=seed, evaluate_every=1, stop=None)
    twin, load = twin_job(job, federation), load_pooled(job, federation)
    measuring = Measuring(twin, federation)
    federated = InProcess(folder=None).start(job, federation).wait()
    curves, on = {FEDERATED: curve(federated, metric)}, {FEDERATED: last_of_each(federated, metric)}
    for way, silos in {CENTRALISED: federation.names, **{silo: (silo,) for silo in federation.names}}.items():
        run = InProcess(folder=None, load=load).start(twin, pooled(silos, way)).wait()
        curves[way] = curve(run, metric)
        on[way] = {silo: value_of(job, metric, [sums]) for silo, sums in measuring.on_each(run.state()).items()}
    mean = tuple(map(statistics.fmean, zip(*(curves[silo] for silo in federation.names), strict=True)))
    ways = {FEDERATED: curves.pop(FEDERATED), CENTRALISED: curves.pop(CENTRALISED), ALONE: mean}
    return OneSeed(curves=ways | curves, on=on)


def last_of_each(run: SimulatedRun, metric: str) -> dict[str, float]:
    """Silo → the metric that it was last measured at, with the model that this silo uses."""
    frame: pd.DataFrame = run.history()
    found = frame[(frame["metric"] == metric) & (frame["round"] == run.rounds_done)].set_index("party")["value"]
    return {silo: float(found[silo]) for silo in run.federation.names}


def curve(run: SimulatedRun, metric: str) -> tuple[float, ...]:
    frame: pd.DataFrame = run.history()
    found = frame[(frame["party"] == "global") & (frame["metric"] == metric)].sort_values("round")
    return tuple(float(value) for value in found["value"])
