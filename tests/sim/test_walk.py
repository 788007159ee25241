"""What the engine holds while it works: no silo's update while another silo trains."""

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from fl_kit.messages import Update
from fl_kit.protocols import Strategy
from fl_kit.strategies import FedAvg, Scaffold
from fl_kit.task import Task
from fl_kit.tensors import Tensors
from sim.faults.attack import Known, UpdateAttack, each
from sim.in_process import InProcess
from tests.tasks import LINEAR, job, random_rows, run, silos

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


@dataclass(frozen=True, kw_only=True)
class SpoiltOnce(UpdateAttack):
    """In round 2 an update that is no number."""

    def lie(self, own: Update, known: Known) -> Tensors:
        return each(own, lambda value: value * math.nan) if known.step.startswith("round_002/") else own.delta


def test_what_a_silo_learnt_in_a_round_that_does_not_count_is_forgotten(tmp_path: Path) -> None:
    """A malformed update is refused at the orchestrator's door, after the silo has moved on: its memory must not.

    SCAFFOLD's c is the mean of the silos' c_k by rows; it stays so only if b's c_b is that of round 1.
    """
    rows = {"a": 8, "b": 4, "c": 12}
    federation = silos(tmp_path, **{name: random_rows(n, 4, seed=n) for name, n in rows.items()})
    asked = job(LINEAR, Scaffold(lr=0.05), 3, min_silos=2)
    finished = asked.run(federation, on=InProcess(folder=None, keep="all", faults={"b": SpoiltOnce()})).wait()
    (refused,) = finished.failures.itertuples()
    assert (refused.silo, refused.round, refused.step, refused.kind) == ("b", 2, "fit", "MessageError")
    first, second = (finished._store.memories(r) for r in (1, 2))
    for name, kept in first["b"].tensors["control"].items():
        assert kept.equal(second["b"].tensors["control"][name])
    assert not all(kept.equal(second["a"].tensors["control"][n]) for n, kept in first["a"].tensors["control"].items())
    for round in (1, 2, 3):
        memories, state = finished._store.memories(round), finished.state(round)
        for name, total in state.memory["control_sum"].items():
            expected = sum(n * memories[silo].tensors["control"][name] for silo, n in rows.items())
            assert (total - expected).abs().max() < 1e-12
