"""The faults and attacks of a run: given, kept in its folder, and carried out around its steps."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from fnmatch import fnmatchcase
from typing import Any

from fl_kit.components import in_tuples, plain
from fl_kit.errors import FederationError, IncompatibleError, StoreError
from fl_kit.events import Event
from fl_kit.execute import Inputs, Outputs
from fl_kit.job import Job
from fl_kit.messages import Update
from fl_kit.plan import Plan, Step
from fl_kit.protocols import Emit
from fl_kit.silo import Federation
from fl_kit.task import Task
from fl_kit.workbench import Load, Workbench
from sim import faults
from sim.engines.engine import Runner
from sim.faults.attack import Attack, DataAttack, Known, UpdateAttack, told
from sim.faults.fault import Fault
from sim.faults.striking import Striking, Struck, failed_before, refuse_hanging
from sim.kept_updates import KeptUpdates

Given = Mapping[str, Attack | Fault | Sequence[Attack | Fault]]
"""Silo, or a pattern of names, → its attack or fault, or several that act one after the other."""


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """The faults of a run. Without any, nothing is wrapped and nothing costs anything.

    of  silo → its attacks and faults
    """

    of: Mapping[str, tuple[Attack | Fault, ...]]

    @classmethod
    def given(cls, found: Given, federation: Federation) -> "Disturbance":
        """The faults as a backend was given them.

        Raises FederationError for a silo that there is not, IncompatibleError for what is neither attack nor fault.
        """
        of: dict[str, tuple[Attack | Fault, ...]] = {}
        for name, one in found.items():
            for silo in named(name, federation):
                of[silo] = (*of.get(silo, ()), *(one if isinstance(one, Sequence) else (one,)))
        for silo, attacks in of.items():
            for attack in attacks:
                if not isinstance(attack, UpdateAttack | DataAttack | Fault):
                    raise IncompatibleError(
                        f"faults: {silo!r} is given {attack!r}, which is no attack and no fault; sim.faults has "
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
        seen = together if attack.knows == "colluders" else [one for one in honest if not self.attacks(one.silo)]
        return Known(
            seed=seed,
            step=fit.id,
            silos=len(honest),
            bad=len(together),
            updates=() if attack.knows == "own" else seen or together,
        )

    def striking(
        self, honest: Runner, *, job: Job, plan: Plan, bench: Workbench, events: Iterable[Event], struck: Struck
    ) -> Runner:
        """The same runner, with faults around silos' steps; without any, itself. For the rest see `Striking`.

        events  of the run, if it is resumed

        Raises IncompatibleError for a step that is to hang in a job without a deadline.
        """
        faults = self.faults()
        if not faults:
            return honest
        refuse_hanging(faults, job)
        attempts = failed_before(events)
        return Striking(faults=faults, job=job, plan=plan, honest=honest, struck=struck, bench=bench, attempts=attempts)

    def faults(self) -> dict[str, list[Fault]]:
        """Silo → what befalls it."""
        found = {silo: [one for one in given if isinstance(one, Fault)] for silo, given in self.of.items()}
        return {silo: faults for silo, faults in found.items() if faults}

    def faults_only(self, backend: str) -> "Disturbance":
        """Itself; raises IncompatibleError if there are attacks, which need silos that share a process."""
        for silo, given in self.of.items():
            for one in given:
                if not isinstance(one, Fault):
                    raise IncompatibleError(
                        f"faults: {one!r} of {silo!r} is an attack, which {backend} has none of: use InProcess"
                    )
        return self

    def attacks(self, silo: str) -> bool:
        """Whether a silo lies."""
        return any(not isinstance(one, Fault) for one in self.of.get(silo, ()))

    def update_attacks(self, silo: str) -> list[UpdateAttack]:
        """A silo's lies."""
        return [attack for attack in self.of.get(silo, ()) if isinstance(attack, UpdateAttack)]

    def data_attacks(self, silo: str) -> list[DataAttack]:
        """What a silo does to its rows."""
        return [attack for attack in self.of.get(silo, ()) if isinstance(attack, DataAttack)]


def named(name: str, federation: Federation) -> list[str]:
    """The silos of a name, or of a pattern; raises FederationError if there is none."""
    if not any(letter in name for letter in "*?["):
        return [federation[name].name]
    found = [silo for silo in federation.names if fnmatchcase(silo, name)]
    if not found:
        raise FederationError(f"faults: no silo's name is like {name!r}; there are {', '.join(federation.names)}")
    return found


def settings(attack: Any) -> dict[str, Any]:
    """An attack's fields; raises IncompatibleError if it is no dataclass."""
    if not is_dataclass(attack):
        raise IncompatibleError(f"{type(attack).__name__} is an attack and no frozen dataclass; make it one")
    return {field.name: getattr(attack, field.name) for field in fields(attack)}


def rebuilt(entry: Mapping[str, Any]) -> Attack | Fault:
    """One attack or fault from plain data."""
    name = entry["attack"]
    if name not in faults.__all__:
        raise ValueError(f"sim.faults has no attack {name!r}; give it again, as InProcess(faults=…)")
    attack: Attack | Fault = getattr(faults, name)(**in_tuples(entry["settings"]))
    return attack
