"""The backward pass of a training step, without what `Tensor.backward` asks each time."""

from typing import Any

from torch import Tensor
from torch.autograd import Variable

ENGINE: Any = getattr(Variable, "_execution_engine", None)
"""What `Tensor.backward` calls in the end; its own questions before that cost as much as a small layer."""


def backward(value: Tensor, unit: Tensor) -> None:
    """Add the gradient of a loss, or of several, to each leaf's `.grad`: `value.backward(unit)`, to the bit.

    unit  ones like the loss; several losses are added up
    """
    # tensors of another class have ways of their own, and so have the threads that serve other devices
    if ENGINE is None or type(value) is not Tensor or not value.is_cpu:
        value.backward(unit)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    else:
        ENGINE.run_backward((value,), (unit,), False, False, (), allow_unreachable=True, accumulate_grad=True)
