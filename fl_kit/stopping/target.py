"""Stop at a target."""

from collections.abc import Sequence
from dataclasses import dataclass

from fl_kit.errors import IncompatibleError
from fl_kit.stopping.checks import check_metric, is_finite


@dataclass(frozen=True, kw_only=True)
class Target:
    """Stop once the federation's model is as good as wanted.

    metric  "loss" or one of the task's metrics, on the test rows of all silos that took part in the round
    value   what it must reach: at least, where higher is better, at most where lower is

    Raises IncompatibleError for a value that is no finite number.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), rounds=100, stop=Target(metric="auc", value=0.9))
    """

    metric: str
    value: float

    def __post_init__(self) -> None:
        check_metric(self)
        if not is_finite(self.value):
            raise IncompatibleError(f"Target(value={self.value!r}): must be a finite number")

    def why(self, values: Sequence[float], sign: float) -> str:
        """Why to stop after these values, one a measured round; empty to go on.

        sign  1 where higher is better, −1 where lower is
        """
        if not values or sign * (values[-1] - self.value) < 0:
            return ""
        return f"{self.metric} of the federation reached {values[-1]:.6g}, and {self.value:g} was asked for"
