"""The yardstick: the loop that one writes in plain torch, with nothing left to leave out.

One model is used for every silo and one copy holds the running average, so memory does not grow with the
silos either. Evaluation is central, in batches that suit a CPU's cache.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.result import Mark, Result, mark
from bench.workloads import Workload

EVALUATION_BATCH = 128

Rows = tuple[Tensor, Tensor]


def rows_of(workload: Workload) -> tuple[list[Rows], Rows]:
    """Each silo's training rows, and the central test set."""
    return [workload.train_rows(silo) for silo in range(workload.silos)], workload.test_set()


def run(workload: Workload, rows: tuple[list[Rows], Rows] | None = None) -> Result:
    """Federated averaging in plain torch; the rows are made unless they are given."""
    train, test = rows or rows_of(workload)
    model = workload.model()
    params: list[Tensor] = list(model.parameters())
    average = [p.detach().clone() for p in params]
    total = [torch.zeros_like(p) for p in average]
    count = sum(workload.samples)
    marks: list[Mark] = []
    loss = 0.0
    for round in range(1, workload.rounds + 1):
        torch._foreach_zero_(total)
        for inputs, targets in train:
            copy(params, average)
            train_locally(model, inputs, targets, workload)
            with torch.no_grad():
                torch._foreach_add_(total, params, alpha=len(targets) / count)
        average, total = total, average
        marks.append(mark())
        if round % workload.evaluate_every == 0:
            copy(params, average)
            loss, _ = evaluate(model, *test)
    return Result(marks=tuple(marks), loss=loss, parameters=tuple(average))


@torch.no_grad()
def copy(params: list[Tensor], values: list[Tensor]) -> None:
    torch._foreach_copy_(params, values)


def train_locally(model: nn.Module, inputs: Tensor, targets: Tensor, workload: Workload) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=workload.lr)
    for _ in range(workload.epochs):
        for first in range(0, len(targets), workload.batch_size):
            rows = slice(first, first + workload.batch_size)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Loss and accuracy on the test set."""
    model.eval()
    loss = correct = 0.0
    for first in range(0, len(targets), EVALUATION_BATCH):
        rows = slice(first, first + EVALUATION_BATCH)
        outputs = model(inputs[rows])
        loss += F.cross_entropy(outputs, targets[rows], reduction="sum").item()
        correct += (outputs.argmax(1) == targets[rows]).sum().item()
    return loss / len(targets), correct / len(targets)
