"""contribution: what each silo's updates were worth, by leaving them out of rounds that have been run."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fl_kit.errors import DataError
from fl_kit.execute import run_step
from fl_kit.messages import State, Update
from fl_kit.plan import ORCHESTRATOR, step_id
from fl_kit.table import Cell, Shown, Table
from sim.evaluation.measuring import Measuring, chosen_metric
from sim.run import SimulatedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, repr=False)
class Contribution(Shown):
    """By how much each silo's update made the round's model better, on the test rows of all silos.

    metric  what is measured
    rounds  the rounds looked at
    values  silo → one value a round, positive where the metric is better with its update than without;
            nan where it did not take part

    >>> found = contribution(run, rounds=[3])
    >>> total = found.total("alpha")
    """

    metric: str
    rounds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]

    def total(self, silo: str) -> float:
        """The sum over the rounds in which the silo took part."""
        return math.fsum(value for value in self.values[silo] if not math.isnan(value))

    @property
    def verdict(self) -> str:
        """One sentence: who helped most, and who did harm."""
        most = max(self.values, key=self.total)
        harm = [silo for silo in self.values if self.total(silo) < 0]
        ill = f"{', '.join(harm)} did more harm than good" if harm else "none did more harm than good"
        return f"{most} contributed most to {self.metric} ({self.total(most):+z.4f} over its rounds); {ill}."

    def table(self) -> Table:
        """One row for each silo, the most valuable first."""
        rows: list[list[Cell]] = []
        for silo in sorted(self.values, key=self.total, reverse=True):
            known = [value for value in self.values[silo] if not math.isnan(value)]
            ends: list[Cell] = [known[0], known[-1]] if known else [None, None]
            rows.append([silo, len(known), self.total(silo), *ends])
        first, last = self.rounds[0], self.rounds[-1]
        return Table(
            columns=["silo", "rounds", "total", "its first", "its last"],
            rows=rows,
            title=f"Leave one silo out: change of {self.metric} by its update, rounds {first} to {last}",
            note=self.verdict,
        )

    def plot(self) -> "Figure":
        """A picture: the running sum of each silo's contribution."""
        from sim.evaluation.contribution_picture import draw

        return draw(self.metric, self.rounds, self.values)


def contribution(run: SimulatedRun, *, metric: str | None = None, rounds: Iterable[int] | None = None) -> Contribution:
    """Aggregate each round again without one silo after the other, from the updates that the run kept.

    run     of `InProcess(keep_updates=True)` or `Processes`, ended or not; its states must be kept too, so give
            it a folder, or `keep="all"`
    metric  default: the task's first metric, or the loss
    rounds  which; default: all that are done. Each costs an aggregation and an evaluation for each silo

    Leave-one-out of a single round says what an update added there, given all others; it does not share out joint
    merit as Shapley values do (Wang et al. 2020, arXiv 2009.06192, compares both), and two silos with the same
    rows each look dispensable.

    Raises DataError for a metric or round that is not there, or a round with one silo alone; StoreError for
    updates that were not kept.

    >>> run = job.run(federation, on=InProcess(folder=None, keep="all", keep_updates=True)).wait()
    >>> contribution(run, metric="loss").rounds
    (1, 2, 3)
    """
    metric = chosen_metric(run.job, metric)
    asked = tuple(range(1, run.rounds_done + 1) if rounds is None else rounds)
    odd = [round for round in asked if not 1 <= round <= run.rounds_done]
    if odd or not asked:
        raise DataError(f"contribution() of rounds {list(odd or asked)}: rounds 1 to {run.rounds_done} are done")
    measuring = Measuring(replace(run.job, min_silos=1), run.federation)
    found = [of_round(run, round, metric, measuring) for round in asked]
    silos = run.federation.names
    return Contribution(
        metric=metric,
        rounds=asked,
        values={silo: tuple(one.get(silo, math.nan) for one in found) for silo in silos},
    )


def of_round(run: SimulatedRun, round: int, metric: str, measuring: Measuring) -> dict[str, float]:
    """Silo → what its update added in that round."""
    silos = [update.silo for update in run.updates(round)]
    if len(silos) < 2:
        raise DataError(f"round {round} has the update of {', '.join(silos)} alone; without it there is no model")
    memories = run.memories(round)
    sign, whole = run.job.task.sign(metric), measuring.value(metric, run.state(round), memories)
    return {
        silo: sign * (whole - measuring.value(metric, without(run, round, silo, measuring), memories)) for silo in silos
    }


def without(run: SimulatedRun, round: int, silo: str, measuring: Measuring) -> State:
    """The state after a round as it would be without one silo's update."""
    step = run.plan.by_id[step_id(round, ORCHESTRATOR, "aggregate")]
    # their origins were checked when they counted; those of an older run have none
    others: Iterable[Update] = (replace(one, origin=None) for one in run.updates(round) if one.silo != silo)
    state = run_step(measuring.job, step, {"state": run.state(round - 1), "updates": others}, measuring.bench)["state"]
    assert isinstance(state, State)
    return state
