"""Convolutions lie in memory as the CPU is fast at them, within a step; the bits follow from the job alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fl_kit import FedAvg, Federation, Job, Scaffold
from fl_kit.context import VIEW
from fl_kit.errors import StepFailed
from fl_kit.execute import run_step
from fl_kit.messages import State
from fl_kit.model_state import ModelState
from fl_kit.tensors import digest
from fl_kit.workbench import Workbench
from tests.sim.small import digests, federation, undisturbed

CPU = torch.device("cpu")
TASK = """
import pandas as pd
import torch
from pathlib import Path
from torch import nn

def data(folder, split):
    table = pd.read_csv(Path(folder) / f"{split}.csv")
    rows = torch.tensor(table[["age", "pressure", "sugar"]].to_numpy(), dtype=torch.float32)
    return rows[:, :, None, None] * torch.linspace(-1, 1, 36).reshape(6, 6), torch.tensor(table["ill"].to_numpy())

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(5 * 2 * 2, 2)

    def forward(self, x):
        seen.append(x)
        x = torch.tanh(self.second(torch.tanh(self.first(x))))
        seen.append(x)
        return self.out(self.drop(FLAT))

seen = []
model = Network
loss = nn.CrossEntropyLoss()
"""
FLAT, VIEWED = "torch.flatten(x, 1)", "x.view(len(x), -1)"


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"))


def job(folder: Path, flat: str, **settings: Any) -> Job:
    path = folder / "images.py"
    path.write_text(TASK.replace("FLAT", flat))
    return Job(**{"task": path, "strategy": FedAvg(epochs=1, batch_size=8, lr=0.1), "rounds": 2, **settings})


def is_fast(images: Tensor) -> bool:
    return images.stride()[1] == 1 and images.shape[1] > 1


def test_images_and_what_convolutions_give_lie_channel_by_channel(tmp_path, silos):
    asked = job(tmp_path, FLAT)
    run = undisturbed(asked, silos)
    seen: list[Tensor] = asked.task.module.seen
    assert len(seen) > 20
    assert all(is_fast(images) for images in seen)
    assert all(value.is_contiguous() for value in run.state().params.values())


def test_the_bits_are_those_of_steps_that_know_nothing_of_one_another(tmp_path, silos):
    for flat in (FLAT, VIEWED):
        asked = job(tmp_path, flat, strategy=Scaffold(batch_size=8))
        assert digests(undisturbed(asked, silos), (1, 2)) == digests_of_lone_steps(asked, silos)


def digests_of_lone_steps(job: Job, silos: Federation) -> list[str]:
    """The sha256 of each round's parameters, every step on a bench of its own."""
    found = Lone()
    for step in job.plan(silos).steps:
        if step.op in ("init", "fit", "aggregate"):
            inputs = {
                "data": "" if step.party == "orchestrator" else silos[step.party].data,
                "state": found.state,
                "memory": found.memories.get(step.party),
                "updates": found.updates,
            }
            found.take(step.party, run_step(job, step, inputs, Workbench(job.task, seed=job.seed)))
    return found.digests


class Lone:
    """What goes from step to step."""

    def __init__(self) -> None:
        self.state: State | None = None
        self.memories: dict[str, Any] = {}
        self.updates: list[Any] = []
        self.digests: list[str] = []

    def take(self, party: str, outputs: dict[str, Any]) -> None:
        if "state" in outputs:
            self.state, self.updates = outputs["state"], []
            if self.state.round:
                self.digests.append(digest(self.state.params))
        if "memory" in outputs:
            self.memories[party] = outputs["memory"]
        if "update" in outputs:
            self.updates.append(outputs["update"])


def test_a_model_that_counts_on_rows_in_memory_has_them(tmp_path, silos, monkeypatch):
    asked = job(tmp_path, VIEWED)
    found = digests(undisturbed(asked, silos), (1, 2))
    seen: list[Tensor] = asked.task.module.seen
    assert sum(is_fast(images) for images in seen) == 2 * len(silos.names)  # the first batch of each silo, no more
    monkeypatch.setattr(ModelState, "_kernels", [])
    assert digests(undisturbed(asked, silos), (1, 2)) == found


def test_the_layout_moves_weights_only_as_rounding_does(tmp_path, silos, monkeypatch):
    asked = job(tmp_path, FLAT)
    fast = undisturbed(asked, silos).state().params
    monkeypatch.setattr(ModelState, "_kernels", [])
    plain = undisturbed(asked, silos).state().params
    assert all(torch.allclose(fast[name], plain[name], rtol=1e-4, atol=1e-6) for name in plain)


def test_another_error_is_told_once_and_as_it_is(tmp_path, silos):
    asked = job(tmp_path, "x.reshape(7, -1, 3)")
    with pytest.raises(StepFailed, match="shape '\\[7, -1, 3\\]' is invalid"):
        undisturbed(asked, silos)
    assert len(asked.task.module.seen) == 2


def test_within_the_block_values_stay_and_after_it_the_layout_is_the_usual_one():
    state = ModelState(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)), CPU)
    before = [p.detach().clone() for p in state.module.parameters()]
    with state.in_layout(torch.channels_last):
        assert [p.stride()[1] for p in (state.module[0].weight, state.module[1].weight)] == [1, 1]
        assert all(torch.equal(p, then) for p, then in zip(state.module.parameters(), before, strict=True))
    assert all(
        p.is_contiguous() and p.stride() == then.stride()
        for p, then in zip(state.module.parameters(), before, strict=True)
    )


def test_torch_says_what_is_listened_for():
    images = torch.empty(2, 3, 4, 4).to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match=VIEW):
        images.view(2, -1)
