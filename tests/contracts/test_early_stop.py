"""A job that stops early does so in every backend: at the same round, with the same bits, and without more training.

F_k(w) = (w − y_k)²/2 with y = 0 and 2, full batches and lr ½: w is 0, ½, ¾, ⅞ … and the loss on all rows,
(w² + (w − 2)²)/4, is 1, .625, .53125, .5078125 … The loss of state 2 is known in round 3, so a target of .6 ends
the run after round 3.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Plateau, Scaffold, Target
from fl_kit.azureml import AzureML
from fl_kit.events import ROUND_COMPLETED, ROUND_STARTED, STOPPED_EARLY
from sim.in_process import InProcess
from sim.processes import Processes
from tests.contracts.local_azureml import LocalAzureML
from tests.tasks import QUADRATIC, job, silos, write_task

ROUNDS = 8
LAST = 3
TARGET = Target(metric="loss", value=0.6)
LOSSES = [1.0, 0.625, 0.53125, 0.5078125]
NEVER_AFTER = """
_loss = loss
def loss(outputs, targets):
    if outputs.requires_grad and outputs.detach().max() > 0.87:
        raise ArithmeticError("trained after the end")
    return _loss(outputs, targets)
"""
"""Whoever trains from state 3, w = .875, fails: x is 1, so outputs are w."""


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return silos(tmp_path_factory.mktemp("early") / "silos", ash=[[1, 0]], birch=[[1, 2]])


class Chunked(LocalAzureML):
    """Two rounds a pipeline."""

    def _place(self) -> AzureML:
        return AzureML(self.workspace.client(), folder=self.folder / "runs", rounds_per_pipeline=2)


@pytest.fixture(scope="module", params=[InProcess, Processes, LocalAzureML, Chunked], ids=lambda kind: kind.__name__)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = request.param(folder=tmp_path_factory.mktemp(request.param.__name__))
    yield made
    getattr(made, "close", lambda: None)()


def early(task: Path = QUADRATIC, **settings: Any) -> Any:
    return job(task, **{"strategy": Scaffold(lr=0.5, batch_size=1), "rounds": ROUNDS, "stop": TARGET, **settings})


@pytest.fixture(scope="module")
def stopped(place: Any, federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Any:
    task = write_task(tmp_path_factory.mktemp("task"), QUADRATIC.read_text(encoding="utf-8") + NEVER_AFTER)
    return early(task).run(federation, on=place).wait()


def losses(run: Any) -> list[float]:
    frame = run.history()
    found = frame[(frame.party == "global") & (frame.metric == "loss")].sort_values("round")
    assert list(found["round"]) == list(range(len(found)))
    return list(found["value"])


def test_it_ends_after_the_round_in_which_the_target_was_seen(stopped: Any) -> None:
    assert stopped.status == "completed"
    assert stopped.rounds_done == LAST
    assert stopped.state().round == LAST
    assert stopped.state().done
    assert losses(stopped) == pytest.approx(LOSSES)


def test_it_says_so_once(stopped: Any) -> None:
    (said,) = [event for event in stopped.events() if event.name == STOPPED_EARLY]
    assert said.round == LAST
    assert said.value == "stopped early after round 3: loss of the federation reached 0.53125, and 0.6 was asked for"


def test_no_later_round_is_told(stopped: Any) -> None:
    completed = [event.round for event in stopped.events() if event.name == ROUND_COMPLETED]
    assert completed == list(range(LAST + 1))
    assert max(event.round for event in stopped.events()) == LAST
    assert {event.round for event in stopped.events() if event.name == ROUND_STARTED} <= set(range(LAST + 2))


def test_its_bits_are_those_of_a_job_of_so_many_rounds(stopped: Any, federation: Federation) -> None:
    """With SCAFFOLD, whose silos keep a memory: what is measured at the end is theirs."""
    whole = early(rounds=LAST, stop=None)
    expected = InProcess(folder=None, keep="all").start(whole, federation).wait()
    assert [stopped.digest(r) for r in range(LAST + 1)] == [expected.digest(r) for r in range(LAST + 1)]
    assert stopped.digest() == expected.digest()


def test_attached_again_it_is_the_same_run(stopped: Any, place: Any) -> None:
    again = place.resume(stopped.id).wait()
    assert again.status == "completed"
    assert again.rounds_done == LAST
    assert losses(again) == losses(stopped)
    assert again.digest() == stopped.digest()


def test_with_a_quorum(place: Any, federation: Federation) -> None:
    if isinstance(place, Chunked | Processes):
        return  # as one pipeline, and as in process
    run = early(min_silos=1).run(federation, on=place).wait()
    assert run.rounds_done == LAST
    assert losses(run) == pytest.approx(LOSSES)


def test_a_plateau(federation: Federation) -> None:
    """Gains are .375, .09375 …: with at least .1 wanted .625 is the best, and state 2 is one round without a gain."""
    rule = Plateau(metric="loss", patience=1, least_gain=0.1)
    run = early(stop=rule, strategy=FedAvg(lr=0.5, batch_size=1)).run(federation, on=InProcess(folder=None)).wait()
    assert run.rounds_done == 3
    assert run.state().watched == pytest.approx((1.0, 0.625, 0.53125))


def test_a_target_that_is_not_reached_changes_nothing(federation: Federation) -> None:
    run = early(rounds=2).run(federation, on=InProcess(folder=None)).wait()
    assert run.rounds_done == 2
    assert not run.state().done


def test_a_run_killed_between_the_last_round_and_the_report_measures_what_it_has(
    federation: Federation, tmp_path: Path
) -> None:
    whole = early().run(federation, on=InProcess(folder=tmp_path)).wait()
    events = tmp_path / whole.id / "events.jsonl"
    lines = events.read_text(encoding="utf-8").splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if '"round/completed"' in line and f'"round":{LAST}' in line)
    events.write_text("".join(lines[: end + 1]), encoding="utf-8")
    again = InProcess(folder=tmp_path).resume(whole.id).wait()
    assert again.digest() == whole.digest()
    assert losses(again) == losses(whole)


def test_a_rule_looks_at_measured_rounds_only(federation: Federation) -> None:
    """Every second state is measured: 0 and 2 in rounds 1 and 3, so it ends after round 3; with patience, later."""
    run = early(evaluate_every=2).run(federation, on=InProcess(folder=None)).wait()
    assert run.rounds_done == 3
    assert run.state().watched == pytest.approx((LOSSES[0], LOSSES[2]))


@pytest.mark.parametrize("word", ["watched", "done"])
def test_an_older_state_goes_on(word: str, federation: Federation, tmp_path: Path) -> None:
    """A state of before has neither field in its meta.json."""
    run = job(QUADRATIC, FedAvg(lr=0.5, batch_size=1), 1).run(federation, on=InProcess(folder=tmp_path)).wait()
    meta = (tmp_path / run.id / "round_001" / "state" / "meta.json").read_text(encoding="utf-8")
    assert f'"{word}"' not in meta
    assert not InProcess(folder=tmp_path).resume(run.id).state().done
