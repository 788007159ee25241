"""Faults of an update on its way from a silo to the orchestrator: each changes the folder that arrives."""

import json
import math
import shutil
from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fl_kit.errors import IncompatibleError
from fl_kit.messages import META_FILE, TENSORS_FILE, Update, read, write
from fl_kit.plan import Step, step_id
from fl_kit.randomness import derived_seed
from sim.faults.fault import Fault, is_number


class MessageFault(Fault):
    """Befalls an update on its way. The silo itself is honest, and does not know."""

    @abstractmethod
    def damage(self, folder: Path, step: Step, seed: int, earlier: Path | None) -> None:
        """Change what arrives in the folder.

        step     that made the update; seed and step are what the fault's randomness follows from
        earlier  the folder of the update that the silo sent in an earlier round, if there is one
        """


@dataclass(frozen=True, kw_only=True)
class Drop(MessageFault):
    """The update never arrives.

    >>> job = replace(job, min_silos=3)
    >>> faults = {"delta": Drop(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    def damage(self, folder: Path, step: Step, seed: int, earlier: Path | None) -> None:
        for name in (META_FILE, TENSORS_FILE):
            (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Corrupt(MessageFault):
    """Some bytes of the tensors arrive changed.

    count  how many

    >>> job = replace(job, min_silos=3)
    >>> faults = {"delta": Corrupt(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    count: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.count) is not int or self.count < 1:
            raise IncompatibleError(f"Corrupt(count={self.count!r}): must be a whole number of at least 1")

    def damage(self, folder: Path, step: Step, seed: int, earlier: Path | None) -> None:
        file = folder / TENSORS_FILE
        data = bytearray(file.read_bytes())
        begin = 8 + int.from_bytes(data[:8], "little")  # after the names: a value, which no form betrays
        for number in range(self.count):
            place = begin + derived_seed(seed, "corrupt", step.id, number) % (len(data) - begin)
            data[place] ^= 1 + derived_seed(seed, "flip", step.id, number) % 255
        file.write_bytes(data)


@dataclass(frozen=True, kw_only=True)
class Truncated(MessageFault):
    """Only the beginning of the tensors arrives.

    share  how much of them

    >>> job = replace(job, min_silos=3)
    >>> faults = {"delta": Truncated(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_number(self.share) and 0 <= self.share < 1):
            raise IncompatibleError(f"Truncated(share={self.share!r}): must be at least 0 and below 1")

    def damage(self, folder: Path, step: Step, seed: int, earlier: Path | None) -> None:
        file = folder / TENSORS_FILE
        data = file.read_bytes()
        file.write_bytes(data[: int(self.share * len(data))])


@dataclass(frozen=True, kw_only=True)
class NaN(MessageFault):
    """One value of the update is not a number; otherwise it is whole, its manifest too.

    >>> job = replace(job, min_silos=3)
    >>> faults = {"delta": NaN(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    def damage(self, folder: Path, step: Step, seed: int, earlier: Path | None) -> None:
        update = read(Update, folder)
        name, value = chosen(update, step, seed)
        flat = value.flatten().clone()
        flat[derived_seed(seed, "value", step.id) % len(flat)] = math.nan
        write(replace(update, delta={**update.delta, name: flat.reshape(value.shape)}), folder)


@dataclass(frozen=True, kw_only=True)
class WrongShape(MessageFault):
    """One tensor of the update has a value too many; otherwise it is whole, its manifest too.

    >>> job = replace(job, min_silos=3)
    >>> faults = {"delta": WrongShape(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    def damage(self, folder: Path, step: Step, seed: int, earlier: Path | None) -> None:
        update = read(Update, folder)
        name, value = chosen(update, step, seed)
        longer = torch.cat([value.flatten(), value.new_zeros(1)])
        write(replace(update, delta={**update.delta, name: longer}), folder)


@dataclass(frozen=True, kw_only=True)
class Stale(MessageFault):
    """What arrives is the update of an earlier round. In round 1 there is none, and nothing happens.

    >>> job = replace(job, min_silos=3)
    >>> faults = {"delta": Stale(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    def damage(self, folder: Path, step: Step, seed: int, earlier: Path | None) -> None:
        if earlier is not None:
            shutil.copytree(earlier, folder, dirs_exist_ok=True)
        elif step.round > 1:  # it is no longer kept, as after a resume: the manifest is what the door goes by
            file = folder / META_FILE
            meta = json.loads(file.read_text(encoding="utf-8"))
            meta["origin"]["step"] = step_id(step.round - 1, step.party, step.op)
            file.write_text(json.dumps(meta), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Duplicate(MessageFault):
    """The update is delivered a second time. It counts once.

    Where an update has a folder of its own the second copy lands on the first, so there is nothing to notice.

    >>> job = replace(job, min_silos=3)
    >>> faults = {"delta": Duplicate(rounds=(2,))}
    >>> run = job.run(federation, on=InProcess(folder=None, faults=faults)).wait()
    """

    def damage(self, folder: Path, step: Step, seed: int, earlier: Path | None) -> None:
        """Nothing: the same files once more."""


def chosen(update: Update, step: Step, seed: int) -> tuple[str, torch.Tensor]:
    """One tensor of an update, drawn from those that have values."""
    names = sorted(name for name, value in update.delta.items() if value.numel())
    name = names[derived_seed(seed, "tensor", step.id) % len(names)]
    return name, update.delta[name]
