"""contribution by hand, on F_k(w) = (w − y_k)²/2; and the updates that it rests on.

Silos ash (y = 0), birch (y = 2) and cedar (y = 8) with one row each and lr 1: delta_k = y_k − w, so every round
lands on the mean of those that took part. The loss on all rows is Σ (w − y_k)² / 6.
"""

import io
import math
from pathlib import Path

import pytest
import torch

from fl_kit import FedAvg, Federation, Scaffold
from fl_kit.errors import DataError, StoreError
from fl_kit.job import Job
from sim.evaluation.contribution import Contribution, contribution
from sim.in_process import InProcess
from sim.processes import Processes
from tests.tasks import LINEAR, QUADRATIC, job, random_rows, run, silos


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", ash=[[1, 0]], birch=[[1, 2]], cedar=[[1, 8]])


def loss(w: float) -> float:
    return ((w - 0) ** 2 + (w - 2) ** 2 + (w - 8) ** 2) / 6


def one_step(rounds: int = 2) -> Job:
    return job(QUADRATIC, FedAvg(lr=1), rounds)


KEEPING = InProcess(folder=None, keep="all", keep_updates=True)


def test_each_silos_worth_by_hand(federation: Federation) -> None:
    """With all, w = 10/3. Without ash it is 5, without birch 4, without cedar 1; the same in either round."""
    found = contribution(KEEPING.start(one_step(), federation).wait())
    worth = {silo: loss(w) - loss(10 / 3) for silo, w in {"ash": 5, "birch": 4, "cedar": 1}.items()}
    assert {silo: found.values[silo] for silo in worth} == {
        silo: pytest.approx((value, value)) for silo, value in worth.items()
    }
    assert found.total("cedar") == pytest.approx(2 * worth["cedar"])
    assert [row[0] for row in found.table().rows] == ["cedar", "ash", "birch"]
    assert found.verdict.startswith("cedar contributed most to loss")
    assert found.verdict.endswith("none did more harm than good.")


def test_a_silo_that_harms(tmp_path: Path) -> None:
    """Dorn trains on y = 80 and tests on y = 2: without it the model is better on everybody's test rows."""
    rows = {"train": [[1, 80]], "test": [[1, 2]]}
    federation = silos(tmp_path / "silos", ash=[[1, 0]], birch=[[1, 2]], dorn=rows)
    found = contribution(KEEPING.start(one_step(1), federation).wait())
    assert found.total("dorn") < 0 < found.total("ash")
    assert found.verdict.endswith("dorn did more harm than good.")


def test_chosen_rounds_only(federation: Federation) -> None:
    found = contribution(KEEPING.start(one_step(3), federation).wait(), rounds=[2])
    assert found.rounds == (2,)
    assert all(len(values) == 1 for values in found.values.values())


@pytest.mark.parametrize("where", ["memory", "folder", "processes"])
def test_the_kept_updates_make_the_state(where: str, tmp_path: Path) -> None:
    """Σ n_k·delta_k / Σ n_k of what was kept leads from one state to the next, wherever it was kept."""
    federation = silos(tmp_path / "silos", ash=random_rows(6, 4, 1), birch=random_rows(3, 4, 2))
    place: InProcess | Processes = {
        "memory": KEEPING,
        "folder": InProcess(folder=tmp_path / "runs", keep_updates=True),
        "processes": Processes(folder=tmp_path / "runs"),
    }[where]
    finished = place.start(
        job(LINEAR, Scaffold(lr=0.1, batch_size=3), 1 if where == "processes" else 2), federation
    ).wait()
    last = finished.rounds_done
    ash, birch = finished.updates(last)
    assert [ash.silo, birch.silo] == ["ash", "birch"]
    before, after = finished.state(last - 1).params, finished.state(last).params
    for name in ash.delta:
        torch.testing.assert_close(
            after[name], before[name] + (6 * ash.delta[name] + 3 * birch.delta[name]) / 9, rtol=1e-12, atol=1e-14
        )


def test_keeping_changes_no_bit_and_survives_a_resume(tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", ash=random_rows(6, 4, 1), birch=random_rows(3, 4, 2))
    asked = job(LINEAR, FedAvg(lr=0.1, batch_size=3), 2)
    place = InProcess(folder=tmp_path / "runs", keep_updates=True)
    kept = place.start(asked, federation).wait()
    assert kept.digest() == run(LINEAR, FedAvg(lr=0.1, batch_size=3), federation, 2).digest()
    again = contribution(place.resume(kept.id))
    assert again.values == contribution(kept).values


def test_a_silo_that_was_left_out_has_no_worth_in_that_round() -> None:
    found = Contribution(
        metric="auc", rounds=(1, 2, 3), values={"ash": (math.nan, 0.5, -0.1), "birch": (math.nan,) * 3}
    )
    assert found.total("ash") == pytest.approx(0.4)
    assert found.table().rows == [["ash", 2, pytest.approx(0.4), 0.5, -0.1], ["birch", 0, 0.0, None, None]]
    figure = found.plot()
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["ash"] == pytest.approx([0.0, 0.5, 0.4])
    figure.savefig(io.BytesIO(), format="png")


def test_bad_input(federation: Federation, tmp_path: Path) -> None:
    finished = KEEPING.start(one_step(), federation).wait()
    with pytest.raises(DataError, match=r"rounds \[3\]: rounds 1 to 2 are done"):
        contribution(finished, rounds=[1, 3])
    with pytest.raises(DataError, match="no metric 'auc'"):
        contribution(finished, metric="auc")
    with pytest.raises(StoreError, match=r"round_001/ash/fit was not kept.*keep_updates=True"):
        contribution(run(QUADRATIC, FedAvg(lr=1), federation, 1))
    alone = silos(tmp_path / "alone", ash=[[1, 0]])
    with pytest.raises(DataError, match="round 1 has the update of ash alone"):
        contribution(KEEPING.start(one_step(1), alone).wait())
