"""The plan of a run: every step of every party as data, before anything runs."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fl_kit.bounded import parse_json
from fl_kit.errors import LocalityError, PlanError
from fl_kit.party_forms import NAME
from fl_kit.table import Cell, Shown, Table

ORCHESTRATOR = "orchestrator"
FORMAT = 1
MOST_RUNS = 8
Privacy = Literal["shared", "private"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One unit of work at one party.

    op       what is done: measure, init, fit, aggregate, evaluate, report
    party    a silo's name, or `orchestrator`
    round    0 for what comes before the first round
    inputs   name → `data:<silo>` (that silo's own data) or `<step id>:<output>`
    outputs  name → `shared` (may leave the party) or `private` (stays there)
    """

    op: str
    party: str
    round: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, Privacy]

    @property
    def id(self) -> str:
        """`round_003/cleveland/fit`: readable, unique in a plan, and a path on every system."""
        return step_id(self.round, self.party, self.op)

    @property
    def updates(self) -> dict[str, str]:
        """For a step that combines: silo → the source of its update, in silo order."""
        return {
            name.removeprefix("update/"): source for name, source in self.inputs.items() if name.startswith("update/")
        }


def step_id(round: int, party: str, op: str) -> str:
    return f"{round_name(round)}/{party}/{op}"


def step_folder(root: Path, source: str) -> Path:
    """Where `<step id>:<output>` lies below a folder: `<root>/round_003/cleveland/fit/update`."""
    step, _, output = source.partition(":")
    return root / step / output


def round_name(round: int) -> str:
    return f"round_{round:03d}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan(Shown):
    """Steps in an order in which they can run.

    Built by a strategy; `check` is called on construction by whoever reads one from elsewhere.

    >>> plan = job.plan(federation)
    >>> plan.by_id["round_001/alpha/fit"].inputs["data"]
    'data:alpha'
    """

    steps: tuple[Step, ...]

    @cached_property
    def by_id(self) -> dict[str, Step]:
        """Step id → step."""
        return {step.id: step for step in self.steps}

    @property
    def rounds(self) -> int:
        """The number of the last round."""
        return max((step.round for step in self.steps), default=0)

    @property
    def silos(self) -> tuple[str, ...]:
        """Every silo that has a step, in silo order."""
        return tuple(sorted({step.party for step in self.steps} - {ORCHESTRATOR}))

    def __len__(self) -> int:
        return len(self.steps)

    def check(self) -> "Plan":
        """Itself, if each input exists before it is read and nobody reads what is not theirs to read.

        Raises PlanError, or LocalityError where a step would read another party's data or private output.
        """
        done: dict[str, Step] = {}
        for step in self.steps:
            if step.id in done:
                raise PlanError(f"{step.id} stands twice in the plan")
            for name, source in step.inputs.items():
                check_input(step, name, source, done)
            for name, privacy in step.outputs.items():
                if privacy not in ("shared", "private"):
                    raise PlanError(f"{step.id}: output {name!r} is {privacy!r}; it must be shared or private")
            done[step.id] = step
        return self

    def to_json(self) -> str:
        """The plan as JSON, one step a line, for reading, diffing and approving."""
        lines = ",\n  ".join(json.dumps(to_dict(step)) for step in self.steps)
        return f'{{"format": {FORMAT}, "steps": [\n  {lines}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The checked plan that `to_json` wrote; raises PlanError for anything else."""
        try:
            found = parse_json(text)
            if found["format"] != FORMAT:
                raise PlanError(f"this plan is of format {found['format']!r}; this fl-kit reads format {FORMAT}")
            steps = tuple(from_dict(entry) for entry in found["steps"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"this is not a plan: {error!r:.300}") from error
        return cls(steps=steps).check()

    def table(self) -> Table:
        """One row per kind of step: what it reads and writes, and how often it runs."""
        kinds: dict[tuple[str, str, str, str], list[Step]] = {}
        for step in self.steps:
            party = ORCHESTRATOR if step.party == ORCHESTRATOR else self._who(step.op)
            kinds.setdefault((step.op, party, describe_inputs(step), describe_outputs(step)), []).append(step)
        rows: list[list[Cell]] = [
            [op, party, rounds_of(steps), reads, writes, len(steps)]
            for (op, party, reads, writes), steps in kinds.items()
        ]
        return Table(
            columns=["step", "party", "rounds", "reads", "writes", "steps"],
            rows=rows,
            title=f"Plan: {self.rounds} rounds, {len(self.silos)} silos, {len(self):,} steps",
        )

    @cached_property
    def _silos_of(self) -> dict[str, set[int]]:
        """Op → how many silos do it in a round."""
        counts: dict[tuple[str, int], int] = Counter(
            (step.op, step.round) for step in self.steps if step.party != ORCHESTRATOR
        )
        found: dict[str, set[int]] = {}
        for (op, _), count in counts.items():
            found.setdefault(op, set()).add(count)
        return found

    def _who(self, op: str) -> str:
        low, high = min(self._silos_of[op]), max(self._silos_of[op])
        if low == len(self.silos):
            return "each silo"
        return f"{low if low == high else f'{low}–{high}'} of {len(self.silos)} silos"


def check_input(step: Step, name: str, source: str, done: Mapping[str, Step]) -> None:
    kind, separator, rest = source.partition(":")
    if not separator:
        raise PlanError(f"{step.id}: input {name!r} comes from {source!r}; expected data:<silo> or <step>:<output>")
    if kind == "data":
        if rest != step.party:
            raise LocalityError(f"{step.id} would read the data of {rest}; only {rest} may")
        return
    producer = done.get(kind)
    if producer is None:
        raise PlanError(f"{step.id}: input {name!r} comes from {kind!r}, which no earlier step is called")
    if rest not in producer.outputs:
        raise PlanError(f"{step.id}: input {name!r}: {kind} has no output {rest!r}")
    if producer.outputs[rest] == "private" and producer.party != step.party:
        raise LocalityError(f"{step.id} would read {rest!r} of {kind}, which is private to {producer.party}")


def describe_inputs(step: Step) -> str:
    seen = dict.fromkeys("updates" if name.startswith("update/") else name for name in step.inputs)
    return ", ".join("own data" if name == "data" else "own memory" if name == "memory" else name for name in seen)


def describe_outputs(step: Step) -> str:
    return ", ".join(f"{name} ({privacy})" for name, privacy in step.outputs.items())


def rounds_of(steps: Iterable[Step]) -> str:
    """The rounds of the steps, with their gaps.

    >>> rounds_of(Step(op="fit", party="a", round=r, inputs={}, outputs={}) for r in (1, 2, 3, 5, 8, 9))
    '1–3, 5, 8–9'
    """
    rounds = sorted({step.round for step in steps})
    starts = [r for r in rounds if r - 1 not in rounds]
    ends = [r for r in rounds if r + 1 not in rounds]
    runs = [str(a) if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True)]
    if len(runs) > MOST_RUNS:
        return f"{', '.join(runs[: MOST_RUNS - 1])}, …, {runs[-1]} ({len(rounds)} rounds)"
    return ", ".join(runs)


def to_dict(step: Step) -> dict[str, Any]:
    return {
        "op": step.op,
        "party": step.party,
        "round": step.round,
        "inputs": dict(step.inputs),
        "outputs": dict(step.outputs),
    }


def from_dict(entry: dict[str, Any]) -> Step:
    if set(entry) != {"op", "party", "round", "inputs", "outputs"}:
        raise ValueError(f"a step with the fields {sorted(entry)}")
    inputs, outputs = entry["inputs"], entry["outputs"]
    if not isinstance(inputs, dict) or not isinstance(outputs, dict):
        raise TypeError(f"a step whose inputs or outputs are not named: {entry}")
    texts = [entry["op"], entry["party"], *inputs.values(), *outputs.values()]
    if not all(isinstance(text, str) for text in texts) or type(entry["round"]) is not int or entry["round"] < 0:
        raise TypeError(f"a step with a field of the wrong type: {entry}")
    for name in (entry["op"], entry["party"], *outputs):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r:.80} cannot name a step, its party or its output: they are folders")
    return Step(**entry)
