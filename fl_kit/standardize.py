"""Standardisation whose mean and scale come from federated sums, never from pooled rows."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fl_kit.messages import Groups
from fl_kit.tensors import Tensors

GROUP = "standardize"


class Standardize(nn.Module):
    """(x − mean) · scale per feature, with the federation's own mean and scale = 1 / standard deviation.

    Put it first in a model. Before round 1 each silo sends three sums per feature (count, Σx, Σx²) of its
    training rows, as steps that the plan shows; the orchestrator adds them up and sets `mean` and `scale`,
    which then stay as they are. A missing value (NaN) counts for nothing there and becomes 0 here, the
    federation's mean. So does a feature that nobody measured, or that never varies: nothing was learnt of it.

    With `Job(init=…)` the given mean and scale are kept, since the weights were learnt behind them, and nobody sends
    sums; one that is still as new (mean 0, scale 1) is set from sums as usual.

    features      the width of the input, whose shape is (rows, features)
    flag_missing  append one column per feature that is 1 where the value is missing: the output is then
                  (rows, 2·features) wide

    >>> Standardize(3, flag_missing=True)(torch.tensor([[1.0, float("nan"), 2.0]]))
    tensor([[1., 0., 2., 0., 1., 0.]])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, *, flag_missing: bool = False) -> None:
        super().__init__()
        self.features = features
        self.flag_missing = flag_missing
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.sums: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        missing = x.isnan()
        if self.sums is not None:
            self._measure(x, missing)
        scaled = ((x - self.mean) * self.scale).masked_fill(missing, 0.0)
        return torch.cat([scaled, missing.to(scaled.dtype)], dim=1) if self.flag_missing else scaled

    def extra_repr(self) -> str:
        return f"{self.features}, flag_missing={self.flag_missing}"

    @property
    def is_new(self) -> bool:
        """Whether mean and scale are still those of a new one, which changes nothing."""
        return not bool(self.mean.any()) and bool((self.scale == 1).all())

    def measure(self) -> None:
        """Start to sum up what passes through."""
        self.sums = torch.zeros(3, self.features, dtype=torch.float64)

    def measured(self) -> Tensor:
        """Count, Σx and Σx² per feature since `measure`: (3, features), float64."""
        sums, self.sums = self.sums, None
        assert sums is not None
        return sums

    def set_from(self, sums: Tensor) -> None:
        """Set mean and scale from the federation's sums."""
        count, total, squares = sums
        mean = total / count.clamp(min=1)
        variance = (squares / count.clamp(min=1) - mean**2).clamp(min=0)
        # what is left of a constant's variance after rounding is no variance
        varies = variance > 1e-12 * mean**2
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, variance.rsqrt(), 0.0))

    def _measure(self, x: Tensor, missing: Tensor) -> None:
        assert self.sums is not None
        present = x.detach().double().masked_fill(missing, 0.0).cpu()
        self.sums += torch.stack([(~missing).double().sum(0).cpu(), present.sum(0), (present**2).sum(0)])


def standardizers(model: nn.Module) -> dict[str, Standardize]:
    """Every Standardize in a model, by name."""
    return {name or "model": module for name, module in model.named_modules() if isinstance(module, Standardize)}


def to_measure(model: nn.Module, *, given: bool) -> dict[str, Standardize]:
    """Those whose sums the silos send: all, but of given weights only what they hold no standardisation for."""
    return {name: module for name, module in standardizers(model).items() if not given or module.is_new}


def measured_sums(model: nn.Module) -> Groups:
    """What a silo sends: the sums of each Standardize."""
    return {GROUP: {name: module.measured() for name, module in standardizers(model).items()}}


def expected_sums(model: nn.Module) -> Groups:
    """Tensors like those sums."""
    like = {name: torch.zeros(3, module.features, dtype=torch.float64) for name, module in standardizers(model).items()}
    return {GROUP: like}


def apply_sums(modules: Mapping[str, Standardize], reports: Iterable[Groups]) -> None:
    """Add up the silos' sums, in silo order, and set these, by name, from them."""
    totals: Tensors = {}
    for report in reports:
        for name, sums in report[GROUP].items():
            totals[name] = totals[name] + sums if name in totals else sums.clone()
    with torch.no_grad():
        for name, module in modules.items():
            module.set_from(totals[name])
