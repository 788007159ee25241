"""Where each output of a run lies: one path for one output of one step, the same for whoever asks.

    orchestrator's datastore    fl/<run id>/round_003/cleveland/update       what a silo shares
                                fl/<run id>/round_003/orchestrator/state     the state after round 3
    a silo's own datastore      fl/<run id>/cleveland/memory/round_003       what never leaves it

A round that is submitted again writes beside its first attempt, never over it: `round_003-2`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from fl_kit.plan import ORCHESTRATOR, Plan, Step, round_name
from fl_kit.silo import Federation


@dataclass(frozen=True)
class Layout:
    """The paths of one submission of a run.

    attempt  0 for a submission of rounds that were never submitted before; else the submission's number
    """

    run_id: str
    plan: Plan
    federation: Federation
    attempt: int = 0

    def round_place(self, round: int) -> str:
        """`round_003`, or `round_003-2` when it is submitted again."""
        return round_name(round) + (f"-{self.attempt}" if self.attempt else "")

    def output(self, step: Step, name: str) -> str:
        """The `azureml://` folder of a step's output."""
        if step.outputs[name] == "private":
            return f"{self.private(step.party, name)}{self.round_place(step.round)}/"
        place = f"{step.party}/{name}" if (step.id, name) in self._first else f"{step.party}/{step.op}/{name}"
        return f"{self.shared_root}{self.round_place(step.round)}/{place}/"

    def source(self, source: str) -> str:
        """The folder of `<step id>:<output>`."""
        step, _, output = source.partition(":")
        return self.output(self.plan.by_id[step], output)

    def private(self, silo: str, name: str) -> str:
        """The folder, in the silo's own datastore, of everything that it kept under a name."""
        return f"{self.store(silo)}{self.below(silo, name)}/"

    def below(self, silo: str, name: str) -> str:
        """The same folder, as seen from the root of the silo's datastore."""
        return f"fl/{self.run_id}/{silo}/{name}"

    def store(self, silo: str) -> str:
        """The root of a silo's own datastore."""
        return datastore_root(self.federation[silo].datastore)

    @property
    def shared_root(self) -> str:
        """The run's folder in the orchestrator's datastore."""
        return f"{datastore_root(self.federation.orchestrator.datastore)}fl/{self.run_id}/"

    @cached_property
    def _first(self) -> frozenset[tuple[str, str]]:
        """The outputs that need no step's name in their path: the first of a name, party and round."""
        first: dict[tuple[int, str, str], str] = {}
        for step in self.plan.steps:
            for name in step.outputs:
                first.setdefault((step.round, step.party, name), step.id)
        return frozenset((step, name) for (_, _, name), step in first.items())


def datastore_root(name: str) -> str:
    return f"azureml://datastores/{name}/paths/"


def identifiers(parties: Iterable[str]) -> dict[str, str]:
    """Party → a name that AzureML takes for nodes, inputs and outputs; different for different parties.

    >>> identifiers(["long-beach", "long_beach"])
    {'long-beach': 'long_beach', 'long_beach': 'long_beach_2'}
    """
    found: dict[str, str] = {ORCHESTRATOR: ORCHESTRATOR}
    for party in parties:
        plain = "".join(c if c.isalnum() else "_" for c in party.lower())
        found.setdefault(party, unused(plain if plain[0].isalpha() else f"s_{plain}", found.values()))
    del found[ORCHESTRATOR]
    return found


def unused(name: str, taken: Iterable[str]) -> str:
    """The name itself, or with the first number that makes it new."""
    known = set(taken)
    number = 1
    found = name
    while found in known:
        number += 1
        found = f"{name}_{number}"
    return found
