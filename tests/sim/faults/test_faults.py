"""Faults of honest silos: whom they strike and when, what cannot be, and that a run is resumed with them."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import FedAvg, Federation, Scaffold
from fl_kit.errors import FederationError, IncompatibleError, QuorumLost, StepFailed
from fl_kit.events import NOTE, SILO_LATE, SILO_LEFT_OUT
from fl_kit.plan import Step
from sim.faults import (
    ClockSkew,
    Corrupt,
    Crash,
    Drop,
    Duplicate,
    Hang,
    LabelFlip,
    NaN,
    SignFlip,
    Slow,
    Stale,
    Truncated,
)
from sim.in_process import InProcess
from sim.processes import Processes
from tests.sim.small import digests, federation, job, undisturbed

MEMORY = InProcess(folder=None)


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"))


def fit(silo: str, round: int) -> Step:
    return Step(op="fit", party=silo, round=round, inputs={}, outputs={})


def struck(found: Any, **settings: Any) -> InProcess:
    return InProcess(folder=None, keep="all", faults=found, **settings)


@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 50))
def test_a_fault_strikes_so_many_attempts_of_a_step(times: int, attempt: int, round: int) -> None:
    assert Drop(times=times).strikes(fit("a", round), attempt, seed=3, place=0) == (times == 0 or attempt <= times)


def test_a_fault_strikes_in_its_rounds_and_only_where_a_silo_trains() -> None:
    fault = Drop(rounds=(2, 5))
    assert [r for r in range(1, 8) if fault.strikes(fit("a", r), 1, seed=0, place=0)] == [2, 5]
    evaluate = Step(op="evaluate", party="a", round=2, inputs={}, outputs={})
    assert not fault.strikes(evaluate, 1, seed=0, place=0)


def test_by_probability_it_strikes_as_often_and_by_the_seed_alone() -> None:
    """4000 draws at 0.05: 200 expected, with a standard deviation of √(4000·0.05·0.95) = 13.8."""

    def where(seed: int, place: int = 0) -> set[tuple[int, int]]:
        fault = Drop(probability=0.05)
        cells = [(s, r) for s in range(40) for r in range(1, 101)]
        return {(s, r) for s, r in cells if fault.strikes(fit(f"s{s}", r), 1, seed=seed, place=place)}

    first = where(7)
    assert abs(len(first) - 200) < 5 * 13.8
    assert where(7) == first
    assert where(8) != first
    assert where(7, place=1) != first  # two faults of a silo are drawn apart


def test_a_pattern_stands_for_silos_and_adds_to_what_a_silo_is_given(silos):
    found = {"*": Drop(rounds=(1,)), "[a-b]*": Drop(rounds=(2,)), "charlie": Truncated(rounds=(2,))}
    run = job(rounds=2, min_silos=1).run(silos, on=struck(found))
    with pytest.raises(QuorumLost, match="round 1: 0 of 4 silos delivered"):
        run.wait()
    del found["*"]
    run = job(rounds=2, min_silos=1).run(silos, on=struck(found)).wait()
    assert [(e.party, e.round) for e in run.events() if e.name == SILO_LEFT_OUT] == [
        ("alpha", 2), ("bravo", 2), ("charlie", 2)
    ]  # fmt: skip


def test_what_was_late_says_by_how_much(silos):
    asked = job(rounds=1, min_silos=3, deadline=600, grace=60)
    run = asked.run(silos, on=struck({"bravo": Slow(seconds=612)})).wait()
    (event,) = [event for event in run.events() if event.name == SILO_LATE]
    assert (event.party, event.round) == ("bravo", 1)
    assert event.value["deadline"] == 600
    assert 612 <= event.value["seconds"] < 660
    assert digests(run, [1]) == digests(undisturbed(job(rounds=1), silos.select(["alpha", "charlie", "delta"])), [1])


def test_a_late_result_is_in_no_later_round(silos):
    """After round 1 without bravo, the rounds are those of a run in which its step of round 1 had failed at once."""
    asked = job(strategy=Scaffold(epochs=1, batch_size=8), rounds=3, min_silos=3, deadline=600, grace=60)
    late = asked.run(silos, on=struck({"bravo": Slow(seconds=612, rounds=(1,))})).wait()
    crashed = asked.run(silos, on=struck({"bravo": Crash(rounds=(1,))})).wait()
    assert digests(late, range(4)) == digests(crashed, range(4))


def test_a_duplicate_is_noted_and_counts_once(silos):
    run = job(rounds=1).run(silos, on=struck({"bravo": Duplicate()})).wait()
    notes = [event.value for event in run.events() if event.name == NOTE]
    assert notes == ["bravo, round 1: its update was delivered twice; the first one counts"]
    assert digests(run, range(2)) == digests(undisturbed(job(rounds=1), silos), range(2))


def test_a_clock_that_is_wrong_shows_in_the_time_of_a_silos_own_events(silos):
    asked = job(rounds=1, min_silos=3, deadline=600, grace=60)
    run = asked.run(silos, on=struck({"bravo": (ClockSkew(seconds=86400), Slow(seconds=601))})).wait()
    late, left = (next(e for e in run.events() if e.name == name) for name in (SILO_LATE, SILO_LEFT_OUT))
    assert late.time - left.time == pytest.approx(86400, abs=60)


def test_stale_in_round_1_has_nothing_to_repeat(silos):
    run = job(rounds=1).run(silos, on=struck({"bravo": Stale()})).wait()
    assert digests(run, range(2)) == digests(undisturbed(job(rounds=1), silos), range(2))


def test_faults_beside_an_attack_leave_the_honest_honest(silos):
    """Who lies knows the updates of the honest silos: one that drops its update is honest."""
    from sim.faults import InnerProduct

    both = struck({"alpha": InnerProduct(epsilon=0.1), "bravo": Duplicate()})
    attack = struck({"alpha": InnerProduct(epsilon=0.1)})
    runs = [job(rounds=2).run(silos, on=on).wait() for on in (both, attack)]
    assert digests(runs[0], range(3)) == digests(runs[1], range(3))


def test_below_the_quorum_a_run_stops_and_is_resumed_when_the_fault_has_passed(silos, tmp_path):
    """The fault strikes once: who resumes need not know of it, and the bits are the undisturbed ones."""
    asked = job(min_silos=4)
    place = InProcess(folder=tmp_path, faults={"bravo": Crash(rounds=(2,))})
    run = asked.run(silos, on=place)
    with pytest.raises(QuorumLost, match="round 2: 3 of 4 silos delivered, 4 are needed; missing: bravo"):
        run.wait()
    resumed = InProcess(folder=tmp_path).resume(run.id).wait()
    assert digests(resumed, range(4)) == digests(undisturbed(asked, silos), range(4))


@pytest.mark.parametrize("fault", [Drop(rounds=(2,)), Stale(rounds=(2,))], ids=["Drop", "Stale"])
def test_a_run_that_was_stopped_goes_on_with_its_faults(silos, tmp_path, fault):
    """Stopped before round 2: there the fault strikes as it would have, though nothing of round 1 is kept to repeat."""
    asked = job(strategy=FedAvg(epochs=2, batch_size=8, lr=0.2), min_silos=2)
    whole = asked.run(silos, on=struck({"bravo": fault})).wait()
    started = asked.run(silos, on=InProcess(folder=tmp_path, faults={"bravo": fault}))
    started.stop()
    started.wait()
    resumed = InProcess(folder=tmp_path).resume(started.id).wait()
    assert digests(resumed, range(4)) == digests(whole, range(4))
    assert [(e.party, e.round) for e in resumed.events() if e.name == SILO_LEFT_OUT] == [("bravo", 2)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Drop(rounds=2), r"Drop\(rounds=2\): must be a tuple of rounds from 1"),
        (lambda: Drop(rounds=(0,)), r"Drop\(rounds=\(0,\)\)"),
        (lambda: Drop(rounds=()), r"Drop\(rounds=\(\)\)"),
        (lambda: NaN(probability=0), r"NaN\(probability=0\): must be above 0 and at most 1"),
        (lambda: NaN(probability=True), r"NaN\(probability=True\)"),
        (lambda: Stale(times=-1), r"Stale\(times=-1\): must be a whole number of at least 0"),
        (lambda: Slow(seconds=0), r"Slow\(seconds=0\): must be a number of seconds above 0"),
        (lambda: ClockSkew(seconds=float("nan")), r"ClockSkew\(seconds=nan\): must be a number of seconds"),
        (lambda: Crash(at=0), r"Crash\(at=0\): must be a whole number of at least 1"),
        (lambda: Corrupt(count=0), r"Corrupt\(count=0\)"),
        (lambda: Truncated(share=1), r"Truncated\(share=1\): must be at least 0 and below 1"),
    ],
)
def test_a_setting_out_of_its_range_is_named(make, words):
    with pytest.raises(IncompatibleError, match=words):
        make()


def test_what_cannot_be_is_refused_before_anything_runs(silos, tmp_path):
    with pytest.raises(IncompatibleError, match=r"'bravo' is to Hang\(\), and the run would never end: Job"):
        job().run(silos, on=struck({"bravo": Hang()}))
    with pytest.raises(FederationError, match=r"no silo's name is like 'x\*'; there are alpha, bravo"):
        job().run(silos, on=struck({"x*": Drop()}))
    processes = Processes(folder=tmp_path, faults={"bravo": (Drop(), SignFlip())})
    with pytest.raises(IncompatibleError, match=r"SignFlip\(.*'bravo' is an attack, which Processes has none of"):
        job().run(silos, on=processes)
    with pytest.raises(IncompatibleError, match="LabelFlip"):
        job().run(silos, on=Processes(folder=tmp_path, faults={"*": LabelFlip(classes=2)}))
    assert not any(Path(tmp_path).iterdir())


def test_a_fault_that_strikes_always_is_not_helped_by_retries(silos):
    run = job(retries=2).run(silos, on=struck({"bravo": Drop(rounds=(1,), times=0)}))
    with pytest.raises(StepFailed, match="bravo, round 1, step 'fit': it delivered no update"):
        run.wait()
    assert list(run.failures.kind) == ["MessageError"] * 3
