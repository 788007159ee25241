"""Faults of `sim.faults` in a local workspace: done to fl-kit's steps from outside, whose own code is not touched."""

import re
import shutil
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fl_kit.messages import complete
from fl_kit.plan import Step, round_name
from sim.faults import in_step
from sim.faults.fault import Fault
from sim.faults.on_the_way import MessageFault
from sim.faults.striking import words_of

COMMAND = re.compile(r"python -m (fl_kit\.step .*--step round_(\d+)/(\S+)/(\w+).*)", re.DOTALL)
"""How a step of fl-kit is called, however deep in a command."""


@dataclass(frozen=True, kw_only=True)
class StruckStep:
    """A step that faults strike.

    words   what is wrong with its machine
    faults  what becomes of its update on the way
    times   how many attempts inside its process the machine is faulty; 0 means all
    """

    step: Step
    seed: int
    words: Mapping[str, float]
    faults: Sequence[MessageFault]
    times: int

    @property
    def hangs(self) -> bool:
        """Whether it never ends by itself."""
        return bool(self.words.get("hang"))

    def command(self, line: str, folder: Path) -> str:
        """The command on its faulty machine, which is put into a folder that the step sees."""
        if not self.words:
            return line
        script = folder / Path(in_step.__file__).name
        shutil.copyfile(in_step.__file__, script)
        words = " ".join(f"{name}={value}" for name, value in {**self.words, "times": self.times}.items())
        return COMMAND.sub(lambda found: f"python {script} {words} {found[1]}", line)

    def damage(self, update: Path) -> None:
        """What becomes of the update in a folder `<root>/round_003/<silo>/update`."""
        root, silo = update.parents[2], update.parent.name
        earlier = root / round_name(self.step.round - 1) / silo / update.name
        for fault in self.faults:
            fault.damage(update, self.step, self.seed, earlier if complete(earlier) else None)


class SiloFaults:
    """What is to befall silos, by name; safe for threads."""

    def __init__(self, faults: Mapping[str, Sequence[Fault]], seed: int) -> None:
        self.faults = faults
        self.seed = seed
        self._lock = threading.Lock()
        self._attempts: Counter[str] = Counter()

    def strike(self, line: str) -> StruckStep | None:
        """What strikes the step of that command now, counted; None for an honest step, or no step of fl-kit's."""
        match = COMMAND.search(line)
        if match is None or match[3] not in self.faults:
            return None
        step = Step(op=match[4], party=match[3], round=int(match[2]), inputs={}, outputs={})
        with self._lock:
            self._attempts[step.id] += 1
            attempt = self._attempts[step.id]
        of_silo = enumerate(self.faults[step.party])
        found = [fault for place, fault in of_silo if fault.strikes(step, attempt, seed=self.seed, place=place)]
        if not found:
            return None
        return StruckStep(
            step=step,
            seed=self.seed,
            words=words_of(found),
            faults=[fault for fault in found if isinstance(fault, MessageFault)],
            times=min(fault.times for fault in found),
        )
