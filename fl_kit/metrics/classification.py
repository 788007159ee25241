"""Accuracy, precision, recall and F1 from counts."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fl_kit.errors import TaskError
from fl_kit.metrics.base import Better, check_tensors, column, local, mismatch, ratio

Average = Literal["binary", "macro", "micro"]


def check_logits(name: str, outputs: Tensor, targets: Tensor) -> None:
    """Raises TaskError unless outputs are logits `(N,)` or `(N, C)` without nan."""
    check_tensors(name, outputs, targets)
    if outputs.ndim not in (1, 2) or (outputs.ndim == 2 and not outputs.shape[1]):
        raise mismatch(name, "outputs must be logits of shape (N,), (N, 1) or (N, classes)", outputs, targets)
    if not outputs.is_floating_point():
        raise mismatch(name, f"outputs must be floating logits, found {outputs.dtype}", outputs, targets)
    if bool(outputs.isnan().any()):
        raise mismatch(name, "outputs hold nan", outputs, targets)


def binary_logits(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """The logit of class 1, `(N,)` in float64; from two columns it is their difference (softmax).

    Raises TaskError for more than two columns.
    """
    check_logits(name, outputs, targets)
    values = local(column(outputs))
    if values.ndim == 1:
        return values
    if values.shape[1] == 2:
        return values[:, 1] - values[:, 0]
    raise mismatch(name, "this is a metric for two classes", outputs, targets)


def class_indices(name: str, outputs: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Targets as int64 `(N,)` on the CPU; raises TaskError where one is no class from 0 to `classes − 1`."""
    found = column(targets.detach()).cpu()
    if found.shape != outputs.shape[:1]:
        raise mismatch(name, "targets must be one class per row, (N,) or (N, 1)", outputs, targets)
    indices = found.to(torch.int64)
    whole = indices is found or bool(torch.equal(indices.to(found.dtype), found))
    if indices.numel() and not (whole and int(indices.min()) >= 0 and int(indices.max()) < classes):
        wrong = (indices != found) | (indices < 0) | (indices >= classes)
        why = f"targets must be classes from 0 to {classes - 1}, found {found[wrong][0].item()}"
        raise mismatch(name, why, outputs, targets)
    return indices


def at_or_above(logits: Tensor, threshold: float) -> Tensor:
    """1 where sigmoid(logit) ≥ threshold, else 0.

    Compared as logits, so that no rounding of the sigmoid decides: at 0.5 that is logit ≥ 0.
    """
    return (logits >= math.log(threshold) - math.log1p(-threshold)).to(torch.int64)


def check_threshold(name: str, threshold: float) -> None:
    """Raises TaskError unless 0 < threshold < 1."""
    if not 0 < threshold < 1:
        raise TaskError(f"metric {name!r}: threshold must lie between 0 and 1, found {threshold}")


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The share of rows whose predicted class is the target.

    threshold  with one column of outputs, class 1 is predicted where sigmoid(output) ≥ threshold;
               with more columns the class of the largest output, whatever the threshold

    Outputs are logits `(N,)`, `(N, 1)` or `(N, C)`; targets are classes `(N,)` or `(N, 1)` of any dtype.
    Sums: correct rows, rows.

    >>> accuracy = Accuracy()
    >>> accuracy.value(accuracy.sums(torch.tensor([2.0, -1.0, 3.0]), torch.tensor([1, 0, 0])))
    0.6666666666666666
    """

    threshold: float = 0.5
    better: ClassVar[Better] = "higher"

    def __post_init__(self) -> None:
        check_threshold("accuracy", self.threshold)

    @property
    def name(self) -> str:
        return "accuracy" if self.threshold == 0.5 else f"accuracy_at_{self.threshold:g}"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        correct = self._correct(outputs, targets)
        return torch.tensor([int(correct.sum()), len(correct)], dtype=torch.float64)

    def row_sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums of each row, (rows, 2): those of any rows are what these add up to."""
        correct = self._correct(outputs, targets).to(torch.float64)
        return torch.stack([correct, torch.ones_like(correct)], dim=1)

    def _correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        check_logits(self.name, outputs, targets)
        scores = column(outputs.detach())
        if scores.ndim == 1:
            predicted = at_or_above(local(scores), self.threshold)
            classes = 2
        else:
            predicted = scores.argmax(1).cpu()
            classes = scores.shape[1]
        return predicted == class_indices(self.name, outputs, targets, classes)

    def value(self, sums: Tensor) -> float:
        return ratio(sums)


@dataclass(frozen=True, kw_only=True)
class Confusion(ABC):
    """What precision, recall and F1 share: per class, the rows that are hits, predicted so, and really so.

    threshold  class 1 is predicted where sigmoid(output) ≥ threshold (one column, or average="binary")
    average    "binary" scores class 1 of two; "macro" is the plain mean over classes; "micro" counts all
               classes together. Default: binary for one column of outputs, else macro.

    Outputs are logits `(N,)`, `(N, 1)` or `(N, C)`; targets are classes `(N,)` or `(N, 1)` of any dtype.
    Sums: hits, predicted and actual rows of each class, so a macro mean of merged sums is the pooled one.

    0/0 is nan for one class (and for micro). Within a macro mean it counts as 0, or never predicting a
    class would pay; a class that occurs in neither targets nor predictions is left out (as scikit-learn does).
    """

    threshold: float = 0.5
    average: Average | None = None
    better: ClassVar[Better] = "higher"
    word: ClassVar[str]

    def __post_init__(self) -> None:
        check_threshold(self.word, self.threshold)
        if self.average not in (None, "binary", "macro", "micro"):
            raise TaskError(f"metric {self.word!r}: average must be binary, macro or micro, found {self.average!r}")

    @property
    def name(self) -> str:
        averaged = f"_{self.average}" if self.average in ("macro", "micro") else ""
        return f"{self.word}{averaged}" + ("" if self.threshold == 0.5 else f"_at_{self.threshold:g}")

    @staticmethod
    @abstractmethod
    def possible(predicted: Tensor, actual: Tensor) -> Tensor:
        """By what the hits of each class are divided."""

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        check_logits(self.name, outputs, targets)
        scores = column(outputs.detach())
        if scores.ndim == 1 or self.average == "binary":
            predicted = at_or_above(binary_logits(self.name, outputs, targets), self.threshold)
            classes = 2
        else:
            predicted = scores.argmax(1).cpu()
            classes = scores.shape[1]
        actual = class_indices(self.name, outputs, targets, classes)
        rows = (actual[predicted == actual], predicted, actual)
        counts = torch.stack([torch.bincount(row, minlength=classes) for row in rows]).to(torch.float64)
        only_positive = self.average == "binary" or (self.average is None and scores.ndim == 1)
        return counts[:, 1:].flatten() if only_positive else counts.flatten()

    def value(self, sums: Tensor) -> float:
        if not sums.numel():
            return math.nan
        hits, predicted, actual = sums.reshape(3, -1)
        possible = self.possible(predicted, actual)
        if self.average == "micro" or len(hits) == 1:
            return float(hits.sum() / possible.sum())
        scores = torch.where(possible > 0, hits / possible, 0.0)
        return float(scores[predicted + actual > 0].mean())


class Precision(Confusion):
    """Of the rows predicted as a class, the share that is of it; see `Confusion` for settings and shapes.

    >>> precision = Precision()
    >>> precision.value(precision.sums(torch.tensor([2.0, -1.0, 3.0]), torch.tensor([1, 0, 0])))
    0.5
    """

    word = "precision"

    @staticmethod
    def possible(predicted: Tensor, actual: Tensor) -> Tensor:
        return predicted


class Recall(Confusion):
    """Of the rows of a class, the share predicted as it; see `Confusion` for settings and shapes.

    >>> recall = Recall()
    >>> recall.value(recall.sums(torch.tensor([2.0, -1.0, 3.0]), torch.tensor([1, 0, 0])))
    1.0
    """

    word = "recall"

    @staticmethod
    def possible(predicted: Tensor, actual: Tensor) -> Tensor:
        return actual


class F1(Confusion):
    """The harmonic mean of precision and recall, 2·hits / (predicted + actual); see `Confusion`.

    >>> f1 = F1(average="macro")  # several classes, each counting alike
    >>> f1.value(f1.sums(torch.eye(3), torch.tensor([0, 1, 2])))
    1.0
    """

    word = "f1"

    @staticmethod
    def possible(predicted: Tensor, actual: Tensor) -> Tensor:
        return (predicted + actual) / 2
