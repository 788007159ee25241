"""What to learn: a frozen job, its plan and its review."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_kit.aggregators.mean import Mean
from fl_kit.components import at_home, build, describe
from fl_kit.errors import FlKitError, IncompatibleError, TaskError
from fl_kit.given_weights import GivenWeights
from fl_kit.participation import drawn_by, share_of
from fl_kit.plan import Plan
from fl_kit.protocols import Aggregator, Backend, Run, StopRule, Strategy, Transform
from fl_kit.randomness import seeded
from fl_kit.review import Review
from fl_kit.silo import Federation, nearest
from fl_kit.source import digest
from fl_kit.standardize import to_measure
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.task import Task

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
PLAIN_FIELDS = (
    "rounds", "fraction", "per_round", "min_silos", "retries", "deadline", "seed", "device", "evaluate_every"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Job:
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
    deadline        seconds that a silo's step may take, looked at once a batch; then it failed. None means no limit
    init            weights to start from: a safetensors file, a torch module, a State, or a run that has ended; they
                    are copied. None means those of the task's model(), drawn from the seed
    seed            everything random follows from it: weights, shuffling, dropout
    device          "auto" takes cuda or mps where there is one
    evaluate_every  measure the global model in the silos each so many rounds; 0 means only at the end
    stop            a rule that ends the job before its last round: Target(…) or Plateau(…); None means never

    With `fraction` or `per_round`, who takes part is drawn from the seed and the round, without replacement; it
    stands in the plan, so a review shows each owner the rounds of their silo. The global model of a round is
    measured by the silos that take part in the next one, and after the last round by all: so figures of different
    rounds are of different silos' rows. The sums for Standardize come from all silos.

    Raises TaskError for a task that breaks its contract, IncompatibleError for pieces that exclude one
    another or a setting out of its range.
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
        if self.deadline is not None and not self.deadline > 0:
            raise IncompatibleError(f"Job(deadline={self.deadline!r}): must be a number of seconds above 0, or None")
        if type(self.seed) is not int:
            raise IncompatibleError(f"Job(seed={self.seed!r}): must be a whole number")
        check_participation(self)
        check_compositions(self)
        check_stop(self)
        check_model(self)
        self.to_dict()

    def plan(self, federation: Federation) -> Plan:
        """Every step of every party, as data, before anything runs.

        Raises IncompatibleError if `min_silos` or `per_round` is more than there are, the aggregator cannot do with
        so few, or `init` does not fit the task's model.
        """
        count = self.participants(len(federation))
        if self.min_silos is not None and self.min_silos > count:
            among = f", of which {count} take part in a round" if count < len(federation) else ""
            raise IncompatibleError(
                f"Job(min_silos={self.min_silos}) with a federation of {len(federation)} silos{among}"
            )
        some: dict[str, Any] = {}
        if count < len(federation):
            if "participants" not in signature(self.strategy.plan).parameters:
                raise IncompatibleError(
                    f"{type(self.strategy).__name__}.plan() takes no `participants`, so all silos train in each round: "
                    "remove fraction and per_round from the job, or see strategies.rounds.rounds_plan"
                )
            some = {"participants": drawn_by(self.seed, federation.names, count)}
        plan = self.strategy.plan(federation, self.rounds, measure=self.measures, **some).check()
        check_rounds(self, plan)
        return plan

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

    def review(self, federation: Federation) -> Review:
        """What will run where, reading and writing what, and the digest of the source."""
        return Review(plan=self.plan(federation), federation=federation, task=self.task, job=self.to_dict())

    def announcement(self, federation: Federation) -> dict[str, Any]:
        """What the first event of a run says of it, for whoever draws or records it."""
        return {
            "rounds": self.rounds,
            "silos": list(federation.names),
            "strategy": type(self.strategy).__name__,
            "metrics": ["loss", *self.task.metrics],
            **({"stop": describe(self.stop, self.task.module.__name__)["settings"]} if self.stop else {}),
        }

    def run(self, federation: Federation, *, on: Backend, track: str | None = None) -> Run:
        """Start the job in a backend; gives its Run at once.

        track  an MLflow tracking URI that the run is mirrored to; None means no mirror
        """
        run = on.start(self, federation)
        if track is not None:
            from fl_kit.tracking import mirror

            run.tracker = mirror(run, track)  # type: ignore[attr-defined]  # only runs that were asked for one have it
        return run

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
    def from_json(cls, text: str, source: str, init: Any = None) -> "Job":
        """The job that `to_json` wrote, with the task's source beside it, and the weights it starts from, if any.

        init  as for a Job; a path to the file is read when the weights are needed

        Raises TaskError if source or weights are not those the job names, or the text is no job.
        """
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise TaskError(f"this job is of format {found['format']!r}; this fl-kit reads format {FORMAT}")
            name = found["task"]["name"]
            if digest(source) != found["task"]["sha256"]:  # before any of it runs
                raise TaskError(f"the source of {name!r} is not the one of this job: its sha256 differs")
            task = Task(name=name, source=source)
            return cls(
                task=task,
                strategy=build(found["strategy"], task.module),
                aggregator=build(found["aggregator"], task.module),
                transforms=tuple(build(entry, task.module) for entry in found["transforms"]),
                init=given_for(found.get("init"), init),
                stop=build(found["stop"], task.module) if found.get("stop") else None,
                **{name: found[name] for name in PLAIN_FIELDS},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TaskError(f"this is not a job: {error!r}") from error


def check_model(job: Job) -> None:
    """Let a strategy that is particular about the model refuse it; one that is not costs no model."""
    if type(job.strategy).check_model is not FedAvg.check_model:
        job.strategy.check_model(job.fresh_model())


def given_for(sha256: Any, given: Any) -> GivenWeights | None:
    """The weights of that sha256; raises TaskError if they are not given."""
    if sha256 is None:
        return None
    if not (isinstance(sha256, str) and len(sha256) == len(digest(""))):
        raise TaskError(f"this is not a job: its weights have the sha256 {sha256!r}")
    if isinstance(given, str | Path):
        return GivenWeights.in_file(Path(given), sha256)
    weights = None if given is None else GivenWeights.of(given)
    if weights is None or weights.sha256 != sha256:
        raise TaskError(f"this job starts from the weights of sha256 {sha256}; give just those as init=…")
    return weights


def check_stop(job: Job) -> None:
    """Refuse a stop rule that could never say anything."""
    if job.stop is None:
        return
    rule, known = type(job.stop).__name__, ["loss", *job.task.metrics]
    if job.stop.metric not in known:
        raise IncompatibleError(
            f"{rule} watches {job.stop.metric!r}, which the task {job.task.name!r} does not measure"
            f"{nearest(job.stop.metric, known)}"
        )
    if job.evaluate_every == 0:
        raise IncompatibleError(f"{rule} needs figures of rounds, and evaluate_every=0 measures the last one only")


def check_participation(job: Job) -> None:
    """Refuse a fraction that is none, or settings that contradict one another."""
    if job.fraction is not None and not (is_number(job.fraction) and 0 < job.fraction <= 1):
        raise IncompatibleError(f"Job(fraction={job.fraction!r}): must be a number above 0 and at most 1")
    if job.fraction is not None and job.per_round is not None:
        raise IncompatibleError(
            f"Job(fraction={job.fraction}, per_round={job.per_round}): both say how many silos take part; give one"
        )
    if job.per_round is not None and job.min_silos is not None and job.min_silos > job.per_round:
        raise IncompatibleError(
            f"Job(min_silos={job.min_silos}, per_round={job.per_round}): more must deliver than take part"
        )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_compositions(job: Job) -> None:
    """Refuse what cannot work together, before anything runs."""
    strategy = type(job.strategy).__name__
    schedule = getattr(job.strategy, "lr", None)
    if isinstance(schedule, tuple) and len(schedule) < job.rounds:
        raise IncompatibleError(
            f"{strategy}(lr=…): a schedule of {len(schedule)} rounds for a job of {job.rounds}: "
            "give one learning rate a round"
        )
    if job.task.fit is not None and job.strategy.corrects_gradients:
        raise IncompatibleError(
            f"{strategy} changes the silo's gradients or counts them, and the task {job.task.name!r} brings its own "
            "fit(), which would ignore that: use FedAvg, or remove fit() from the task"
        )
    if job.task.fit is not None and getattr(job.strategy, "optimizer_state", "reset") == "kept":
        raise IncompatibleError(
            f"{strategy}(optimizer_state='kept'): the task {job.task.name!r} brings its own fit(), whose optimiser "
            "fl-kit does not see: remove fit() from the task, or leave out optimizer_state"
        )
    hiding = [type(transform).__name__ for transform in job.transforms if transform.hides_individuals]
    if hiding and job.strategy.inspects_individuals:
        raise IncompatibleError(
            f"{strategy} changes single updates before they are combined, and {hiding[0]} hides them: "
            f"use FedAvg, or drop {hiding[0]}"
        )
    if hiding and job.aggregator.inspects_individuals:
        raise IncompatibleError(
            f"{type(job.aggregator).__name__} compares single updates, and {hiding[0]} hides them: "
            f"use Mean, or drop {hiding[0]}"
        )
    if not job.aggregator.is_mean and job.strategy.needs_mean:
        raise IncompatibleError(
            f"{strategy} needs exact means, and {job.aggregator} gives something else, so its equations would no "
            "longer hold: use aggregator=Mean(), or FedAvg or FedProx with this aggregator"
        )


def check_rounds(job: Job, plan: Plan) -> None:
    """Refuse a quorum or an aggregator that cannot do with the silos of each round."""
    drawn = min((len(step.updates) for step in plan.steps if step.op == "aggregate"), default=0)
    if drawn and job.min_silos is not None and job.min_silos > drawn:
        raise IncompatibleError(
            f"Job(min_silos={job.min_silos}): in {type(job.strategy).__name__}'s plan only {drawn} of "
            f"{len(plan.silos)} silos take part in a round"
        )
    least = drawn if job.min_silos is None else min(job.min_silos, drawn)
    if drawn:
        job.aggregator.check(plan.silos, drawn=drawn, least=least)
