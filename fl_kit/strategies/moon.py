"""MOON: local features are drawn to the global model's, and away from the silo's own of the round before.

Li et al. 2021, "Model-Contrastive Federated Learning", arXiv 2103.16257, Algorithm 1 and equations 3 and 4.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_kit.batches import call
from fl_kit.errors import IncompatibleError, TaskError
from fl_kit.local import LossTerm
from fl_kit.messages import Memory, State, Update
from fl_kit.model_state import ModelState
from fl_kit.protocols import Context, Correction
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class Moon(FedAvg):
    """FedAvg with a contrastive term in the silo's loss; z, z_w and z_k are a row's features under three models.

        contrast  = −log( exp(cos(z, z_w)/temperature) / (exp(cos(z, z_w)/temperature) + exp(cos(z, z_k)/temperature)) )
        in silo:  the loss becomes  F_k + mu · mean of contrast over the batch

    z is of the model in training, z_w of the global one as it arrived, z_k of the silo's own as it was sent before.

    mu           weight of the term, at least 0; the paper tried 0.1 to 10. 0 is FedAvg to the bit
    temperature  above 0; the paper's τ
    layer        the layer whose input is taken for the features, by name. Default: the last that has parameters

    z_w and z_k are measured in evaluation mode and without gradients. In a silo's first round there is no earlier
    model and the term is left out, as it is a constant in the paper's code. The earlier model is the silo's private
    memory; a fit holds two models more, and each step costs two forward passes more.

    >>> job = Job(task=scans, strategy=Moon(mu=1.0, layer="head", lr=0.05), rounds=20)
    """

    mu: float = 1.0
    temperature: float = 0.5
    layer: str = ""
    corrects_gradients: ClassVar[bool] = True
    remembers: ClassVar[bool] = True
    AT_LEAST: ClassVar[Mapping[str, int]] = {**FedAvg.AT_LEAST, "mu": 0, "temperature": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature == 0:
            raise IncompatibleError("Moon(temperature=0): must be above 0, for it divides")

    def check_model(self, make: Callable[[], nn.Module]) -> None:
        feature_layer(make(), self.layer)

    def correction(self, start: list[Tensor], state: State, memory: Memory | None, ctx: Context) -> Correction | None:
        return None  # the loss itself has the term

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        result = self.train(state, memory, ctx)
        return result.update(), Memory(tensors={**result.kept, "earlier": ctx.model.snapshot()})

    def loss_term(self, state: State, memory: Memory | None, ctx: Context) -> LossTerm | None:
        if not self.mu or memory is None or "earlier" not in memory.tensors:
            return None
        arrived, earlier = (frozen(ctx, params, self.layer) for params in (state.params, memory.tensors["earlier"]))
        ours = Features(ctx.model.module, self.layer)  # after the copies, which would have its hook too

        def term(inputs: Any, outputs: Tensor) -> Tensor:
            return self.mu * contrast(ours.last(), arrived.of(inputs), earlier.of(inputs), self.temperature)

        return LossTerm(term=term, close=ours.close)


def contrast(z: Tensor, z_w: Tensor, z_k: Tensor, temperature: float) -> Tensor:
    """The mean of the contrastive term over rows of features, each (rows, features)."""
    nearer = F.cosine_similarity(z, z_w, dim=1) - F.cosine_similarity(z, z_k, dim=1)
    return F.softplus(-nearer / temperature).mean()


class Features:
    """What goes into one layer of a model, seen at each forward pass until it is closed."""

    def __init__(self, module: nn.Module, layer: str) -> None:
        self._module = module
        self._name, part = feature_layer(module, layer)
        self._seen: Tensor | None = None
        self.close = part.register_forward_pre_hook(self._see).remove

    def _see(self, part: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None

    def last(self) -> Tensor:
        """The features of the last batch, (rows, features)."""
        if self._seen is None:
            raise TaskError(
                f"Moon takes its features from the input of layer {self._name!r}, which had none; name another"
            )
        return self._seen.flatten(1)

    def of(self, inputs: Any) -> Tensor:
        """The features of these inputs, without gradients."""
        with torch.no_grad():
            call(self._module, inputs)
        return self.last()


def frozen(ctx: Context, params: Tensors, layer: str) -> Features:
    """A copy of the model with other parameters, in evaluation mode."""
    other = ModelState(copy.deepcopy(ctx.model.module), ctx.device)
    other.load(params)
    return Features(other.module.eval(), layer)


def feature_layer(module: nn.Module, layer: str) -> tuple[str, nn.Module]:
    """The layer of that name, or the last one that has parameters of its own."""
    parts = dict(module.named_modules())
    if layer and layer not in parts:
        raise IncompatibleError(
            f"Moon(layer={layer!r}): the model has no such layer; it has {', '.join(filter(None, parts))}"
        )
    own = [name for name, part in parts.items() if [*part.parameters(recurse=False)]]
    if not own:
        raise IncompatibleError("Moon takes features from the model's last layer with parameters, and it has none")
    name = layer or own[-1]
    return name, parts[name]
