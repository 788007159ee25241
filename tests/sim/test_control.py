"""A run that is paused, stepped, changed, extended and undone, in every way held against runs that nobody touched."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_kit import FedAvg, Federation, FedProx, Scaffold, Target
from fl_kit import FedAvg as Plain
from fl_kit.errors import FlKitError, IncompatibleError, StoreError
from fl_kit.events import RUN_CHANGED, RUN_PAUSED, RUN_RESUMED
from fl_kit.strategies import Cyclic, Ditto
from sim.in_process import InProcess
from tests.sim.small import digests, federation, global_figures, job, undisturbed, variant

FRAIL = """
from pathlib import Path
read = data

def data(folder, split):
    if Path({flag!r}).exists():
        raise OSError("the disk is away")
    return read(folder, split)
"""
SCAFFOLD = Scaffold(epochs=2, batch_size=8, lr=0.2)


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"))


def paused(silos: Federation, folder: Path | None = None, **settings: Any) -> Any:
    return job(**settings).run(silos, on=InProcess(folder=folder, keep="all"), paused=True)


def test_step_by_step_is_the_run_that_nobody_touched(silos):
    run = paused(silos, strategy=SCAFFOLD)
    for round in (1, 2):
        assert run.step() is run
        assert (run.status, run.rounds_done, run.state().round) == ("paused", round, round)
    run.step()
    assert (run.status, run.rounds_done) == ("completed", 3)
    plain = undisturbed(job(strategy=SCAFFOLD), silos)
    assert digests(run, range(4)) == digests(plain, range(4))
    assert global_figures(run, "loss") == global_figures(plain, "loss")
    with pytest.raises(FlKitError, match=r"has made all its rounds; run\.extend"):
        run.step()


def test_a_paused_run_waits_and_tells_so(silos):
    run = paused(silos)
    assert run.wait(timeout=10).status == "paused"
    assert run.rounds_done == 0
    run.step()
    assert [event.round for event in run.events() if event.name == RUN_PAUSED] == [0, 1]
    assert run.resume().wait().status == "completed"
    with pytest.raises(FlKitError, match="nothing to pause"):
        run.pause()


def test_pause_holds_a_run_that_goes_on(silos):
    run = job(rounds=2_000).run(silos, on=InProcess(folder=None))
    run.pause()
    assert run.wait(timeout=20).status == "paused"
    before = run.rounds_done, len(run.events())
    assert (run.rounds_done, len(run.events())) == before
    run.step()
    assert run.status == "paused"
    assert run.rounds_done <= before[0] + 1
    run.stop()
    assert run.wait().status == "stopped"


def test_a_paused_run_can_be_stopped_and_begun_again(silos):
    run = paused(silos)
    run.step()
    run.stop()
    assert run.wait().status == "stopped"
    assert run.resume().wait().status == "completed"
    assert digests(run, range(4)) == digests(undisturbed(job(), silos), range(4))
    assert sum(event.name == RUN_RESUMED and event.value is not None for event in run.events()) == 1


def test_a_stopped_run_can_be_stepped(silos):
    run = paused(silos)
    run.step()
    run.stop()
    run.wait()
    assert run.step().status == "paused"
    assert run.rounds_done == 2


def test_a_learning_rate_that_was_changed_is_the_schedule_with_that_value(silos, tmp_path):
    scheduled = undisturbed(job(strategy=FedAvg(epochs=2, batch_size=8, lr=(0.2, 0.2, 0.05))), silos)
    run = paused(silos, tmp_path)
    run.step().step().step(lr=0.05)
    assert digests(run, range(4)) == digests(scheduled, range(4))
    (change,) = [event for event in run.events() if event.name == RUN_CHANGED]
    assert change.value["words"] == "from round 3 on: lr 0.2 → 0.05"
    assert change.value["after"] == 2
    assert run.job.strategy.lr == 0.05


def test_a_change_during_a_round_holds_from_the_next_one(silos):
    run = paused(silos, rounds=4)
    run.step()
    run.change(lr=0.05)
    run.step()
    run.change(lr=0.01)
    run.resume().wait()
    scheduled = job(strategy=FedAvg(epochs=2, batch_size=8, lr=(0.2, 0.05, 0.01, 0.01)), rounds=4)
    assert digests(run, range(5)) == digests(undisturbed(scheduled, silos), range(5))


def test_more_rounds_are_those_of_a_longer_job(silos, tmp_path):
    run = job(strategy=SCAFFOLD, rounds=2).run(silos, on=InProcess(folder=tmp_path)).wait()
    assert run.extend(rounds=2).wait().status == "completed"
    longer = undisturbed(job(strategy=SCAFFOLD, rounds=4), silos)
    assert digests(run, range(5)) == digests(longer, range(5))
    assert global_figures(run, "loss") == global_figures(longer, "loss")
    assert (run.job.rounds, run.plan.rounds, run.rounds_done) == (4, 4, 4)


def test_a_run_from_another_kernel_is_extended_too(silos, tmp_path):
    first = job(rounds=1).run(silos, on=InProcess(folder=tmp_path)).wait()
    first.extend(rounds=1).wait()
    again = InProcess(folder=tmp_path).resume(first.id)
    assert (again.status, again.job.rounds) == ("completed", 2)
    again.extend(rounds=1).wait()
    assert digests(again, range(4)) == digests(undisturbed(job(), silos), range(4))


def test_the_last_report_is_left_out_of_a_run_that_was_extended_in_time(silos):
    run = paused(silos, rounds=1)
    run.extend(rounds=2)
    assert run.status in ("paused", "running")
    run.resume().wait()
    assert digests(run, range(4)) == digests(undisturbed(job(), silos), range(4))


def test_silos_that_are_left_out_and_come_back(silos):
    """With alpha and bravo alone a round is that of the two, from the same weights; what charlie kept it has later."""
    names = silos.names
    run = paused(silos, strategy=SCAFFOLD, rounds=4)
    run.step()
    kept = run.memories()["charlie"].tensors["control"]
    run.step(silos=names[:2])
    assert set(run.state().counted) == set(names)
    assert {silo for silo, round in run.state().counted.items() if round == 2} == set(names[:2])
    run.step()
    assert all((run.memories()["charlie"].tensors["control"][name] == value).all() for name, value in kept.items())
    run.step(silos=names)
    assert {silo for silo, round in run.state().counted.items() if round == 4} == set(names)
    words = [event.value["words"] for event in run.events() if event.name == RUN_CHANGED]
    assert words == ["from round 2 on: without charlie, delta", "from round 4 on: with charlie, delta again"]
    frame = run.history()
    assert set(frame[(frame["round"] == 4)].party) >= set(names)


def test_silos_that_were_left_out_do_not_measure_the_end_either(silos):
    run = paused(silos, rounds=2)
    run.step().step(silos=silos.names[:2])
    frame = run.history()
    assert set(frame[(frame["round"] == 2) & (frame.metric == "loss")].party) == {"global", *silos.names[:2]}
    assert run.status == "completed"


def test_a_federation_from_the_start_of_these_silos_alone_has_the_same_bits(silos):
    """FedAvg remembers nothing: to leave silos out before round 1 is never to have had them."""
    run = paused(silos)
    run.change(silos=silos.names[:2])
    run.resume().wait()
    assert digests(run, range(4)) == digests(undisturbed(job(), silos.select(silos.names[:2])), range(4))


def test_a_run_that_was_killed_after_a_change_makes_the_same_rounds(silos, tmp_path):
    run = paused(silos, tmp_path, strategy=SCAFFOLD)
    run.step()
    run.change(lr=0.05, silos=silos.names[:3])
    run.stop()
    run.wait()
    again = InProcess(folder=tmp_path).resume(run.id).wait()
    other = paused(silos, strategy=SCAFFOLD)
    other.step().step(lr=0.05, silos=silos.names[:3]).resume().wait()
    assert digests(again, range(4)) == digests(other, range(4))


@given(at=st.lists(st.integers(0, 4), min_size=1, max_size=3), fraction=st.sampled_from([None, 0.5]))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_rates_are_changed_it_is_their_schedule(silos, at, fraction):
    rates = [0.2] * 5
    run = paused(silos, rounds=5, fraction=fraction)
    for number, after in enumerate(sorted(set(at)), start=1):
        while run.rounds_done < after:
            run.step()
        rates[after:] = [0.2 / 2**number] * (5 - after)
        run.change(lr=0.2 / 2**number)
    run.resume().wait()
    scheduled = job(strategy=FedAvg(epochs=2, batch_size=8, lr=tuple(rates)), rounds=5, fraction=fraction)
    assert digests(run, range(6)) == digests(undisturbed(scheduled, silos), range(6))


def test_a_change_that_another_kernel_made_is_not_written_over(silos, tmp_path):
    """Both have read the finished run; the second one would go on without the first one's change."""
    first = job().run(silos, on=InProcess(folder=tmp_path)).wait()
    second = InProcess(folder=tmp_path).resume(first.id)
    first.extend(rounds=1).wait()
    with pytest.raises(StoreError, match="was changed by another kernel: resume it"):
        second.extend(rounds=2)
    assert InProcess(folder=tmp_path).resume(first.id).job.rounds == 4


def test_undo_goes_on_from_an_earlier_round(silos, tmp_path):
    run = job(strategy=SCAFFOLD).run(silos, on=InProcess(folder=tmp_path)).wait()
    branch = run.undo(to_round=1)
    assert branch.id != run.id
    assert branch.wait(timeout=10).status == "paused"
    assert (branch.rounds_done, branch.digest()) == (1, run.digest(1))
    assert branch.resume().wait().digest() == run.digest()
    assert digests(branch, range(4)) == digests(run, range(4))
    assert global_figures(branch, "loss") == global_figures(run, "loss")
    other = run.undo(to_round=1).step(lr=0.01)
    assert other.digest() != run.digest(2)
    assert digests(run, range(4)) == digests(branch, range(4))


def test_undo_takes_back_changes_that_came_later(silos, tmp_path):
    run = paused(silos, tmp_path)
    run.step().step(lr=0.05).step(lr=0.01)
    branch = run.undo(to_round=2)
    assert branch.job.strategy.lr == 0.05
    assert run.undo(to_round=1).job.strategy.lr == 0.2
    assert branch.digest() == run.digest(2)


def test_undo_to_a_round_that_is_not_there(silos, tmp_path):
    run = job().run(silos, on=InProcess(folder=tmp_path)).wait()
    with pytest.raises(StoreError, match=r"has no round 7 to go back to; it has kept \[0, 1, 2, 3\]"):
        run.undo(to_round=7)
    with pytest.raises(StoreError, match="kept in memory only"):
        undisturbed(job(), silos).undo(to_round=1)


def test_a_run_that_stopped_early_goes_on_without_its_rule(silos):
    rule = Target(metric="loss", value=100.0)
    run = job(stop=rule, rounds=5).run(silos, on=InProcess(folder=None, keep="all")).wait()
    assert run.rounds_done == 1
    with pytest.raises(IncompatibleError, match=r"stop=None"):
        run.extend(rounds=2)
    with pytest.raises(IncompatibleError, match=r"has watched 'loss' so far"):
        run.extend(rounds=2, stop=Target(metric="accuracy", value=0.9))
    run.extend(rounds=1, stop=Target(metric="loss", value=-1.0)).wait()
    assert run.rounds_done == 2
    run.extend(rounds=1, stop=None).wait()
    assert run.rounds_done == 3
    assert digests(run, range(4)) == digests(undisturbed(job(), silos), range(4))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 3}, "seed cannot be changed in a run that has begun"),
        ({"optimizer": "Adam"}, "optimizer cannot be changed"),
        ({"learning_rate": 0.1}, "there is no 'learning_rate' to change"),
        ({"lr": "fast"}, "lr cannot be changed"),
        ({"lr": -1.0}, "lr"),
        ({"lr": 0.2}, "nothing would change"),
        ({"rounds": 1}, "round 1 is made already"),
        ({"strategy": FedProx(lr=0.1, mu=0.1)}, "a run that FedAvg began goes on with it"),
        ({"strategy": Plain(epochs=2, batch_size=8, lr=0.2, optimizer="Adam")}, "optimizer cannot be changed"),
        ({"silos": "alpha"}, r"must be a list of names, such as \['alpha'\]"),
        ({"silos": ["alpha", "brave"]}, "bravo"),
        ({"silos": ["alpha", "bravo"], "min_silos": 3}, r"min_silos=3\) with a federation of 2 silos"),
        ({"optimizer_state": "kept"}, "cannot be changed"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_the_run_goes_on(silos, changes, words):
    run = paused(silos).step()
    with pytest.raises(FlKitError, match=words):
        run.change(**changes)
    assert run.resume().wait().status == "completed"
    assert digests(run, range(4)) == digests(undisturbed(job(), silos), range(4))


def test_a_change_after_the_last_round_says_what_is_missing(silos):
    run = undisturbed(job(), silos)
    with pytest.raises(IncompatibleError, match=r"no round is left to change: give `rounds` too"):
        run.change(lr=0.1)


def test_cyclic_has_its_own_order_of_silos(silos):
    run = paused(silos, strategy=Cyclic(epochs=1, batch_size=8, lr=0.1)).step(lr=0.05)
    with pytest.raises(IncompatibleError, match="one silo train in each round"):
        run.change(silos=silos.names[:2])
    run.extend(rounds=1)
    assert run.resume().wait().rounds_done == 4


def test_personal_models_survive_a_change(silos):
    run = paused(silos, strategy=Ditto(epochs=1, batch_size=8, lr=0.1, lam=0.5))
    run.step()
    run.change(lam=0.25)
    assert run.resume().wait().status == "completed"
    assert set(run.memories()) == set(silos.names)


def test_a_round_that_fails_is_raised_by_the_step_and_can_be_tried_again(silos, tmp_path):
    flag = tmp_path / "broken"
    task = variant(tmp_path, FRAIL.format(flag=str(flag)))
    run = job(task).run(silos, on=InProcess(folder=None, keep="all"), paused=True)
    flag.touch()
    with pytest.raises(FlKitError, match="the disk is away"):
        run.step()
    assert run.status == "failed"
    flag.unlink()
    run.step().resume().wait()
    assert digests(run, range(4)) == digests(undisturbed(job(task), silos), range(4))
