"""What the updates of a step must look like, from plan, model and strategy: each is checked before it counts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Size

from fl_kit.errors import MessageError
from fl_kit.figures import PERSONAL
from fl_kit.messages import BUFFERS, Groups, Update
from fl_kit.metrics import ratio
from fl_kit.model_state import ModelState
from fl_kit.plan import Step
from fl_kit.standardize import expected_sums
from fl_kit.task import Task
from fl_kit.tensors import Tensors
from fl_kit.update_checks import check_form, check_update

if TYPE_CHECKING:
    from fl_kit.job import Job

ROOM = 64 << 20
"""Bytes of a message beside the model's copies: its header, figures, and what a strategy keeps of each silo."""
COPIES = 32
"""How many copies of the model, in float64, a message may hold; a strategy's memory has four at most."""


@dataclass(frozen=True, kw_only=True)
class UpdateForm:
    """Names, shapes and dtypes; the values of these tensors count for nothing."""

    delta: Tensors
    extra: Groups

    @classmethod
    def of(cls, job: "Job", step: Step, model: ModelState) -> "UpdateForm":
        """That of the updates that an orchestrator's step takes, or a silo's step makes."""
        if step.op in ("init", "measure"):
            return cls(delta={}, extra=expected_sums(model.module))
        if step.op in ("report", "evaluate"):
            return cls(delta={}, extra={})
        private = job.strategy.private(model.module)
        trainable = {name: p.detach() for name, p in model.trainable.items() if name not in private}
        moving = {name: buffer for name, buffer in model.moving_buffers.items() if name not in private}
        groups = job.strategy.extra_groups(trainable)
        return cls(delta=trainable, extra={**groups, BUFFERS: moving} if moving else groups)

    def check(self, update: Update) -> None:
        """Raise MessageError for other names, shapes or dtypes; the update's tensors may be outlines."""
        check_form(update, self.delta, self.extra)

    def norm(self, update: Update) -> float:
        """The norm of the update's delta; raises MessageError for what is not finite, or of another form."""
        if update.norm is not None:
            self.check(update)
            return update.norm
        return check_update(update, self.delta, self.extra)


class SumsForm:
    """The shape of each metric's sums in a round: what its formula takes, and what the silos before sent."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._shapes: dict[str, Size] = {}

    def check(self, metrics: Tensors) -> None:
        """Raise MessageError for sums that do not add up with the others', or that no formula takes."""
        for name, sums in metrics.items():
            if name in self._shapes and self._shapes[name] != sums.shape:
                before = tuple(self._shapes[name])
                raise MessageError(f"metric {name!r:.80} has sums of shape {tuple(sums.shape)}, those before {before}")
        for name in metrics.keys() - self._shapes.keys():
            metric = self._task.metrics.get(name.removeprefix(PERSONAL))
            try:
                (metric.value if metric else ratio)(metrics[name])
            except Exception as error:  # the formula may be the task's own, and the sums a stranger's
                raise MessageError(f"metric {name!r:.80} has sums that its formula does not take: {error}") from error
        self._shapes |= {name: sums.shape for name, sums in metrics.items()}


def size_limit(model: ModelState) -> int:
    """The largest message of that model that is read, in bytes."""
    numbers = sum(value.numel() for value in [*model.module.parameters(), *model.module.buffers()])
    return ROOM + COPIES * 8 * numbers
