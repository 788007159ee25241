"""What to learn: a frozen job, its plan and its review."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fl_kit.aggregators.mean import Mean
from fl_kit.bounded import parse_json
from fl_kit.changes_since import changes_since
from fl_kit.components import at_home, build, describe
from fl_kit.compositions import (
    check_deadline,
    check_means,
    check_own_fit,
    check_participation,
    check_schedule,
    check_stop,
    check_transforms,
)
from fl_kit.errors import FlKitError, IncompatibleError, TaskError
from fl_kit.given_weights import GivenWeights, given_for
from fl_kit.messages import State
from fl_kit.participation import share_of
from fl_kit.plan import Plan
from fl_kit.planning import first_plan
from fl_kit.protocols import Aggregator, Backend, Run, StopRule, Strategy, Transform
from fl_kit.randomness import seeded
from fl_kit.readable import DIGITS, brief, changed
from fl_kit.review import Review
from fl_kit.silo import Federation
from fl_kit.source import digest
from fl_kit.standardize import to_measure
from fl_kit.table import Cell, Shown, Table
from fl_kit.task import Task

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
PLAIN_FIELDS = (
    "rounds", "fraction", "per_round", "min_silos", "retries", "deadline", "grace", "seed", "device", "evaluate_every"
)  # fmt: skip
YOUNGER = frozenset({"fraction", "per_round", "grace"})
"""Fields that jobs of format 1 did not have at first; a job without them has their defaults."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Job(Shown):
    """What to learn, by which algorithm, for how long. The same job runs in every backend.

    task            the task's module (or its path): model, data, loss
    strategy        FedAvg(…), FedProx(…), Scaffold(…): fl_kit.strategies says when to reach for which
    rounds          how often the silos train and the orchestrator combines; at least 1
    aggregator      how updates are combined; the weighted mean by default
    transforms      what happens to updates on their way, in the silo's order
    fraction        this share of the silos trains in each round, 0 < fraction ≤ 1, at least one silo; None means all
    per_round       so many silos train in each round, instead of a fraction; None means all
    min_silos       how many silos must deliver in each round, of those that take part; None means all of them
    retries         how often a silo's failed step is tried again before the silo is left out of the round
    deadline        seconds that a silo's step may take, by its own clock; its result then comes too late. None means
                    no limit
    grace           seconds beyond the deadline in which a late result is still waited for. It does not count, but the
                    event "silo/late" says how long it took; then, at the next batch, the step is ended. By default 0
    init            weights to start from: a safetensors file, a torch module, a State, or a run that has ended; they
                    are copied. None means those of the task's model(), drawn from the seed
    seed            everything random follows from it: weights, shuffling, dropout
    device          "auto" takes cuda or mps where there is one
    evaluate_every  measure the global model in the silos each so many rounds; 0 means only at the end
    stop            a rule that ends the job before its last round: Target(…) or Plateau(…); None means never

    A silo's step fails if it raises, comes too late, or makes an update that is malformed. What then happens is said
    by `min_silos` alone, in a simulation as on real silos: with None the run is strict, and any silo that has failed
    after its retries stops it. With a number it goes on without that silo, in that round, as long as so many others
    deliver; below that QuorumLost stops it. `min_silos=1` is best effort: whoever delivers counts. A run that was
    stopped can be resumed, and a silo that was left out takes part in the next round with what it kept when it last
    counted.

    With `fraction` or `per_round`, who takes part is drawn from the seed and the round, without replacement; it
    stands in the plan, so a review shows each owner the rounds of their silo. The global model of a round is
    measured by the silos that take part in the next one, and after the last round by all: so figures of different
    rounds are of different silos' rows. The sums for Standardize come from all silos.

    Raises TaskError for a task that breaks its contract, IncompatibleError for pieces that exclude one
    another or a setting out of its range.

    >>> job = Job(task=heart, strategy=FedProx(mu=0.1, lr=0.1), rounds=20, min_silos=3, seed=7)
    >>> job
    Job: heart by FedProx, 20 rounds
    task       heart.py, sha256 ...
    strategy   FedProx(mu=0.1)
    rounds     20
    min_silos  3
    seed       7
    >>> run = job.run(federation, on=InProcess(folder=None)).wait()
    """

    task: Any
    strategy: Strategy
    rounds: int
    aggregator: Aggregator = field(default_factory=Mean)
    transforms: tuple[Transform, ...] = ()
    fraction: float | None = None
    per_round: int | None = None
    min_silos: int | None = None
    retries: int = 0
    deadline: float | None = None
    grace: float = 0.0
    init: Any = None
    seed: int = 0
    device: str = "auto"
    evaluate_every: int = 1
    stop: StopRule | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "task", Task.of(self.task))
        for name in ("strategy", "aggregator", "stop"):
            object.__setattr__(self, name, at_home(getattr(self, name), self.task.module))
        object.__setattr__(self, "transforms", tuple(at_home(each, self.task.module) for each in self.transforms))
        if self.init is not None:
            object.__setattr__(self, "init", GivenWeights.of(self.init))
        at_least = {"rounds": 1, "retries": 0, "evaluate_every": 0, "min_silos": 1, "per_round": 1}
        for name, least in at_least.items():
            value = getattr(self, name)
            if name in ("min_silos", "per_round") and value is None:
                continue
            if type(value) is not int or value < least:
                raise IncompatibleError(f"Job({name}={value!r}): must be a whole number of at least {least}")
        check_deadline(self.deadline, self.grace)
        if type(self.seed) is not int:
            raise IncompatibleError(f"Job(seed={self.seed!r}): must be a whole number")
        check_participation(self.fraction, self.per_round, self.min_silos)
        check_schedule(self.strategy, self.rounds)
        check_own_fit(self.task, self.strategy)
        check_transforms(self.strategy, self.aggregator, self.transforms)
        check_means(self.strategy, self.aggregator)
        check_stop(self.stop, self.task, self.evaluate_every)
        self.strategy.check_model(self.fresh_model)
        self.to_dict()

    def plan(self, federation: Federation) -> Plan:
        """Every step of every party, as data, before anything runs.

        Raises IncompatibleError if `min_silos` or `per_round` is more than there are, the aggregator cannot do with
        so few, or `init` does not fit the task's model.
        """
        return first_plan(self, federation)

    @property
    def policy(self) -> str:
        """What a silo that fails does to the run: "strict", "quorum" or "best effort"; see `min_silos`."""
        return {None: "strict", 1: "best effort"}.get(self.min_silos, "quorum")

    @property
    def patience(self) -> float | None:
        """Seconds after which a silo's step is ended: the deadline and the grace; None means never."""
        return None if self.deadline is None else self.deadline + self.grace

    def participants(self, silos: int) -> int:
        """How many of so many silos train in each round; raises IncompatibleError if they are too few."""
        if self.per_round is not None and self.per_round > silos:
            raise IncompatibleError(f"Job(per_round={self.per_round}) with a federation of {silos} silos")
        if self.per_round is not None:
            return self.per_round
        return silos if self.fraction is None else share_of(self.fraction, silos)

    @cached_property
    def measures(self) -> bool:
        """Whether the model standardises its input, so that silos send sums before round 1.

        Raises IncompatibleError if `init` does not fit the model.
        """
        model = self.fresh_model()
        if self.init is not None:
            self.init.load_into(model)
        return bool(to_measure(model, given=self.init is not None))

    def fresh_model(self) -> "nn.Module":
        """A model as the task makes it, to be looked at; raises TaskError if it cannot be made."""
        try:
            with seeded(self.seed, "plan"):
                found: nn.Module = self.task.model()
        except FlKitError:
            raise
        except Exception as error:
            raise self.task.refused("has a model() that failed", error) from error
        return found

    def review(self, federation: Federation, *, since: Any = None) -> Review:
        """What will run where, reading and writing what, and the digest of the source.

        since  an earlier bundle, to see what is different: itself, its folder, the folder of a run, or the file of
               an approval that lies beside it

        Raises BundleError if `since` leads to no whole bundle.
        """
        plan, job = self.plan(federation), self.to_dict()
        changes = None
        if since is not None:
            changes = changes_since(since, job=json.loads(self.to_json()), plan=plan, source=self.task.source)
        return Review(plan=plan, federation=federation, task=self.task, job=job, changes=changes)

    def announcement(self, federation: Federation) -> dict[str, Any]:
        """What the first event of a run says of it, for whoever draws or records it."""
        return {
            "rounds": self.rounds,
            "silos": list(federation.names),
            "strategy": type(self.strategy).__name__,
            "policy": self.policy,
            "metrics": ["loss", *self.task.metrics],
            **({"stop": describe(self.stop, self.task.module.__name__)["settings"]} if self.stop else {}),
        }

    def run(self, federation: Federation, *, on: Backend, track: str | None = None, paused: bool = False) -> Run:
        """Start the job in a backend; gives its Run at once.

        track   an MLflow tracking URI that the run is mirrored to; None means no mirror
        paused  rest before the first step: `run.step()` makes one round, `run.resume()` all of them
        """
        run = on.start(self, federation, paused=True) if paused else on.start(self, federation)
        if track is not None:
            from fl_kit.tracking import mirror

            run.tracker = mirror(run, track)  # type: ignore[attr-defined]  # only runs that were asked for one have it
        return run

    def table(self) -> Table:
        """What was set otherwise than by default; job.json has every setting."""
        told = {
            "task": f"{self.task.name}.py, sha256 {self.task.sha256[:DIGITS]}",
            "strategy": brief(self.strategy),
            "rounds": str(self.rounds),
        }
        rows: list[list[Cell]] = [[name, told.get(name) or in_words(value)] for name, value in changed(self).items()]
        title = f"Job: {self.task.name} by {type(self.strategy).__name__}, {self.rounds} rounds"
        return Table(columns=["", ""], rows=rows, title=title)

    def is_enough(self, state: State) -> bool:
        """Whether the job has stopped early with this state; it goes on from there if its rule was changed since."""
        if not state.done or self.stop is None:
            return False
        return bool(self.stop.why(state.watched, self.task.sign(self.stop.metric)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what job.json holds."""
        module = self.task.module.__name__
        return {
            "format": FORMAT,
            "task": {"name": self.task.name, "sha256": self.task.sha256},
            "strategy": describe(self.strategy, module),
            "aggregator": describe(self.aggregator, module),
            "transforms": [describe(transform, module) for transform in self.transforms],
            **{name: getattr(self, name) for name in PLAIN_FIELDS},
            "init": None if self.init is None else self.init.sha256,
            "stop": None if self.stop is None else describe(self.stop, module),
        }

    def to_json(self) -> str:
        """The job as JSON, for people and for `from_json`."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str, init: Any = None, path: str = "") -> "Job":
        """The job that `to_json` wrote, with the task's source beside it, and the weights it starts from, if any.

        init  as for a Job; a path to the file is read when the weights are needed
        path  where the source is, if it is there: what its tracebacks name

        Raises TaskError if source or weights are not those the job names, or the text is no job.
        """
        try:
            found = parse_json(text)
            if found["format"] != FORMAT:
                raise TaskError(f"this job is of format {found['format']!r}; this fl-kit reads format {FORMAT}")
            name = found["task"]["name"]
            if digest(source) != found["task"]["sha256"]:  # before any of it runs
                raise TaskError(f"the source of {name!r} is not the one of this job: its sha256 differs")
            task = Task(name=name, source=source, path=path)
            return cls(
                task=task,
                strategy=build(found["strategy"], task.module),
                aggregator=build(found["aggregator"], task.module),
                transforms=tuple(build(entry, task.module) for entry in found["transforms"]),
                init=given_for(found.get("init"), init),
                stop=build(found["stop"], task.module) if found.get("stop") else None,
                **{name: found[name] for name in PLAIN_FIELDS if name in found or name not in YOUNGER},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TaskError(f"this is not a job: {error!r:.300}") from error


def in_words(value: Any) -> str:
    """A job's setting for its repr."""
    if isinstance(value, GivenWeights):
        return f"weights of {value.source}, sha256 {value.sha256[:DIGITS]}"
    return ", ".join(map(brief, value)) if isinstance(value, tuple) else brief(value)
