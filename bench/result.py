"""What a run leaves, whoever ran it: when each round's average was ready, and where it ended."""

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Mark = tuple[float, float]
"""Wall time and the training thread's own CPU time, in seconds."""


def mark() -> Mark:
    return time.perf_counter(), time.thread_time()


@dataclass(frozen=True, kw_only=True)
class Result:
    """A run's marks, one a round, set when the average of the silos is ready; its last loss; its last model.

    said  what the run says of the engine that computed it

    From one mark to the next lie one evaluation of the average, every silo's training and the next average,
    and whatever a system does besides.
    """

    marks: tuple[Mark, ...]
    loss: float
    parameters: tuple[Tensor, ...]
    said: str = ""

    @property
    def wall(self) -> float:
        """Seconds of a round: the median of the rounds after the first."""
        return self._median(0)

    @property
    def cpu(self) -> float:
        """The same in CPU seconds of the training thread, which a busy machine disturbs less."""
        return self._median(1)

    def _median(self, which: int) -> float:
        times = [m[which] for m in self.marks]
        return statistics.median(after - before for before, after in pairwise(times))


def loss_difference(one: Result, other: Result) -> float:
    """By how much the last losses differ, relative."""
    return abs(one.loss - other.loss) / abs(other.loss)


def same_result(one: Result, other: Result, tolerance: float = 1e-5) -> bool:
    """Whether both ended at the same loss and the same model, but for the order of sums in float32."""
    return loss_difference(one, other) <= tolerance and all(
        torch.allclose(a, b, rtol=tolerance, atol=tolerance)
        for a, b in zip(one.parameters, other.parameters, strict=True)
    )
