"""A plan in phases: some silos' steps, then the orchestrator's step that combines them.

Phases of one shape differ only in their round. Each shape becomes one pipeline component, registered once.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from fl_kit.azureml.layout import identifiers, unused
from fl_kit.plan import ORCHESTRATOR, Plan, Step, round_name


@dataclass(frozen=True)
class Phase:
    """Steps up to and with one of the orchestrator's, and the names that AzureML sees of them.

    name     `round_003`; the second phase of a round is named by its last step too: `round_050_report`
    idents   party → its name inside AzureML
    """

    name: str
    steps: tuple[Step, ...]
    idents: Mapping[str, str]

    @property
    def round(self) -> int:
        """The round of all its steps."""
        return self.steps[-1].round

    @property
    def op(self) -> str:
        """What it is about: the orchestrator's step."""
        return self.steps[-1].op

    @property
    def makes_state(self) -> bool:
        """Whether it ends with a state, as rounds do; the last report does not."""
        return "state" in self.steps[-1].outputs

    @cached_property
    def nodes(self) -> dict[str, str]:
        """Step id → the name of its node: `fit_cleveland`, `aggregate`."""
        found: dict[str, str] = {}
        for step in self.steps:
            name = step.op if step.party == ORCHESTRATOR else f"{step.op}_{self.idents[step.party]}"
            found[step.id] = unused(name, found.values())
        return found

    @cached_property
    def outputs(self) -> dict[tuple[str, str], str]:
        """(step id, output) → the name under which the phase gives it: `cleveland_update`, `state`."""
        found: dict[tuple[str, str], str] = {}
        for step in self.steps:
            for name in step.outputs:
                found[step.id, name] = unused(self._of_party(step.party, name), found.values())
        return found

    @cached_property
    def sources(self) -> dict[str, str]:
        """Source made by an earlier phase → the phase's input for it; what is private is not among them."""
        found: dict[str, str] = {}
        for step in self.steps:
            for name, source in step.inputs.items():
                producer, _, output = source.partition(":")
                if name in ("data", "memory") or producer in self.nodes or source in found:
                    continue
                found[source] = unused(self._of_party(producer.split("/")[1], output), found.values())
        return found

    @cached_property
    def shape(self) -> str:
        """What all phases of one component have in common."""
        return repr([(s.op, s.party, [*self._wiring(s)], dict(s.outputs)) for s in self.steps])

    def _wiring(self, step: Step) -> Iterator[tuple[str, str]]:
        for name, source in step.inputs.items():
            producer, _, output = source.partition(":")
            if name in ("data", "memory"):
                yield name, ""
            else:
                yield name, f"{self.nodes[producer]}.{output}" if producer in self.nodes else self.sources[source]

    def _of_party(self, party: str, output: str) -> str:
        return output if party == ORCHESTRATOR else f"{self.idents[party]}_{output}"


def phases(plan: Plan) -> list[Phase]:
    """The plan's phases in order."""
    idents = identifiers(plan.silos)
    found: dict[str, Phase] = {}
    for steps in until_orchestrator(plan.steps):
        name = round_name(steps[-1].round)
        name = name if name not in found else unused(f"{name}_{steps[-1].op}", found)
        found[name] = Phase(name, steps, idents)
    return list(found.values())


def until_orchestrator(steps: Iterable[Step]) -> Iterator[tuple[Step, ...]]:
    gathered: list[Step] = []
    for step in steps:
        gathered.append(step)
        if step.party == ORCHESTRATOR:
            yield tuple(gathered)
            gathered = []
    if gathered:
        yield tuple(gathered)
