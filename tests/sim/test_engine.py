"""What the engine holds while it works: no silo's update while another silo trains."""

from pathlib import Path

import pytest

from fl_kit.protocols import Strategy
from fl_kit.strategies import FedAvg, Scaffold
from fl_kit.task import Task
from tests.tasks import LINEAR, random_rows, run, silos

COUNTING = """

import gc
from fl_kit.messages import Update

alive = []

def loss(outputs, targets):
    alive.append(sum(type(thing) is Update and thing.silo.startswith("held_") for thing in gc.get_objects()))
    return nn.functional.mse_loss(outputs, targets)
"""


@pytest.mark.parametrize("strategy", [FedAvg(), Scaffold()], ids=["FedAvg", "Scaffold"])
def test_no_update_lives_while_a_silo_trains(tmp_path: Path, strategy: Strategy) -> None:
    task = Task(name="counting", source=LINEAR.read_text(encoding="utf-8") + COUNTING)
    federation = silos(tmp_path, **{f"held_{name}": random_rows(8, 4, seed=0) for name in "abc"})
    run(task, strategy, federation, rounds=2)
    in_rounds = task.module.alive[: 3 * 2 * 2]  # each silo evaluates once and takes one step in each round
    assert in_rounds == [0] * 12
