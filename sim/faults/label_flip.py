"""Label flip: a silo that trains on wrong labels.

Fang et al. 2020, "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning", arXiv 1911.11815,
section 4 (label flipping attack).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from fl_kit.errors import DataError, IncompatibleError
from sim.faults.attack import DataAttack


@dataclass(frozen=True, kw_only=True)
class LabelFlip(DataAttack):
    """Every label y of its training rows becomes classes − 1 − y. Nothing else is changed: training is honest.

    classes  how many there are; 2 turns 0 and 1 round. A negative label, which torch's losses leave out, stays

    Raises DataError for a label that is not a whole number below `classes`, or rows that are no pair.

    >>> run = job.run(federation, on=InProcess(folder=None, faults={"delta": LabelFlip(classes=2)})).wait()
    """

    classes: int

    def __post_init__(self) -> None:
        if type(self.classes) is not int or self.classes < 2:
            raise IncompatibleError(f"LabelFlip(classes={self.classes!r}): must be a whole number of at least 2")

    def poison(self, found: Any, silo: str) -> Any:
        if isinstance(found, TensorDataset) and len(found.tensors) == 2:
            return TensorDataset(found.tensors[0], self.flipped(found.tensors[1], silo))
        if isinstance(found, Dataset):
            return FlippedDataset(found, self, silo)
        if isinstance(found, tuple | list) and len(found) == 2:
            labels = found[1] if isinstance(found[1], Tensor) else torch.from_numpy(np.array(found[1]))
            return found[0], self.flipped(labels, silo)
        raise DataError(f"silo {silo}: LabelFlip needs rows as (inputs, targets) or a Dataset of such pairs")

    def flipped(self, labels: Tensor, silo: str) -> Tensor:
        """The labels turned round, in a tensor of their own."""
        strange = labels[(labels >= self.classes) | (labels != labels.round())]
        if strange.numel():
            raise DataError(
                f"silo {silo}: LabelFlip(classes={self.classes}) turns labels from 0 to {self.classes - 1} round, and "
                f"there is {strange.flatten()[0].item():g}"
            )
        return torch.where(labels < 0, labels, self.classes - 1 - labels)


class FlippedDataset(Dataset[Any]):
    """A Dataset whose labels are turned round as they are read."""

    def __init__(self, honest: Dataset[Any], attack: LabelFlip, silo: str) -> None:
        self.honest, self.attack, self.silo = honest, attack, silo

    def __len__(self) -> int:
        return len(self.honest)  # type: ignore[arg-type]  # checked where rows are read

    def __getitem__(self, place: int) -> tuple[Any, Tensor]:
        inputs, label = self.honest[place]
        return inputs, self.attack.flipped(torch.as_tensor(label), self.silo)
