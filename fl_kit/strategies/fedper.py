"""FedPer: some layers stay at home.

Arivazhagan et al. 2019, "Federated Learning with Personalization Layers", arXiv 1912.00818, Algorithms 1 and 2.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import ClassVar

from torch import nn

from fl_kit.errors import IncompatibleError
from fl_kit.messages import Groups, Memory, State, Update
from fl_kit.protocols import Context
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class FedPer(FedAvg):
    """FedAvg over the base layers; the personal ones are trained along in each silo and never leave it.

        in silo k:        (base_k, own_k) after SGD from (base, own_k)
                          delta_k = base_k − base is sent, own_k is kept
        at orchestrator:  base ← base + server_lr · Σ n_k·delta_k / Σ n_k

    layers  the personal layers, by name or pattern over the model's parameters and buffers ("head.*", "3"); a name
            alone means all below it. Default: the last layer that has parameters, which in most models is the head

    own_k is silo k's private memory. In the global state those layers keep their first values, with which a silo
    begins that has not trained yet: `run.state()` is no finished model, `run.personal(silo)` is that silo's own. A
    job refuses layers that the model has not, or that are all of it.

    >>> job = Job(task=scans, strategy=FedPer(layers=("head",), lr=0.05), rounds=20)
    """

    layers: tuple[str, ...] = ()
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        layers: object = self.layers  # whatever was given
        named = (layers,) if isinstance(layers, str) else tuple(layers) if isinstance(layers, Iterable) else ()
        if not all(isinstance(layer, str) and layer for layer in named) or not isinstance(layers, Iterable):
            kind = type(self).__name__
            raise IncompatibleError(f"{kind}(layers={layers!r}): must be the names of layers, as in layers=('3',)")
        object.__setattr__(self, "layers", named)

    def check_model(self, make: Callable[[], nn.Module]) -> None:
        module = make()
        strategy, private = type(self).__name__, self.private(module)
        parts = [name for name, part in module.named_modules() if name and [*part.parameters(recurse=False)]]
        has = f"it has {', '.join(parts) or 'one layer'}"
        for layer in self.layers:  # one that is misspelt beside a good one would be sent to the orchestrator
            if not list(named_by(module, (layer,))):
                raise IncompatibleError(f"{strategy}(layers=…): the model has no layer {layer!r}; {has}")
        if not private:
            asked = f"no layer {' or '.join(map(repr, self.layers))}" if self.layers else "none of its usual layers"
            raise IncompatibleError(
                f"{strategy} would keep nothing in the silos: the model has {asked}; {has}. Name one of these in "
                "layers=…, or use FedAvg"
            )
        if {name for name, p in module.named_parameters() if p.requires_grad} <= private:
            raise IncompatibleError(
                f"{strategy} would keep all of the model in the silos, and nothing would be shared; {has}. "
                "Name fewer in layers=…"
            )

    def private(self, module: nn.Module) -> frozenset[str]:
        """The names of the parameters and buffers that stay in the silo."""
        modules = list(named_by(module, self.layers)) if self.layers else list(self.usual(module))
        names = [name for name, _ in module.named_parameters()] + [name for name, _ in module.named_buffers()]
        return frozenset(name for name in names if any(below(name, layer) for layer in modules))

    def usual(self, module: nn.Module) -> Iterator[str]:
        """The personal layers where none are named."""
        yield from [name for name, part in module.named_modules() if [*part.parameters(recurse=False)]][-1:]

    def start(self, state: State, memory: Memory | None) -> Tensors:
        """The model that the silo goes on with: the global one with its own layers."""
        return (
            {**state.params, **memory.tensors["own"]}
            if memory is not None and "own" in memory.tensors
            else state.params
        )

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        result, private = self.train(state, memory, ctx), self.private(ctx.model.module)
        update, kept = result.update(), Memory(tensors={**result.kept, "own": ctx.model.snapshot(private)})
        extra: Groups = {group: without(tensors, private) for group, tensors in update.extra.items()}
        shared = {group: tensors for group, tensors in extra.items() if tensors}
        return replace(update, delta=without(update.delta, private), extra=shared), kept


def named_by(module: nn.Module, layers: tuple[str, ...]) -> Iterator[str]:
    """The parameters, buffers and modules that a name or pattern means."""
    known = [name for name, _ in module.named_modules() if name]
    known += [name for name, _ in module.named_parameters()] + [name for name, _ in module.named_buffers()]
    for layer in layers:
        yield from (name for name in known if name == layer or fnmatchcase(name, layer))


def below(name: str, layer: str) -> bool:
    """Whether a tensor is that layer's, or of a layer within it."""
    return name == layer or name.startswith(f"{layer}.") or not layer


def without(tensors: Tensors, private: frozenset[str]) -> Tensors:
    return {name: value for name, value in tensors.items() if name not in private}
