"""A silo has trained, and its update is lost on the way: what it learnt in that round is forgotten, by hand.

F_k(w) = (w − b_k)²/2, one row each, one step a round with lr ½; birch's update of round 2 never arrives. What FedDyn,
server momentum and the adaptive optimisers do without a silo stands by hand in their own tests.
"""

from pathlib import Path
from typing import Any

import pytest

from fl_kit import Ditto, FedAvg, Scaffold
from fl_kit.protocols import Strategy
from fl_kit.strategies.scaffold import control
from sim.faults import Drop, NaN, Stale
from sim.faults.fault import Fault
from sim.in_process import InProcess
from tests.tasks import QUADRATIC, job, scalar, silos


def lost(folder: Path, strategy: Strategy, fault: Fault, ash: float, birch: float) -> Any:
    """Three rounds; each round's state and memories are kept."""
    federation = silos(folder / "silos", ash=[[1.0, ash]], birch=[[1.0, birch]])
    asked = job(QUADRATIC, strategy, 3, min_silos=1)
    finished = InProcess(folder=None, keep="all", faults={"birch": fault}).start(asked, federation).wait()
    assert [(row.silo, row.round) for row in finished.failures.itertuples()] == [("birch", 2)]
    return finished


FAULTS = [Drop(rounds=(2,)), NaN(rounds=(2,)), Stale(rounds=(2,))]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_scaffold_by_hand(tmp_path: Path, fault: Fault) -> None:
    """b = (1, 3); with one step c_k⁺ = x − b_k, and the move is −½·(x − b_k − c_k + c).

    round 1   moves ½, 3/2                        x = 1      c_k = −1, −3       c = −2
    round 2   ash −½·(0 + 1 − 2) = ½, alone       x = 3/2    c_k = 0, −3        c = −3/2
    round 3   ash −½·(½ − 0 − 3/2) = ½
              birch −½·(−3/2 + 3 − 3/2) = 0       x = 7/4    c_k = ½, −3/2      c = −½
    """
    finished = lost(tmp_path, Scaffold(lr=0.5, steps=1), fault, 1.0, 3.0)
    assert [scalar(finished.state(round).params) for round in range(4)] == [0, 1, 3 / 2, 7 / 4]
    assert [scalar(control(finished.state(round))) for round in (1, 2, 3)] == [-2, -3 / 2, -1 / 2]
    own = [
        {silo: scalar(memory.tensors["control"]) for silo, memory in finished.memories(round).items()}
        for round in (1, 2, 3)
    ]
    assert own == [{"ash": -1, "birch": -3}, {"ash": 0, "birch": -3}, {"ash": 1 / 2, "birch": -3 / 2}]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_ditto_by_hand(tmp_path: Path, fault: Fault) -> None:
    """y = (0, 2), lam = 1: v ← v − ½·((v − y) + (v − w)).

    round 1   w = 0 + ½·(0 + 1) = ½               v = 0, 1
    round 2   ash alone: w = ½ − ¼ = ¼            v_ash = 0 − ½·(0 − ½) = ¼, v_birch stays 1
    round 3   w = ¼ + ½·(−1/8 + 7/8) = 5/8        v = ¼ − ½·(¼ + 0) = 1/8, 1 − ½·(−1 + ¾) = 9/8
    """
    finished = lost(tmp_path, Ditto(lr=0.5, steps=1, lam=1.0), fault, 0.0, 2.0)
    assert [scalar(finished.state(round).params) for round in range(4)] == [0, 1 / 2, 1 / 4, 5 / 8]
    own = [
        {silo: scalar(memory.tensors["own"]) for silo, memory in finished.memories(round).items()}
        for round in (1, 2, 3)
    ]
    assert own == [{"ash": 0, "birch": 1}, {"ash": 1 / 4, "birch": 1}, {"ash": 1 / 8, "birch": 9 / 8}]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_silos_own_momentum_by_hand(tmp_path: Path, fault: Fault) -> None:
    """b = (1, 3), momentum ½ that is kept: v ← v/2 + (x − b), and the move is −v/2.

    round 1   v = −1, −3                          x = 0 + (½ + 3/2)/2 = 1
    round 2   ash alone: v = −½ + 0               x = 1 + ¼ = 5/4, and birch's v stays −3
    round 3   v = −¼ + ¼ = 0, −3/2 − 7/4 = −13/4  x = 5/4 + (0 + 13/8)/2 = 33/16
    """
    strategy = FedAvg(lr=0.5, steps=1, momentum=0.5, optimizer_state="kept")
    finished = lost(tmp_path, strategy, fault, 1.0, 3.0)
    assert [scalar(finished.state(round).params) for round in range(4)] == [0, 1, 5 / 4, 33 / 16]
