"""Attacks by a silo that knows nothing but its own update."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fl_kit.messages import Update
from fl_kit.randomness import generator
from fl_kit.tensors import Tensors
from sim.faults.attack import Known, UpdateAttack, check_number, each


@dataclass(frozen=True, kw_only=True)
class SignFlip(UpdateAttack):
    """−scale · its own update: it undoes what it learned.

    Li et al. 2019, "RSA: Byzantine-Robust Stochastic Aggregation Methods for Distributed Learning from Heterogeneous
    Datasets", arXiv 1811.03761, section 5.

    scale  by how much more than it learned

    >>> run = job.run(federation, on=InProcess(folder=None, faults={"delta": SignFlip(scale=2.0)})).wait()
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "scale")

    def lie(self, own: Update, known: Known) -> Tensors:
        return each(own, lambda value: -self.scale * value)


@dataclass(frozen=True, kw_only=True)
class Scaled(UpdateAttack):
    """Its own update, many times over, so that what it alone has learned replaces the model.

    Bagdasaryan et al. 2018, "How To Backdoor Federated Learning", arXiv 1807.00459, equation 3. Harmful when it has
    learned something wrong: (LabelFlip(classes=10), Scaled(factor=10)) poisons its rows and then shouts.

    factor  the paper's γ; with γ = n of n alike silos the mean becomes its own model

    >>> run = job.run(federation, on=InProcess(folder=None, faults={"delta": Scaled(factor=10.0)})).wait()
    """

    factor: float = 10.0

    def __post_init__(self) -> None:
        check_number(self, "factor")

    def lie(self, own: Update, known: Known) -> Tensors:
        return each(own, lambda value: self.factor * value)


@dataclass(frozen=True, kw_only=True)
class Gaussian(UpdateAttack):
    """Noise instead of an update: each value drawn from a normal distribution around 0, anew each round.

    Blanchard et al. 2017, "Machine Learning with Adversaries", arXiv 1703.02757, section 5. It follows from the job's
    seed, the silo and the round.

    std  standard deviation of each value; the paper's is 200

    >>> run = job.run(federation, on=InProcess(folder=None, faults={"delta": Gaussian(std=0.5)})).wait()
    """

    std: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "std")

    def lie(self, own: Update, known: Known) -> Tensors:
        draws = generator(known.seed, known.step, "gaussian attack")

        def noise(like: Tensor) -> Tensor:
            return self.std * torch.randn(like.shape, generator=draws, dtype=torch.float64)

        return {name: noise(own.delta[name]) for name in sorted(own.delta)}


@dataclass(frozen=True, kw_only=True)
class SilentConstant(UpdateAttack):
    """The same value everywhere, round after round: with 0 a silo that takes the model and gives nothing.

    Li et al. 2019, arXiv 1811.03761, section 5 (same-value attack); with 0 Lin et al. 2019, "Free-riders in Federated
    Learning", arXiv 1911.12560.

    value  of each parameter's change

    >>> run = job.run(federation, on=InProcess(folder=None, faults={"delta": SilentConstant()})).wait()
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        check_number(self, "value")

    def lie(self, own: Update, known: Known) -> Tensors:
        return each(own, lambda value: torch.full_like(value, self.value))
