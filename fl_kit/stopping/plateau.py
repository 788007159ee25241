"""Stop when nothing more is gained. Prechelt 1998, "Early Stopping – But When?", doi 10.1007/3-540-49430-8_3."""

from collections.abc import Sequence
from dataclasses import dataclass

from fl_kit.errors import IncompatibleError
from fl_kit.stopping.checks import check_metric, is_finite


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Stop once the best value has not improved for some measured rounds.

    metric      "loss" or one of the task's metrics, on the test rows of all silos that took part in the round
    patience    measured rounds without an improvement after which it stops, at least 1
    least_gain  an improvement of less than this does not count, at least 0

    The final model is the last one, not the best: `run.state(round)` has that. Choosing it by the same test rows
    that it is then judged by flatters it.

    Raises IncompatibleError for a setting out of its range.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), rounds=100, stop=Plateau(metric="auc", patience=5))
    """

    metric: str
    patience: int = 5
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        check_metric(self)
        if type(self.patience) is not int or self.patience < 1:
            raise IncompatibleError(f"Plateau(patience={self.patience!r}): must be a whole number of at least 1")
        if not is_finite(self.least_gain) or self.least_gain < 0:
            raise IncompatibleError(f"Plateau(least_gain={self.least_gain!r}): must be a number of at least 0")

    def why(self, values: Sequence[float], sign: float) -> str:
        """Why to stop after these values, one a measured round; empty to go on.

        sign  1 where higher is better, −1 where lower is
        """
        if not values:
            return ""
        best, since = values[0], 0
        for value in values[1:]:
            gain = sign * (value - best)
            best, since = (value, 0) if gain > 0 and gain >= self.least_gain else (best, since + 1)
        if since < self.patience:
            return ""
        return f"{self.metric} of the federation has not improved on {best:.6g} for {since} measured rounds"
