"""race: several jobs over the same silos, by rounds and bytes to a target. Simulation only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fl_kit.errors import DataError
from fl_kit.job import Job
from fl_kit.silo import Federation
from fl_kit.table import Cell, Shown, Table
from sim.engines.engine import Runner
from sim.evaluation.measuring import chosen_metric
from sim.evaluation.observer import Observer
from sim.in_process import InProcess

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One job's way.

    curve   the metric of the federation's model after each round; round 0 is the start
    moved   bytes moved up to and with each round, to the silos and back
    drift   client drift of each round from the first (see Observer.drift)
    digest  sha256 of the final parameters
    """

    curve: tuple[float, ...]
    moved: tuple[int, ...]
    drift: tuple[float, ...]
    digest: str


@dataclass(frozen=True, kw_only=True, repr=False)
class Race(Shown):
    """How soon each job reached the target, and at what cost.

    metric  what is measured on the test rows of all silos
    sign    1 where higher is better, −1 where lower is
    target  the value to reach
    lanes   name → the job's way, in the order of the jobs

    >>> found = race({"FedAvg": job}, federation, target=0.6)
    >>> found.lanes["FedAvg"].curve[-1] >= 0.6
    True
    """

    metric: str
    sign: float
    target: float
    lanes: Mapping[str, Lane]

    def round_of(self, name: str) -> int | None:
        """The first round after which the job's model is at the target, or None if it never was."""
        reached = (r for r, value in enumerate(self.lanes[name].curve) if self.sign * (value - self.target) >= 0)
        return next(reached, None)

    def bytes_of(self, name: str) -> int | None:
        """Bytes moved until the target, or None if it was never reached."""
        round = self.round_of(name)
        return None if round is None else self.lanes[name].moved[round]

    @property
    def verdict(self) -> str:
        """One sentence: who was first, and who never came."""
        rounds = {name: self.round_of(name) for name in self.lanes}
        came = {name: round for name, round in rounds.items() if round is not None}
        never = [name for name in rounds if name not in came]
        if not came:
            return f"None of the {len(rounds)} reached {self.metric} {self.target:g}."
        least = min(came.values())
        first = [name for name, round in came.items() if round == least]
        verb = "needs" if len(first) == 1 else "need"
        late = f"; never: {', '.join(never)}" if never else ""
        slow = max(came.values())
        last = f", the slowest of the others {slow}" if slow > least else ""
        many = "round" if least == 1 else "rounds"
        return f"To {self.metric} {self.target:g}, {' and '.join(first)} {verb} {least} {many}{last}{late}."

    def table(self) -> Table:
        """One row for each job."""
        rows: list[list[Cell]] = []
        for name, lane in self.lanes.items():
            moved = self.bytes_of(name)
            best = max(lane.curve, key=lambda value: self.sign * value)
            middle = sorted(lane.drift)[len(lane.drift) // 2]
            cost = None if moved is None else moved / 1e6
            rows.append([name, self.round_of(name), cost, lane.curve[-1], best, middle])
        return Table(
            columns=["job", "rounds to target", "MB to target", f"final {self.metric}", "best", "client drift"],
            rows=rows,
            title=f"To {self.metric} {self.target:g} on the test rows of all silos",
            note="client drift: spread of the silos' updates around their mean, as a multiple of it (middle round)",
        )

    def plot(self) -> "Figure":
        """A picture: each job's curve with the target, and where it was reached."""
        from sim.evaluation.race_picture import draw

        return draw(
            self.metric,
            self.target,
            curves={name: lane.curve for name, lane in self.lanes.items()},
            moved={name: lane.moved for name, lane in self.lanes.items()},
            reached={name: self.round_of(name) for name in self.lanes},
        )


def race(jobs: Mapping[str, Job], federation: Federation, *, target: float, metric: str | None = None) -> Race:
    """Run each job in this process and note when it reaches the target.

    jobs    name → job; they may differ in anything but the metric's meaning
    target  value of the metric that counts as arrived
    metric  default: the first job's first metric, or its loss

    Every model is measured after every round on the test rows of all silos together; nothing is written to disk.
    Raises DataError for no jobs, or a metric that one of them has not; whatever a run raises.

    >>> jobs = {"FedAvg": job, "FedProx": replace(job, strategy=FedProx(mu=0.1, lr=0.2))}
    >>> print(race(jobs, federation, target=0.6).verdict)
    To accuracy 0.6, ...
    """
    if not jobs:
        raise DataError("race() needs at least one job")
    metric = chosen_metric(next(iter(jobs.values())), metric)
    signs = {job.task.sign(chosen_metric(job, metric)) for job in jobs.values()}
    if len(signs) > 1:
        raise DataError(f"for some of the jobs a higher {metric!r} is better, for others a lower one")
    lanes = {name: lane(job, federation, metric) for name, job in jobs.items()}
    return Race(metric=metric, sign=signs.pop(), target=target, lanes=lanes)


def lane(job: Job, federation: Federation, metric: str) -> Lane:
    """One job's way, from a run that is watched."""
    observer = Observer()
    run = Observed(folder=None, observer=observer).start(job, federation).wait()
    frame: pd.DataFrame = run.history()
    found = frame[(frame["party"] == "global") & (frame["metric"] == metric)].sort_values("round")
    moved = [0]
    for round in range(1, run.rounds_done + 1):
        moved.append(moved[-1] + observer.moved[round])
    return Lane(
        curve=tuple(float(value) for value in found["value"]),
        moved=tuple(moved),
        drift=tuple(observer.drift[round] for round in range(1, run.rounds_done + 1)),
        digest=run.digest(),
    )


@dataclass(frozen=True, kw_only=True)
class Observed(InProcess):
    """InProcess, with an observer beside it."""

    observer: Observer = field(default_factory=Observer)

    def watched(self, run: Runner) -> Runner:
        return self.observer.around(run)
