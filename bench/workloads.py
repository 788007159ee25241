"""What is timed: three federations, their models and their data.

    W1    10 silos of 600 rows, a CNN of 114,314 parameters, batches of 32: the arithmetic counts
    W2   100 silos of  60 rows, an MLP of  6,274 parameters, batches of 16, 2 epochs: the calls count
    W3     4 silos of   8 rows, 25,197,578 parameters, one step each: the memory counts
    V      6 silos of 5 to 90 rows, the MLP: checks the weighting
    W2x10  W2 with ten silos; so for any workload but V
    W2d    W2 in float64, which shows whether two ways do the same whatever the order of their sums; so for any workload
    W2:3   W2 with three rounds; so for any workload

Plain SGD in fixed order, whole batches and a short last one. Everything is drawn with torch from fixed seeds.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A federation and how it trains.

    name            as it was asked for
    samples         training rows of each silo
    test_rows       rows of the central test set; each silo holds an equal share of them
    evaluate_every  rounds from one evaluation of the global model to the next
    """

    name: str
    kind: str
    samples: tuple[int, ...]
    batch_size: int
    epochs: int
    rounds: int
    lr: float
    test_rows: int
    evaluate_every: int = 1
    dtype: torch.dtype = torch.float32

    @property
    def silos(self) -> int:
        return len(self.samples)

    def model(self) -> nn.Module:
        """A new model with the shared first weights, whatever the global generator drew."""
        return first_weights(MODELS[self.kind]()).to(self.dtype)

    def train_rows(self, silo: int) -> tuple[Tensor, Tensor]:
        draws = torch.Generator().manual_seed(1000 + silo)
        return self._rows(self.samples[silo], draws, shifted=True)

    def test_set(self) -> tuple[Tensor, Tensor]:
        """The central test set; `test_share` gives a silo its part of it."""
        return self._rows(self.test_rows, torch.Generator().manual_seed(999), shifted=False)

    def test_share(self, silo: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.test_set()
        share = slice(silo * self.test_rows // self.silos, (silo + 1) * self.test_rows // self.silos)
        # a copy, since a view would hold the whole set
        return inputs[share].clone(), targets[share].clone()

    def _rows(self, count: int, draws: torch.Generator, *, shifted: bool) -> tuple[Tensor, Tensor]:
        """Normal inputs, shifted by a silo's own vector; targets from a fixed linear teacher with noise."""
        shape, classes = SHAPES[self.kind]
        width = math.prod(shape)
        teacher = torch.randn(width, classes, generator=torch.Generator().manual_seed(7)) / width**0.5
        inputs = torch.randn(count, width, generator=draws)
        if shifted:
            inputs += 0.3 * torch.randn(1, width, generator=draws)
        scores = inputs @ teacher + 0.1 * torch.randn(count, classes, generator=draws)
        return inputs.view(count, *shape).to(self.dtype), scores.argmax(1)


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.hidden = nn.Linear(32 * 7 * 7, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.out(F.relu(self.hidden(x.flatten(1))))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden1, self.hidden2, self.out = nn.Linear(30, 64), nn.Linear(64, 64), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.hidden2(F.relu(self.hidden1(x)))))


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Big(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(1024, 4096) for _ in range(3)))
        self.out = nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(x))


MODELS: dict[str, type[nn.Module]] = {"cnn": CNN, "mlp": MLP, "big": Big}
SHAPES = {"cnn": ((1, 28, 28), 10), "mlp": ((30,), 2), "big": ((1024,), 10)}
WORKLOADS = {
    "W1": Workload(
        name="W1", kind="cnn", samples=(600,) * 10, batch_size=32, epochs=1, rounds=5, lr=0.05, test_rows=1000
    ),
    "W2": Workload(
        name="W2", kind="mlp", samples=(60,) * 100, batch_size=16, epochs=2, rounds=10, lr=0.05, test_rows=1000
    ),
    "W3": Workload(
        name="W3", kind="big", samples=(8,) * 4, batch_size=8, epochs=1, rounds=10, lr=0.01, test_rows=8,
        evaluate_every=10,
    ),
    "V": Workload(
        name="V", kind="mlp", samples=(17, 40, 64, 5, 90, 33), batch_size=16, epochs=2, rounds=4, lr=0.05,
        test_rows=500,
    ),
}  # fmt: skip


def named(name: str) -> Workload:
    """The workload of that name; raises KeyError for one that there is not."""
    form, _, rounds = name.partition(":")
    base, _, silos = form.partition("x")
    found = WORKLOADS[base.removesuffix("d")]
    if base.endswith("d"):
        found = replace(found, dtype=torch.float64)
    if silos:
        found = replace(found, samples=found.samples[:1] * int(silos))
    if rounds:
        every = int(rounds) if found.evaluate_every > 1 else 1
        found = replace(found, rounds=int(rounds), evaluate_every=every)
    return replace(found, name=name)


@torch.no_grad()
def first_weights(model: nn.Module) -> nn.Module:
    """Weights as torch's own layers start: uniform within ±1/√(inputs); a norm is the identity."""
    draws = torch.Generator().manual_seed(1234)
    for layer in model.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.reset_parameters()
        elif isinstance(layer, nn.Linear | nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            for values in (layer.weight, layer.bias):
                values.uniform_(-bound, bound, generator=draws)
    return model
