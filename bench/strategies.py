"""What each strategy costs beside FedAvg, run by turns. `python -m bench.strategies W2:3 5`."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from bench.command import tell_of
from bench.federated import Prepared, prepare
from bench.result import Mark, Result, mark
from bench.workloads import Workload, named
from fl_kit import FedAvg, Job, local, strategies
from fl_kit.errors import FlKitError
from fl_kit.execute import Inputs, Outputs
from fl_kit.messages import Memory, Update
from fl_kit.plan import Step
from fl_kit.protocols import Emit
from sim.engines.engine import Runner
from sim.in_process import InProcess

YARDSTICK = FedAvg.__name__
COUNTED = 3
"""The round that is counted: by then every silo and the orchestrator remember what they will."""

Hear = Callable[[Step, Outputs], None]


@dataclass(frozen=True, kw_only=True)
class Watched(InProcess):
    """A backend that tells of every step that has run."""

    hear: Hear

    def watched(self, run: Runner) -> Runner:
        def run_and_tell(step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
            outputs = run(step, inputs, emit, check)
            self.hear(step, outputs)
            return outputs

        return run_and_tell


def every_strategy(workload: Workload, repeats: int, scratch: Path) -> dict[str, Any]:
    """Strategy → what it does in a round, and its seconds a round and FedAvg's beside it; or why it cannot run here.

    FedAvg is timed beside itself too: how far that is from 1 is the noise of the machine.
    """
    found: dict[str, Any] = {}
    yardstick = prepared(YARDSTICK, workload, scratch)
    for name in sorted(strategies.__all__, key=lambda name: (name != YARDSTICK, name)):
        try:
            counts = counted(name, workload, scratch)
            found[name] = {"counts": counts, **beside(yardstick, prepared(name, workload, scratch), repeats)}
        except FlKitError as error:
            found[name] = {"refused": str(error)}
    return found


def beside(yardstick: Prepared, ready: Prepared, repeats: int) -> dict[str, Any]:
    """Seconds a round, wall and CPU, of a strategy and of the yardstick, by turns: who goes first changes too."""
    results: dict[str, list[Result]] = {"own": [], "yardstick": []}
    for turn in range(repeats):
        pair = [("yardstick", yardstick), ("own", ready)]
        for whose, job in pair if turn % 2 == 0 else pair[::-1]:
            results[whose].append(timed(job))
    return {
        whose: {"wall": [result.wall for result in each], "cpu": [result.cpu for result in each]}
        for whose, each in results.items()
    }


def prepared(name: str, workload: Workload, scratch: Path) -> Prepared:
    """The workload under that strategy, which is given as many of the workload's settings as it takes.

    Raises the strategy's own FlKitError where it takes not even the learning rate.
    """
    most = {"lr": workload.lr, "shuffle": False, "epochs": workload.epochs, "batch_size": workload.batch_size}
    least = {"lr": workload.lr, "shuffle": False}  # one step on all rows takes neither epochs nor batches
    kind = getattr(strategies, name)
    try:
        strategy = kind(**most)
    except (FlKitError, TypeError):
        strategy = kind(**least)
    return prepare(workload, scratch / "silos", strategy)


def timed(ready: Prepared) -> Result:
    """Its rounds, from one state to the next: a strategy need not combine anything."""
    marks: list[Mark] = []

    def hear(step: Step, outputs: Outputs) -> None:
        if step.round and "state" in outputs:
            marks.append(mark())

    run = ready.job.run(ready.federation, on=Watched(folder=None, hear=hear)).wait()
    return Result(marks=tuple(marks), loss=0.0, parameters=tuple(run.state().params.values()))


def counted(name: str, workload: Workload, scratch: Path) -> dict[str, float]:
    """What the strategy does in a round: passes over the training rows, the share of changed steps, models moved.

    taught    passes with gradients, measured without (beside the test rows, which every strategy measures)
    steps     of a silo, changed the share of them whose gradients the strategy changed
    sent      by a silo, kept in it, and held by the orchestrator for the next round; in models
    """
    ready = prepared(name, named(f"{workload.name.partition(':')[0]}:{COUNTED}"), scratch)
    so_far: Counter[str] = Counter()
    after: dict[int, Counter[str]] = {}

    def hear(step: Step, outputs: Outputs) -> None:
        note_sizes(so_far, outputs)
        if "state" in outputs:
            after[step.round] = so_far.copy()

    with counting_rows(ready.job, so_far), counting_steps(so_far):
        ready.job.run(ready.federation, on=Watched(folder=None, hear=hear)).wait()
    done = Counter({what: after[COUNTED][what] - after[COUNTED - 1][what] for what in so_far})
    rows, model = sum(workload.samples), size(dict(workload.model().named_parameters()))
    return {
        "taught": done["taught"] / rows,
        "measured": (done["measured"] - workload.test_rows) / rows,
        "steps": done["steps"] / workload.silos,
        "changed": done["changed"] / max(done["steps"], 1),
        "sent": done["sent"] / model / workload.silos,
        "kept": done["kept"] / model / workload.silos,
        "held": after[COUNTED]["held"] / model,
    }


def note_sizes(counts: Counter[str], outputs: Outputs) -> None:
    """Add what a step sent and kept, in bytes; what the orchestrator holds stands for itself."""
    for message in outputs.values():
        if isinstance(message, Update):
            counts["sent"] += size(message.delta) + sum(map(size, message.extra.values()))
        elif isinstance(message, Memory):
            counts["kept"] += sum(map(size, message.tensors.values()))
        else:
            counts["held"] = sum(map(size, message.memory.values()))


def size(tensors: Mapping[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())


@contextmanager
def counting_rows(job: Job, counts: Counter[str]) -> Iterator[None]:
    """Every row that goes through a model of the job, a copy of it too: taught with gradients, measured without."""
    model = job.task.module.model

    def count(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        counts["taught" if torch.is_grad_enabled() else "measured"] += len(inputs[0])

    def counted_model() -> nn.Module:
        made: nn.Module = model()
        made.register_forward_hook(count)
        return made

    with patch.object(job.task.module, "model", counted_model):
        yield


@contextmanager
def counting_steps(counts: Counter[str]) -> Iterator[None]:
    """Every local step, and whether the strategy changed its gradients."""
    descend = local.descend

    def count(optimizer: Any, params: Any, views: Any, correction: Any) -> None:
        counts["steps"] += 1
        counts["changed"] += correction is not None
        descend(optimizer, params, views, correction)

    with patch.object(local, "descend", count):
        yield


if __name__ == "__main__":
    tell_of(every_strategy, __doc__)
