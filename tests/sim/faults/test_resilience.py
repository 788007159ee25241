"""under_attack: the runs behind each cell, the table, the picture, and what it refuses."""

from typing import Any

import pytest

from fl_kit import FedAvg, Federation
from fl_kit.aggregators import Bulyan, Mean, Median
from fl_kit.errors import DataError, IncompatibleError
from sim.faults import LabelFlip, Scaled, SignFlip
from sim.faults.resilience import Resilience, under_attack
from sim.in_process import InProcess
from tests.sim.small import federation, global_figures, job

SIZES = {"alpha": 30, "bravo": 33, "charlie": 25, "delta": 27, "echo": 30}
RULES: dict[str, Any] = {"mean": Mean(), "median": Median()}
ATTACKS: dict[str, Any] = {"flip": SignFlip(scale=5), "labels": (LabelFlip(classes=2), Scaled(factor=3))}
MADE = Resilience(
    metric="accuracy",
    better="higher",
    silos=5,
    bad=(0, 2),
    values={"a": {"mean": (0.9, 0.1), "median": (0.875, 0.8)}, "b": {"mean": (0.9, 0.5), "median": (0.875, 0.7)}},
    digest="",
)


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), SIZES)


@pytest.fixture(scope="module")
def found(silos: Federation) -> Resilience:
    return under_attack(job(rounds=4), silos, attacks=ATTACKS, aggregators=RULES, bad=(2, 0, 1))


def test_each_cell_is_the_run_that_it_says(found, silos) -> None:
    assert found.bad == (0, 1, 2)
    for attack, given in ATTACKS.items():
        for name, rule in RULES.items():
            liars = {"alpha": given, "bravo": given}
            run = job(rounds=4, aggregator=rule).run(silos, on=InProcess(folder=None, faults=liars)).wait()
            assert found.values[attack][name][2] == global_figures(run, "accuracy")[4]
            honest = job(rounds=4, aggregator=rule).run(silos, on=InProcess(folder=None)).wait()
            assert found.values[attack][name][0] == global_figures(honest, "accuracy")[4]


def test_the_median_withstands_what_turns_the_mean_round(found) -> None:
    assert found.values["flip"]["median"][2] > found.values["flip"]["mean"][2] + 0.2


def test_it_is_the_same_again(found, silos) -> None:
    again = under_attack(job(rounds=4), silos, attacks=ATTACKS, aggregators=RULES, bad=(0, 1, 2))
    assert (again.values, again.digest) == (found.values, found.digest)
    other = under_attack(job(rounds=4, seed=1), silos, attacks=ATTACKS, aggregators=RULES, bad=(0, 1, 2))
    assert other.digest != found.digest


def test_the_verdict_looks_at_each_ones_worst_attack() -> None:
    assert MADE.worst("mean") == (0.9, 0.1)
    assert MADE.worst("median") == (0.875, 0.7)
    assert MADE.verdict == (
        "With 2 of 5 silos lying, each under its worst attack, median keeps accuracy 0.700, mean 0.100."
    )


def test_the_table_in_markdown() -> None:
    assert MADE.markdown().splitlines() == [
        "| attack | aggregator | 0 bad | 2 bad |",
        "| --- | --- | --- | --- |",
        "| a | mean | 0.9000 | 0.1000 |",
        "| a | median | 0.8750 | 0.8000 |",
        "| b | mean | 0.9000 | 0.5000 |",
        "| b | median | 0.8750 | 0.7000 |",
    ]


def test_the_picture_has_a_map_for_each_attack() -> None:
    figure = MADE.plot()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    assert [text.get_text() for text in figure.axes[0].texts] == [".90", ".10", ".88", ".80"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["mean", "median"]


def test_what_cannot_be_compared_is_refused_before_anything_runs(silos) -> None:
    with pytest.raises(DataError, match="at least one attack"):
        under_attack(job(), silos, attacks={}, aggregators=RULES)
    with pytest.raises(DataError, match=r"bad=\(0, 6\).*there are 5 silos"):
        under_attack(job(), silos, attacks=ATTACKS, aggregators=RULES, bad=(0, 6))
    with pytest.raises(DataError, match="no metric 'speed'"):
        under_attack(job(), silos, attacks=ATTACKS, aggregators=RULES, metric="speed")
    with pytest.raises(IncompatibleError, match="Bulyan"):
        under_attack(job(strategy=FedAvg()), silos, attacks=ATTACKS, aggregators={"mean": Mean(), "b": Bulyan()})
