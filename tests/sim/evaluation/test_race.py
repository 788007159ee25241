"""race: rounds, bytes and client drift by hand, on F_k(w) = (w − y_k)²/2 with full batches.

Two silos of two rows each, y = 0 and y = 2. From w = 0 a step of lr gives delta_k = lr·(y_k − w), so
w ← w + lr·(1 − w), and the loss on all rows is (w² + (w − 2)²)/4.
"""

import io
from pathlib import Path

import pytest

from fl_kit import FedAvg, Federation, Scaffold
from fl_kit.errors import DataError
from sim.evaluation.race import Lane, Race, race
from tests.tasks import LINEAR, QUADRATIC, job, random_rows, run, silos

ROUND = 2 * ((8 + 8) + 16 + 16)
"""Bytes of a round: for each silo w down and delta up, float64, and two pairs of sums: loss and train_loss."""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", ash=[[1, 0], [1, 0]], birch=[[1, 2], [1, 2]])


def quick(lr: float, rounds: int = 3, **settings: float) -> object:
    return job(QUADRATIC, FedAvg(lr=lr, batch_size=2, **settings), rounds)  # type: ignore[arg-type]


def made_up(curves: dict[str, tuple[float, ...]], *, sign: float, target: float) -> Race:
    lanes = {
        name: Lane(curve=curve, moved=tuple(range(len(curve))), drift=(1.0,) * (len(curve) - 1), digest="")
        for name, curve in curves.items()
    }
    return Race(metric="auc", sign=sign, target=target, lanes=lanes)


def test_rounds_and_bytes_to_a_target_by_hand(federation: Federation) -> None:
    """lr ½: w = ½, ¾, … and the loss is 1, .625, .53125; lr 1: w = 1 at once, .5 from there on."""
    found = race({"half": quick(0.5), "whole": quick(1.0)}, federation, target=0.6)
    assert found.lanes["half"].curve[:3] == pytest.approx((1.0, 0.625, 0.53125))
    assert found.lanes["whole"].curve == pytest.approx((1.0, 0.5, 0.5, 0.5))
    assert (found.round_of("half"), found.round_of("whole")) == (2, 1)
    assert (found.bytes_of("half"), found.bytes_of("whole")) == (2 * ROUND, ROUND)
    assert found.lanes["half"].moved == (0, ROUND, 2 * ROUND, 3 * ROUND)


def test_client_drift_by_hand(federation: Federation) -> None:
    """Round 1: delta 0 and 1, mean ½, spread ½. Round 2 from w = ½: −¼ and ¾, mean ¼, spread ½."""
    found = race({"half": quick(0.5)}, federation, target=0)
    assert found.lanes["half"].drift[:2] == pytest.approx((1.0, 2.0))


def test_drift_counts_rows(tmp_path: Path) -> None:
    """Three rows of y = 0 and one of y = 2, lr 1: delta 0 and 2 with weights 3 and 1; mean ½, Σ n‖δ‖²/n = 1."""
    uneven = silos(tmp_path / "silos", ash=[[1, 0]] * 3, birch=[[1, 2]])
    found = race({"one": job(QUADRATIC, FedAvg(lr=1, batch_size=3), 1)}, uneven, target=0)
    assert found.lanes["one"].drift == pytest.approx((3**0.5,))


def test_silos_that_agree_do_not_drift(tmp_path: Path) -> None:
    same = silos(tmp_path / "silos", ash=[[1, 2], [1, 2]], birch=[[1, 2], [1, 2]])
    assert race({"one": quick(0.5, rounds=1)}, same, target=0).lanes["one"].drift == (0.0,)


def test_a_strategys_own_tensors_are_counted(federation: Federation) -> None:
    """SCAFFOLD sends c down (its sum and a weight for each silo heard of) and each silo's change of c up."""
    found = race({"scaffold": job(QUADRATIC, Scaffold(lr=0.5, batch_size=2), 2)}, federation, target=0)
    first, second = found.lanes["scaffold"].moved[1], found.lanes["scaffold"].moved[2]
    assert first == ROUND + 2 * (8 + 8)
    assert second - first == ROUND + 2 * (8 + 8 + 2 * 8)


def test_watching_changes_no_bit(tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", ash=random_rows(9, 4, 1), birch=random_rows(5, 4, 2))
    found = race({"one": job(LINEAR, Scaffold(lr=0.1, batch_size=4), 3)}, federation, target=0)
    assert found.lanes["one"].digest == run(LINEAR, Scaffold(lr=0.1, batch_size=4), federation, 3).digest()


def test_a_target_that_is_never_reached(federation: Federation) -> None:
    found = race({"half": quick(0.5)}, federation, target=0.4)
    assert found.round_of("half") is None
    assert found.bytes_of("half") is None
    assert found.verdict == "None of the 1 reached loss 0.4."
    assert found.table().rows[0][1:3] == [None, None]


@pytest.mark.parametrize(
    ("curves", "sign", "target", "said"),
    [
        ({"a": (0.5, 0.9), "b": (0.5, 0.6)}, 1, 0.9, "To auc 0.9, a needs 1 round; never: b."),
        ({"a": (0.5, 0.1), "b": (0.5, 0.4, 0.2)}, -1, 0.2, "To auc 0.2, a needs 1 round, the slowest of the others 2."),
        ({"a": (0.5, 0.9), "b": (0.5, 0.95)}, 1, 0.9, "To auc 0.9, a and b need 1 round."),
    ],
)
def test_the_verdict(curves: dict[str, tuple[float, ...]], sign: float, target: float, said: str) -> None:
    assert made_up(curves, sign=sign, target=target).verdict == said


def test_the_table_in_full(federation: Federation) -> None:
    row = race({"half": quick(0.5, rounds=3)}, federation, target=0.6).table().rows[0]
    assert row[:3] == ["half", 2, 2 * ROUND / 1e6]
    assert row[3] == row[4] == pytest.approx(((7 / 8) ** 2 + (9 / 8) ** 2) / 4)
    assert row[5] == pytest.approx(2.0)  # of 1, 2, 4


def test_the_picture_has_a_curve_for_each_job_and_a_dot_where_it_arrived(federation: Federation) -> None:
    figure = race({"half": quick(0.5), "whole": quick(1.0)}, federation, target=0.6).plot()
    left, right = figure.axes
    lines = [line for line in left.lines if len(line.get_xdata()) == 4]
    assert [list(line.get_ydata()) for line in lines][1] == pytest.approx([1.0, 0.5, 0.5, 0.5])
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in left.lines if len(line.get_xdata()) == 1]
    assert dots == [(2, pytest.approx(0.53125)), (1, pytest.approx(0.5))]
    assert max(right.lines[0].get_xdata()) == 3 * ROUND / 1e6
    figure.savefig(io.BytesIO(), format="png")


def test_bad_input(federation: Federation) -> None:
    with pytest.raises(DataError, match="at least one job"):
        race({}, federation, target=1)
    with pytest.raises(DataError, match="no metric 'auc'; it has loss"):
        race({"one": quick(0.5)}, federation, target=1, metric="auc")
