"""What a silo's owner reads before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fl_kit.changes_since import Changes
from fl_kit.plan import ORCHESTRATOR, Plan, Step, describe_inputs, describe_outputs, rounds_of
from fl_kit.readable import brief, readable_path
from fl_kit.silo import Federation
from fl_kit.table import Shown, Table
from fl_kit.task import Task


@dataclass(frozen=True, kw_only=True, repr=False)
class Review(Shown):
    """Which party will run which step, reading and writing what, under which source.

    `print(review.source)` is what will run on the data; its sha256 is in the table's note.

    changes  what is different from an earlier bundle, if one was given as `since`; None if none was

    >>> review = job.review(federation)
    >>> [step.id for step in review.steps("alpha")]
    ['round_001/alpha/fit', 'round_002/alpha/fit', 'round_003/alpha/fit', 'round_003/alpha/evaluate']
    """

    plan: Plan
    federation: Federation
    task: Task
    job: Mapping[str, Any]
    changes: Changes | None = None

    def __repr__(self) -> str:
        return "\n\n".join([super().__repr__(), *([repr(self.changes)] if self.changes is not None else [])])

    def _repr_html_(self) -> str:
        return super()._repr_html_() + (self.changes._repr_html_() if self.changes is not None else "")

    @property
    def source(self) -> str:
        """The task's source, the only code beside fl-kit's own that a silo runs."""
        return self.task.source

    def steps(self, party: str) -> list[Step]:
        """The steps of one party, in order."""
        return [step for step in self.plan.steps if step.party == party]

    def table(self) -> Table:
        """One row per party and kind of step."""
        rows = [
            [party, self.where(party), op, rounds_of(steps), describe_inputs(steps[-1]), describe_outputs(steps[-1])]
            for party in (*self.plan.silos, ORCHESTRATOR)
            for op, steps in self._by_op(party).items()
        ]
        return Table(
            columns=["party", "where", "step", "rounds", "reads", "writes"],
            rows=rows,
            title=f"{self.algorithm}, {self.plan.rounds} rounds",
            note=f"{self.task.name}.py, sha256 {self.task.sha256}{self.start}",
        )

    @property
    def start(self) -> str:
        """What to add where the job starts from given weights."""
        sha256 = self.job.get("init")
        return f"; starts from given weights, sha256 {sha256}" if sha256 else ""

    @property
    def algorithm(self) -> str:
        """The strategy with every setting, as it is written to job.json."""
        settings = self.job["strategy"]["settings"].items()
        name = self.job["strategy"]["class"].rpartition(".")[2]
        return f"{name}({', '.join(f'{key}={brief(value)}' for key, value in settings if value not in (None, {}))})"

    def where(self, party: str) -> str:
        """Compute and datastore, or the local folder."""
        place = self.federation.orchestrator if party == ORCHESTRATOR else self.federation[party]
        parts = [part for part in (place.compute, place.datastore) if part]
        return " · ".join(parts) or (readable_path(self.federation[party].data) if party != ORCHESTRATOR else "here")

    def _by_op(self, party: str) -> dict[str, list[Step]]:
        kinds: dict[str, list[Step]] = {}
        for step in self.steps(party):
            kinds.setdefault(step.op, []).append(step)
        return kinds
