"""The correction of a silo's gradients as data: what FedProx, SCAFFOLD, FedDyn and Ditto add to each of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class AffineCorrection:
    """gradient ← gradient + pull · (parameter − anchor) + shift, at every step.

    pull    how strongly the parameters are held near the anchor
    anchor  one tensor a trainable parameter, in the model's order; none where nothing is held
    shift   what is added beside it, in the same order; none where nothing is

    Being data, it can be applied to many silos at once; a correction may also be any function of
    (gradients, parameters) that changes the gradients in place, which is then called silo by silo.

    >>> grads = [torch.zeros(2)]
    >>> AffineCorrection(pull=0.5, anchor=[torch.ones(2)])(grads, [torch.tensor([1.0, 3.0])])
    >>> grads
    [tensor([0., 1.])]
    """

    pull: float = 0.0
    anchor: Sequence[Tensor] = ()
    shift: Sequence[Tensor] = ()

    def __call__(self, grads: list[Tensor], params: list[Tensor]) -> None:
        """Change the gradients in place."""
        if self.anchor:
            torch._foreach_add_(grads, torch._foreach_sub(params, list(self.anchor)), alpha=self.pull)
        if self.shift:
            torch._foreach_add_(grads, list(self.shift))
