"""Carries faults out: around the reading of rows, and around the updates on their way to the orchestrator."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from fl_kit.components import plain
from fl_kit.errors import IncompatibleError, StoreError
from fl_kit.execute import Inputs, Outputs
from fl_kit.messages import Update
from fl_kit.plan import Plan, Step
from fl_kit.protocols import Emit
from fl_kit.silo import Federation
from fl_kit.task import Task
from fl_kit.workbench import Load
from sim import faults
from sim.engine import Runner
from sim.faults.attack import Attack, DataAttack, Known, UpdateAttack, told
from sim.kept_updates import KeptUpdates

Given = Mapping[str, Attack | Sequence[Attack]]
"""Silo → its attack, or several that act one after the other."""


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """The faults of a run. Without any, nothing is wrapped and nothing costs anything.

    of  silo → its attacks
    """

    of: Mapping[str, tuple[Attack, ...]]

    @classmethod
    def given(cls, found: Given, federation: Federation) -> "Disturbance":
        """The faults as a backend was given them.

        Raises FederationError for a silo that there is not, IncompatibleError for what is no attack.
        """
        of = {federation[silo].name: tuple(one if isinstance(one, Sequence) else (one,)) for silo, one in found.items()}
        for silo, attacks in of.items():
            for attack in attacks:
                if not isinstance(attack, UpdateAttack | DataAttack):
                    raise IncompatibleError(
                        f"faults: {silo!r} is given {attack!r}, which is no attack; sim.faults has "
                        f"{', '.join(faults.__all__)}"
                    )
                if not all(plain(value) for value in settings(attack).values()):
                    raise IncompatibleError(
                        f"faults: the settings of {attack!r} must be numbers, text or lists of them"
                    )
        return cls(of=of)

    def recorded(self) -> dict[str, Any]:
        """Plain data for the run folder, so that a run is resumed with the faults that it began with."""
        return {
            silo: [{"attack": type(attack).__name__, "settings": settings(attack)} for attack in attacks]
            for silo, attacks in self.of.items()
        }

    @classmethod
    def restored(cls, recorded: Any) -> "Disturbance":
        """What `recorded` gave; raises StoreError for anything else."""
        try:
            return cls(of={silo: tuple(map(rebuilt, entries)) for silo, entries in recorded.items()})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the run's faults cannot be read: {error!r}") from error

    def load(self, load: Load, federation: Federation) -> Load:
        """The same reading of rows, but for silos that poison theirs."""
        whose = {federation[silo].data: silo for silo in self.of if self.data_attacks(silo)}
        if not whose:
            return load

        def load_poisoned(task: Task, folder: str, split: str) -> Any:
            found = load(task, folder, split)
            if split == "train" and folder in whose:
                for attack in self.data_attacks(whose[folder]):
                    found = attack.poison(found, whose[folder])
            return found

        return load_poisoned

    def runner(self, runner: Runner, plan: Plan, seed: int, kept: KeptUpdates | None) -> Runner:
        """The same runner, to whose aggregate steps lies are told.

        kept  where updates are kept: the lies then take the honest ones' place, since they are what was sent
        """
        if not any(self.update_attacks(silo) for silo in self.of):
            return runner

        def run(step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
            if step.op == "aggregate":
                inputs = {**inputs, "updates": self.sent(step, inputs["updates"], plan, seed, kept)}
            return runner(step, inputs, emit, check)

        return run

    def sent(
        self, step: Step, updates: Iterable[Update], plan: Plan, seed: int, kept: KeptUpdates | None
    ) -> Iterator[Update]:
        """What reaches the orchestrator in a round.

        One by one, unless a liar goes by the updates of others: then all are made first, and held.
        """
        honest: Sequence[Update] = ()
        if any(attack.knows != "own" for silo in step.updates for attack in self.update_attacks(silo)):
            updates = honest = list(updates)
        for update in updates:
            attacks = self.update_attacks(update.silo)
            fit = plan.by_id[step.updates[update.silo].partition(":")[0]]
            sent = update
            for attack in attacks:
                sent = told(sent, attack.lie(sent, self.known(attack, honest, seed, fit)))
            if attacks and kept is not None:
                kept.put(fit, sent)
            yield sent
            del update, sent  # or they would live on while the next silo trains

    def known(self, attack: UpdateAttack, honest: Sequence[Update], seed: int, fit: Step) -> Known:
        """What an attacker has before it."""
        together = [update for update in honest if attack in self.update_attacks(update.silo)]
        seen = together if attack.knows == "colluders" else [one for one in honest if one.silo not in self.of]
        return Known(
            seed=seed,
            step=fit.id,
            silos=len(honest),
            bad=len(together),
            updates=() if attack.knows == "own" else seen or together,
        )

    def update_attacks(self, silo: str) -> list[UpdateAttack]:
        """A silo's lies."""
        return [attack for attack in self.of.get(silo, ()) if isinstance(attack, UpdateAttack)]

    def data_attacks(self, silo: str) -> list[DataAttack]:
        """What a silo does to its rows."""
        return [attack for attack in self.of.get(silo, ()) if isinstance(attack, DataAttack)]


def settings(attack: Any) -> dict[str, Any]:
    """An attack's fields; raises IncompatibleError if it is no dataclass."""
    if not is_dataclass(attack):
        raise IncompatibleError(f"{type(attack).__name__} is an attack and no frozen dataclass; make it one")
    return {field.name: getattr(attack, field.name) for field in fields(attack)}


def rebuilt(entry: Mapping[str, Any]) -> Attack:
    """One attack from plain data."""
    name = entry["attack"]
    if name not in faults.__all__:
        raise ValueError(f"sim.faults has no attack {name!r}; give it again, as InProcess(faults=…)")
    attack: Attack = getattr(faults, name)(**entry["settings"])
    return attack
