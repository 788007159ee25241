"""A silo's step and the job's deadline, by a clock that the test moves: no wall time is measured."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Job
from fl_kit.errors import DeadlineExceeded, IncompatibleError, StepFailed
from fl_kit.events import SILO_LATE, Event
from fl_kit.execute import run_step
from fl_kit.workbench import Workbench
from tests.sim.small import LOGISTIC, federation, job


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), {"alpha": 20, "bravo": 13})


def ticking(*, step: float, start: float = 1e6) -> Callable[[], float]:
    """A clock that shows `step` seconds more at each look."""
    times: Iterator[float] = (start + step * look for look in range(10_000))
    return lambda: next(times)


def fit(silos: Federation, clock: Callable[[], float], **settings: Any) -> tuple[list[Event], Exception | None]:
    """Four batches of alpha's: the clock is looked at when the step begins, before each of them, and at its end."""
    asked = job(strategy=FedAvg(epochs=1, batch_size=5), rounds=1, evaluate_every=0, **settings)
    plan, bench, told = asked.plan(silos), Workbench(asked.task, seed=0), []
    state = run_step(asked, plan.by_id["round_000/orchestrator/init"], {}, bench)["state"]
    bench.clock = clock
    inputs = {"data": silos["alpha"].data, "state": state, "memory": None}
    failure: StepFailed | None = None
    try:
        run_step(asked, plan.by_id["round_001/alpha/fit"], inputs, bench, emit=told.append)
    except StepFailed as raised:
        failure = raised
    if failure:
        assert (failure.silo, failure.round, failure.op, failure.kind) == ("alpha", 1, "fit", "DeadlineExceeded")
        assert isinstance(failure.__cause__, DeadlineExceeded)
    return told, failure


def looks(silos: Federation) -> int:
    """How often a step looks at the clock."""
    count = [0]

    def clock() -> float:
        count[0] += 1
        return 0.0

    assert fit(silos, clock, deadline=1) == ([], None)
    return count[0]


def test_a_result_that_takes_just_its_deadline_counts(silos):
    seconds = looks(silos) - 1
    assert seconds >= 5  # four batches and the end
    assert fit(silos, ticking(step=1), deadline=seconds) == ([], None)


def test_without_grace_a_late_step_ends_at_its_next_batch_and_has_no_result(silos):
    told, failure = fit(silos, ticking(step=10), deadline=25)
    assert told == []
    assert "it took more than its deadline of 25 s" in str(failure)


def test_a_last_batch_that_takes_too_long_makes_its_result_late(silos):
    """No batch begins after the deadline, but the last one may end after it: by half a second here."""
    seconds = looks(silos) - 1
    told, failure = fit(silos, ticking(step=1), deadline=seconds - 0.5)
    (event,) = told
    assert (event.name, event.party, event.round) == (SILO_LATE, "alpha", 1)
    assert event.value == {"step": "fit", "seconds": seconds, "deadline": seconds - 0.5}
    assert f"after {seconds} s, 0.5 s later than its deadline of {seconds - 0.5:g} s, and is discarded" in str(failure)


def test_within_its_grace_a_late_result_is_waited_for_and_discarded(silos):
    seconds = looks(silos) - 1
    told, failure = fit(silos, ticking(step=1), deadline=1.5, grace=seconds - 1.5)
    assert [event.value for event in told] == [{"step": "fit", "seconds": seconds, "deadline": 1.5}]
    assert "is discarded" in str(failure)


def test_after_its_grace_a_step_is_ended_at_its_next_batch(silos):
    told, failure = fit(silos, ticking(step=1), deadline=1.5, grace=1)
    assert told == []
    assert "it took more than its deadline of 1.5 s and a grace of 1 s" in str(failure)


def test_a_clock_that_is_wrong_does_no_harm(silos):
    assert fit(silos, ticking(step=1, start=-1e9), deadline=looks(silos) - 1) == ([], None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"deadline": 0}, r"Job\(deadline=0\): must be a number of seconds above 0"),
        ({"deadline": True}, r"Job\(deadline=True\)"),
        ({"deadline": float("nan")}, r"Job\(deadline=nan\)"),
        ({"deadline": "5"}, r"Job\(deadline='5'\)"),
        ({"deadline": 5, "grace": -1}, r"Job\(grace=-1\): must be a number of seconds of at least 0"),
        ({"deadline": 5, "grace": None}, r"Job\(grace=None\)"),
        ({"grace": 10}, r"Job\(grace=10\): it begins at the deadline, so give deadline too"),
    ],
)
def test_seconds_that_are_none_are_named(settings, words):
    with pytest.raises(IncompatibleError, match=words):
        job(**settings)


def test_a_job_from_before_there_was_a_grace_has_none():
    text = job(deadline=5).to_json().replace('"grace": 0.0,', "")
    assert "grace" not in text
    assert Job.from_json(text, Path(LOGISTIC).read_text(encoding="utf-8")) == job(deadline=5)


@pytest.mark.parametrize(("min_silos", "policy"), [(None, "strict"), (1, "best effort"), (2, "quorum")])
def test_what_a_silo_that_fails_does_to_a_run_is_said_in_its_first_event(silos, min_silos, policy):
    asked = job(min_silos=min_silos)
    assert asked.policy == policy
    assert asked.announcement(silos)["policy"] == policy
