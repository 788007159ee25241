"""Cyclic: the weights go round."""

from pathlib import Path
from typing import Any

import pytest

from fl_kit import Cyclic, FedAvg, Federation, Median
from fl_kit.errors import IncompatibleError, StepFailed
from sim.twins import twin_job
from tests.tasks import LINEAR, QUADRATIC, digests, flaky, job, random_rows, run, scalar, silos

TARGETS = {"ash": 3.0, "birch": -1.0, "cedar": 8.0}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """F_k(w) = (w − b_k)²/2, of two, four and eight rows: what counts less or more in a mean does not here."""
    rows = {name: [[1.0, b]] * (2 << i) for i, (name, b) in enumerate(TARGETS.items())}
    return silos(tmp_path / "silos", **rows)


def test_by_hand(federation: Federation) -> None:
    """K steps of lr on (w − b)²/2 give b + (1 − lr)^K·(w − b), one silo after the other."""
    finished = run(QUADRATIC, Cyclic(lr=0.3, steps=2, batch_size=8), federation, 7)
    w = 0.0
    for round in range(1, 8):
        b = list(TARGETS.values())[(round - 1) % 3]
        w = b + 0.7**2 * (w - b)
        assert scalar(finished.state(round).params) == pytest.approx(w, abs=1e-12)


def test_it_comes_to_rest_in_a_cycle_of_its_own(federation: Federation) -> None:
    """After a whole cycle w = s + q³·w with q = (1 − lr)^K: it rests at s/(1 − q³), and leans to the last silo."""
    finished = run(QUADRATIC, Cyclic(lr=0.3, steps=2, batch_size=8), federation, 60)
    q = 0.7**2
    a, b, c = TARGETS.values()
    rest = ((1 - q) * (a * q**2 + b * q + c)) / (1 - q**3)
    assert scalar(finished.state().params) == pytest.approx(rest, abs=1e-9)
    assert abs(rest - c) < abs(sum(TARGETS.values()) / 3 - c)


def test_each_round_is_the_silo_alone_from_the_last_weights(tmp_path: Path) -> None:
    """To the bit: round 2 is a round 1 of the second silo alone, started from what the first one handed on."""
    federation = silos(tmp_path, a=random_rows(8, 4, 1), b=random_rows(16, 4, 2))
    settings: dict[str, Any] = {"lr": 0.05, "batch_size": 4, "shuffle": False}
    whole = run(LINEAR, Cyclic(**settings), federation, 2)
    alone = run(LINEAR, FedAvg(**settings), federation.select(["b"]), 1, init=whole.state(1))
    assert digests(alone) == digests(whole)[1:]


def test_the_plan_shows_whose_turn_it_is(federation: Federation) -> None:
    plan = job(QUADRATIC, Cyclic(), 5).plan(federation)
    assert [s.party for s in plan.steps if s.op == "fit"] == ["ash", "birch", "cedar", "ash", "birch"]
    assert [s.party for s in plan.steps if s.op == "evaluate"] == ["ash", "birch", "cedar"]
    assert ["fit", "1 of 3 silos", "1–5"] in [row[:3] for row in plan.table().rows]


def test_optimiser_state_goes_on_after_a_whole_cycle(federation: Federation) -> None:
    strategy = Cyclic(optimizer="Adam", lr=0.1, optimizer_state="kept")
    plan = job(QUADRATIC, strategy, 4).plan(federation)
    assert plan.by_id["round_004/ash/fit"].inputs["memory"] == "round_001/ash/fit:memory"
    finished = run(QUADRATIC, strategy, federation, 4)
    assert scalar(finished.memories(4)["ash"].tensors["optimizer.step"]) == 2.0


def test_what_makes_no_sense_is_refused(federation: Federation) -> None:
    for settings, message in (
        ({"per_round": 2}, "Cyclic has one silo train in each round: remove fraction and per_round"),
        ({"fraction": 0.5}, "remove fraction and per_round"),
        ({"min_silos": 2}, r"min_silos=2\): in Cyclic's plan only 1 of 3 silos take part in a round"),
    ):
        with pytest.raises(IncompatibleError, match=message):
            job(QUADRATIC, Cyclic(), 3, **settings).plan(federation)
    with pytest.raises(IncompatibleError, match="Cyclic needs exact means"):
        job(QUADRATIC, Cyclic(), 3, aggregator=Median())
    with pytest.raises(IncompatibleError, match=r"Cyclic\(server_lr=0.5\): the strategy itself decides that"):
        Cyclic(server_lr=0.5)


def test_a_silo_that_fails_stops_the_cycle(tmp_path: Path, federation: Federation) -> None:
    with pytest.raises(StepFailed, match="birch, round 2"):
        run(flaky(tmp_path, target=-1.0, failing={1}), Cyclic(), federation, 3)


def test_its_twin_takes_the_steps_of_one_silo_a_round(federation: Federation) -> None:
    twin = twin_job(job(QUADRATIC, Cyclic(steps=5), 6), federation).strategy
    assert isinstance(twin, FedAvg)
    assert twin.steps == 5
