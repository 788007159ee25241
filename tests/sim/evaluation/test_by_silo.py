"""compare, silo by silo: the heat map and who wins by joining, by hand.

F_k(w) = (w − y_k)²/2 with y = 0 in ash and 2 in birch; a full step of lr 1 lands on the optimum of what it saw:
alone at 0 or at 2, federated and centralised at 1.
"""

import io
import math
from pathlib import Path

import pytest

from fl_kit import FedAvg
from sim.baselines import CENTRALISED, FEDERATED, Comparison, compare
from sim.evaluation.heat_map import draw
from sim.evaluation.silo_gains import SiloGains
from tests.tasks import LINEAR, QUADRATIC, job, random_rows, silos


@pytest.fixture
def quadratics(tmp_path: Path) -> Comparison:
    federation = silos(tmp_path / "silos", ash=[[1, 0], [1, 0]], birch=[[1, 2], [1, 2]])
    return compare(job(QUADRATIC, FedAvg(lr=1, batch_size=4), 1), federation, seeds=(0, 1))


def gains(
    federated: dict[str, tuple[float, ...]], alone: dict[str, tuple[float, ...]], better: str = "higher"
) -> SiloGains:
    count = len(next(iter(federated.values())))
    on = {FEDERATED: federated, **{silo: {silo: values} for silo, values in alone.items()}}
    return SiloGains(metric="auc", better=better, seeds=tuple(range(count)), on=on)


def test_every_model_on_every_silos_rows(quadratics: Comparison) -> None:
    assert quadratics.on == {
        FEDERATED: {"ash": (0.5, 0.5), "birch": (0.5, 0.5)},
        CENTRALISED: {"ash": (0.5, 0.5), "birch": (0.5, 0.5)},
        "ash": {"ash": (0, 0), "birch": (2, 2)},
        "birch": {"ash": (2, 2), "birch": (0, 0)},
    }


def test_the_silos_values_make_up_the_pooled_one(tmp_path: Path) -> None:
    """The loss on all test rows is the mean of the silos', weighted by their test rows: 6, 3 and 9."""
    rows = {
        name: {"train": random_rows(train, 4, train), "test": random_rows(test, 4, test)}
        for name, train, test in (("ash", 10, 6), ("birch", 4, 3), ("cedar", 13, 9))
    }
    found = compare(job(LINEAR, FedAvg(lr=0.05), 2), silos(tmp_path / "silos", **rows), metric="loss", seeds=(3,))
    for way, on in found.on.items():
        pooled = (6 * on["ash"][0] + 3 * on["birch"][0] + 9 * on["cedar"][0]) / 18
        assert found.values[way][0] == pytest.approx(pooled, rel=1e-12)


def test_who_loses_by_joining(quadratics: Comparison) -> None:
    """Alone each silo has loss 0 on its own rows, federated ½: both lose ½, on both seeds."""
    found = quadratics.by_silo()
    assert found.gain("ash") == (-0.5, 0.0)
    assert [found.says(silo) for silo in found.silos] == ["loses", "loses"]
    assert found.worst() == ("ash", 0.5)
    assert found.worst("own") == ("ash", 0.0)
    assert found.table().rows[0] == ["ash", 0.0, 0.5, -0.5, 0.0, "loses"]
    assert found.verdict == (
        "By joining, on its own rows: ash, birch lose; "
        "the worst served silo has loss 0.500 (ash), and 0.000 without joining."
    )


def test_the_gain_of_a_silo_by_hand() -> None:
    """Gains .1 and .3: mean .2, s = √.02; with one degree of freedom t is tan(.475π)."""
    found = gains({"ash": (0.8, 0.9)}, {"ash": (0.7, 0.6)})
    mean, half = found.gain("ash")
    assert mean == pytest.approx(0.2)
    assert half == pytest.approx(math.tan(0.475 * math.pi) * math.sqrt(0.02) / math.sqrt(2))
    assert found.says("ash") == "unsure"
    assert "for 1 of 1 it cannot be told" in found.verdict


def test_the_direction_is_the_metrics() -> None:
    assert gains({"ash": (0.8, 0.8)}, {"ash": (0.6, 0.6)}).says("ash") == "wins"
    assert gains({"ash": (0.8, 0.8)}, {"ash": (0.6, 0.6)}, better="lower").says("ash") == "loses"
    both = {"ash": (0.8, 0.8), "birch": (0.5, 0.5)}
    assert gains(both, both).worst() == ("birch", 0.5)
    assert gains(both, both, better="lower").worst() == ("ash", 0.8)


def test_a_seed_whose_value_is_undefined_is_left_out() -> None:
    """An AUC on rows of one class is nan: such a seed tells nothing of that silo, and hides no other."""
    nan = math.nan
    found = gains({"ash": (nan, 0.9, 0.9), "birch": (nan,) * 3}, {"ash": (0.5, 0.8, 0.8), "birch": (nan,) * 3})
    assert found.gain("ash")[0] == pytest.approx(0.1)
    assert found.says("ash") == "wins"
    assert found.says("birch") == "unsure"
    assert found.worst() == ("ash", pytest.approx(0.9))
    assert found.table().rows[1] == ["birch", None, None, None, None, "unsure"]


def test_one_seed_proves_nothing() -> None:
    assert gains({"ash": (0.9,)}, {"ash": (0.1,)}).says("ash") == "unsure"


def test_the_heat_map_shows_every_value_where_it_belongs(quadratics: Comparison) -> None:
    figure = quadratics.heat_map()
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "federated",
        "centralised",
        "only ash",
        "only birch",
    ]
    shown = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert [shown[2, 0], shown[2, 1], shown[3, 0], shown[0, 1]] == ["0.000", "2.000", "2.000", "0.500"]
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_best_cell_is_the_darkest(better: str) -> None:
    axes = draw("auc", better, ["a"], ["x", "y"], [[0.1, 0.9]]).axes[0]
    array = axes.images[0].get_array()
    assert array is not None
    assert bool(array[0, 1] > array[0, 0]) == (better == "higher")


def test_a_heat_map_of_what_is_unknown_or_of_many() -> None:
    unknown = draw("auc", "higher", ["a"], ["x"], [[math.nan]])
    assert not unknown.axes[0].texts
    many = draw("auc", "higher", ["a"], [f"s{i}" for i in range(40)], [[0.5] * 40])
    assert not many.axes[0].texts
    for figure in (unknown, many):
        figure.savefig(io.BytesIO(), format="png")
