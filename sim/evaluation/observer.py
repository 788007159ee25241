"""Watches a simulated run's silos: the bytes that a round moves, and how far its updates point apart."""

import math
from collections import defaultdict
from collections.abc import Callable

from fl_kit.execute import Inputs, Outputs
from fl_kit.messages import Groups, State, Update
from fl_kit.plan import Step
from fl_kit.protocols import Emit
from fl_kit.tensors import Tensors, WeightedSum, norm
from sim.engines.engine import Runner


class Observer:
    """Counts as steps pass by; nothing of the run changes.

    moved  round → bytes of the tensors that went to the silos and back for its training: the whole state once
           for each silo, and each silo's update. Private memories do not move
    """

    def __init__(self) -> None:
        self.moved: dict[int, int] = defaultdict(int)
        self._spread: dict[int, Spread] = defaultdict(Spread)

    @property
    def drift(self) -> dict[int, float]:
        """Round → client drift: the updates' spread around their mean, as a multiple of the mean's length.

            drift = √(Σ n_k·‖delta_k − mean‖² / Σ n_k) / ‖mean‖        mean = Σ n_k·delta_k / Σ n_k

        0 where all silos want the same; 10 where silos undo nine tenths of one another's work. It is the square
        root of gradient diversity less one (Yin et al. 2018, arXiv 1706.05699, Definition 1) for updates.
        """
        return {round: spread.relative() for round, spread in self._spread.items()}

    def around(self, runner: Runner) -> Runner:
        """The same runner, watched."""

        def run(step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
            outputs = runner(step, inputs, emit, check)
            if step.op == "fit":
                self._note(step.round, inputs["state"], outputs["update"])
            return outputs

        return run

    def _note(self, round: int, state: State, update: object) -> None:
        assert isinstance(update, Update)
        down = size(state.params) + size_of_groups(state.memory)
        self.moved[round] += down + size(update.delta) + size_of_groups(update.extra) + size(update.metrics)
        for earlier in [r for r in self._spread if r < round]:
            self._spread[earlier].close()
        self._spread[round].add(update)


class Spread:
    """How far the updates of one round lie from their mean, from running sums: one model is held, then none."""

    def __init__(self) -> None:
        self._sum = WeightedSum()
        self._squares = 0.0
        self._relative: float | None = None

    def add(self, update: Update) -> None:
        self._squares += update.weight * norm(update.delta.values()) ** 2
        self._sum.add(update.delta, update.weight)

    def close(self) -> None:
        """Keep the figure alone."""
        self._relative = self.relative()
        self._sum = WeightedSum()

    def relative(self) -> float:
        """√(Σ n_k‖delta_k‖²/Σ n_k − ‖mean‖²) / ‖mean‖; nan where nothing moved."""
        if self._relative is not None:
            return self._relative
        weight = self._sum.weight
        mean = norm(self._sum.sums.values()) / weight if weight else 0.0
        return math.sqrt(max(self._squares / weight - mean**2, 0.0)) / mean if mean else math.nan


def size(tensors: Tensors) -> int:
    """Bytes of the tensors' values."""
    return sum(value.numel() * value.element_size() for value in tensors.values())


def size_of_groups(groups: Groups) -> int:
    return sum(size(tensors) for tensors in groups.values())
