"""Partial participation: who is drawn, what the plan then says, and what the rounds give."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import FedAvg, Federation, FLTrust, Job, Scaffold
from fl_kit.chart.curves import Fold
from fl_kit.errors import IncompatibleError
from fl_kit.participation import drawn_by, share_of
from fl_kit.plan import ORCHESTRATOR
from fl_kit.strategies.scaffold import control
from tests.tasks import LINEAR, QUADRATIC, digests, flaky, job, random_rows, run, scalar, silos, write_task

NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=12, unique=True)
TARGETS = {"ash": 3.0, "birch": -1.0, "cedar": 8.0, "dogwood": 0.5}


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Four silos with F_k(w) = (w − b_k)²/2, of two rows each."""
    return silos(tmp_path / "silos", **{name: [[1.0, b]] * 2 for name, b in TARGETS.items()})


@given(names=NAMES, seed=st.integers(0, 2**40), round=st.integers(1, 500), data=st.data())
def test_drawn_without_replacement_in_silo_order(names: list[str], seed: int, round: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(names)))
    drawn = drawn_by(seed, names, count)(round)
    assert len(set(drawn)) == len(drawn) == count
    assert set(drawn) <= set(names)
    assert list(drawn) == sorted(drawn)
    assert drawn == drawn_by(seed, data.draw(st.permutations(names)), count)(round)


def test_every_silo_is_as_likely_as_any_other() -> None:
    """3 of 10 in 4,000 rounds: 1,200 each, with a standard deviation of √(4000·0.3·0.7) = 29; 5 of them are 145."""
    names = [f"silo{i}" for i in range(10)]
    rounds = [drawn_by(7, names, 3)(round) for round in range(1, 4001)]
    counts = [sum(name in drawn for drawn in rounds) for name in names]
    assert max(abs(count - 1200) for count in counts) < 145
    assert rounds[:50] != [drawn_by(8, names, 3)(round) for round in range(1, 51)]


def test_a_share_is_rounded_half_up_and_never_nobody() -> None:
    assert [share_of(f, 10) for f in (0.01, 0.14, 0.15, 0.3, 0.96, 1.0)] == [1, 1, 2, 3, 10, 10]


def test_the_plan_says_who_trains_when(federation: Federation) -> None:
    asked = job(QUADRATIC, Scaffold(lr=0.1), 6, per_round=2, seed=5)
    plan = asked.plan(federation)
    drawn = drawn_by(5, federation.names, 2)
    fits = {r: [s.party for s in plan.steps if s.op == "fit" and s.round == r] for r in range(1, 7)}
    assert fits == {r: list(drawn(r)) for r in range(1, 7)}
    aggregates = [step for step in plan.steps if step.op == "aggregate"]
    assert [tuple(step.updates) for step in aggregates] == [drawn(r) for r in range(1, 7)]
    longer = job(QUADRATIC, Scaffold(lr=0.1), 9, per_round=2, seed=5).plan(federation)
    assert [s for s in longer.steps if s.op == "fit"][:12] == [s for s in plan.steps if s.op == "fit"]


def test_a_silo_goes_on_with_the_memory_of_the_last_round_in_which_it_trained(federation: Federation) -> None:
    plan = job(QUADRATIC, Scaffold(lr=0.1), 8, fraction=0.5, seed=1).plan(federation)
    last: dict[str, int] = {}
    for step in plan.steps:
        if step.op == "fit":
            before = last.get(step.party)
            expected = None if before is None else f"round_{before:03d}/{step.party}/fit:memory"
            assert step.inputs.get("memory") == expected
            last[step.party] = step.round
    gaps = set(last.values())
    assert len(gaps) > 1, "the test needs silos that did not train in the last round"
    final = {step.party: step.inputs.get("memory") for step in plan.steps if step.op == "evaluate"}
    assert final == {silo: f"round_{last[silo]:03d}/{silo}/fit:memory" for silo in federation.names}


def test_the_last_measurement_is_of_all_silos_even_of_one_that_never_trained(federation: Federation) -> None:
    finished = run(QUADRATIC, Scaffold(lr=0.1), federation, 1, per_round=1, seed=1)
    frame = finished.history()
    assert set(frame[(frame["round"] == 1) & (frame.metric == "loss")].party) == {*TARGETS, "global"}
    w = scalar(finished.state().params)
    found = frame[(frame["round"] == 1) & (frame.metric == "loss") & (frame.party == "global")].value.item()
    assert found == pytest.approx(np.mean([(w - b) ** 2 / 2 for b in TARGETS.values()]), abs=1e-12)


def test_by_hand_each_round_is_the_mean_of_those_who_took_part(federation: Federation) -> None:
    """One step on (w − b)²/2 moves w by lr·(b − w), so the mean of two silos moves it by lr·(mean b − w)."""
    finished = run(QUADRATIC, FedAvg(lr=0.5), federation, 5, per_round=2, seed=3)
    w = 0.0
    for round in range(1, 6):
        w += 0.5 * (np.mean([TARGETS[silo] for silo in drawn_by(3, federation.names, 2)(round)]) - w)
        assert scalar(finished.state(round).params) == pytest.approx(w, abs=1e-12)


def test_figures_of_a_round_are_of_those_who_train_next(federation: Federation) -> None:
    finished = run(QUADRATIC, FedAvg(lr=0.5), federation, 4, per_round=2, seed=3)
    frame, drawn = finished.history(), drawn_by(3, federation.names, 2)
    for round in range(1, 4):
        told = frame[(frame["round"] == round) & (frame.metric == "loss") & (frame.party != "global")].party
        trained = frame[(frame["round"] == round) & (frame.metric == "train_loss") & (frame.party != "global")].party
        assert set(told) == set(drawn(round + 1))
        assert set(trained) == set(drawn(round))


def test_a_silos_curve_has_a_gap_where_it_did_not_train(federation: Federation) -> None:
    finished = run(QUADRATIC, FedAvg(lr=0.5), federation, 4, per_round=2, seed=3)
    curves, drawn = Fold(finished.events()).curves(), drawn_by(3, federation.names, 2)
    for silo in TARGETS:
        values = list(curves.of("train_loss", silo))
        known = {r for r, value in enumerate(values) if math.isfinite(value)}
        assert known == {r for r in range(1, 5) if silo in drawn(r)}


@pytest.mark.parametrize("everyone", [{"fraction": 1.0}, {"per_round": 4}, {"fraction": 1}])
def test_all_of_them_is_as_if_nothing_was_said(federation: Federation, everyone: dict[str, Any]) -> None:
    strategy = Scaffold(lr=0.1, steps=2)
    asked = job(QUADRATIC, strategy, 3, **everyone)
    assert asked.plan(federation).to_json() == job(QUADRATIC, strategy, 3).plan(federation).to_json()


def test_scaffold_keeps_its_control_exact(federation: Federation) -> None:
    """C = Σ n_k·c_k / Σ n_k over the silos heard of, c_k being silo k's mean gradient when it last trained.

    With one local step c_k⁺ is the gradient at the model that the silo received: w − b_k. All n_k are equal.
    """
    finished = run(QUADRATIC, Scaffold(lr=0.1, steps=1), federation, 9, per_round=2, seed=4)
    drawn = drawn_by(4, federation.names, 2)
    w, c, own = 0.0, 0.0, dict[str, float]()
    for round in range(1, 10):
        moved = []
        for silo in drawn(round):
            gradient = w - TARGETS[silo]
            moved.append(-0.1 * (gradient - own.get(silo, 0.0) + c))
        own |= {silo: w - TARGETS[silo] for silo in drawn(round)}
        w += sum(moved) / 2
        c = sum(own.values()) / len(own)
        assert scalar(finished.state(round).params) == pytest.approx(w, abs=1e-12)
        assert scalar(control(finished.state(round))) == pytest.approx(c, abs=1e-12)


def test_a_quorum_counts_among_those_who_take_part(tmp_path: Path, federation: Federation) -> None:
    """Two of four train; one of the two is away in its first step, and the round goes on with the other."""
    names = drawn_by(3, federation.names, 2)(1)
    away = flaky(tmp_path, target=TARGETS[names[0]], failing={1})
    finished = run(away, FedAvg(lr=0.5), federation, 1, per_round=2, min_silos=1, seed=3)
    assert scalar(finished.state().params) == pytest.approx(0.5 * TARGETS[names[1]], abs=1e-12)
    left_out = [(event.party, event.round) for event in finished.events() if event.name == "silo/left-out"]
    assert left_out == [(names[0], 1)]


def test_sums_for_standardize_come_from_all_silos(tmp_path: Path) -> None:
    source = LINEAR.read_text(encoding="utf-8") + (
        "\nfrom fl_kit import Standardize\ndef model():\n"
        "    return nn.Sequential(Standardize(WIDTH), nn.Linear(WIDTH, 1)).double()\n"
    )
    rows = {name: random_rows(5 + i, 4, i) for i, name in enumerate(TARGETS)}
    federation = silos(tmp_path / "silos", **rows)
    finished = run(write_task(tmp_path, source), FedAvg(), federation, 2, per_round=1)
    pooled = np.concatenate([values[:, :3] for values in rows.values()]).mean(axis=0)
    np.testing.assert_allclose(finished.state(0).params["0.mean"], pooled, atol=1e-12)


def test_the_order_of_listing_does_not_matter(federation: Federation) -> None:
    turned = Federation(silos=federation.silos[::-1])
    strategy = Scaffold(lr=0.1, steps=2)
    there, back = (run(QUADRATIC, strategy, listed, 4, fraction=0.5) for listed in (federation, turned))
    assert digests(there) == digests(back)


def test_a_job_that_draws_survives_json(federation: Federation) -> None:
    for settings in ({"fraction": 0.5}, {"per_round": 2}):
        asked = job(QUADRATIC, FedAvg(), 3, **settings)
        again = Job.from_json(asked.to_json(), asked.task.source)
        assert again == asked
        assert again.plan(federation).to_json() == asked.plan(federation).to_json()


def test_review_and_plan_show_rounds_with_their_gaps(federation: Federation) -> None:
    asked = job(QUADRATIC, FedAvg(), 6, per_round=2, seed=3)
    drawn = drawn_by(3, federation.names, 2)
    ash = [r for r in range(1, 7) if "ash" in drawn(r)]
    rows = asked.review(federation).table().rows
    shown = next(row[3] for row in rows if row[0] == "ash" and row[2] == "fit")
    assert {int(r) for part in str(shown).split(", ") for r in part.split("–")} <= set(ash)
    assert ["fit", "2 of 4 silos"] in [row[:2] for row in asked.plan(federation).table().rows]
    assert ["evaluate", "each silo"] in [row[:2] for row in asked.plan(federation).table().rows]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 0}, r"Job\(fraction=0\): must be a number above 0 and at most 1"),
        ({"fraction": 1.5}, r"Job\(fraction=1.5\)"),
        ({"fraction": "half"}, r"Job\(fraction='half'\)"),
        ({"fraction": math.nan}, r"Job\(fraction=nan\)"),
        ({"per_round": 0}, r"Job\(per_round=0\): must be a whole number of at least 1"),
        ({"per_round": 1.0}, r"Job\(per_round=1.0\)"),
        ({"fraction": 0.5, "per_round": 2}, "both say how many silos take part; give one"),
        ({"per_round": 2, "min_silos": 3}, "more must deliver than take part"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        job(QUADRATIC, FedAvg(), 1, **settings)


def test_what_does_not_fit_the_federation(federation: Federation) -> None:
    for settings, message in (
        ({"per_round": 5}, r"Job\(per_round=5\) with a federation of 4 silos"),
        ({"fraction": 0.5, "min_silos": 3}, "a federation of 4 silos, of which 2 take part in a round"),
        ({"fraction": 0.5, "aggregator": FLTrust(trusted="ash")}, "only 2 of 4 silos are drawn"),
    ):
        with pytest.raises(IncompatibleError, match=message):
            job(QUADRATIC, FedAvg(), 1, **settings).plan(federation)


def test_a_strategy_whose_plan_cannot_draw_says_so(tmp_path: Path, federation: Federation) -> None:
    text = QUADRATIC.read_text(encoding="utf-8") + (
        "\nfrom dataclasses import dataclass\nfrom fl_kit import FedAvg\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Own(FedAvg):\n"
        "    def plan(self, federation, rounds, *, measure):\n"
        "        return super().plan(federation, rounds, measure=measure)\n"
    )
    task = job(write_task(tmp_path, text), FedAvg(), 1).task
    with pytest.raises(IncompatibleError, match=r"Own.plan\(\) takes no `participants`"):
        job(task, task.module.Own(), 1, fraction=0.5).plan(federation)
    assert job(task, task.module.Own(), 1).plan(federation).silos == federation.names


def test_the_orchestrator_still_has_one_step_a_round(federation: Federation) -> None:
    plan = job(QUADRATIC, FedAvg(), 3, per_round=1).plan(federation)
    assert [s.op for s in plan.steps if s.party == ORCHESTRATOR] == ["init", *["aggregate"] * 3, "report"]
