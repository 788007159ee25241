"""The fault matrix: what each fault of `sim.faults` does to a run, in each backend.

A run of four silos and a quorum goes through all of them; its rounds are those of a federation that the struck silo
had no part in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fl_kit import Federation, Job, Scaffold
from fl_kit.errors import StepFailed
from fl_kit.events import SILO_LATE, SILO_LEFT_OUT
from sim import faults
from sim.faults import (
    ClockSkew,
    Corrupt,
    Crash,
    Drop,
    Duplicate,
    Hang,
    NaN,
    Slow,
    Stale,
    Truncated,
    WrongShape,
)
from sim.faults.fault import Fault
from sim.in_process import InProcess
from sim.processes import Processes
from tests.contracts.local_azureml import LocalAzureML
from tests.sim.small import digests, federation, job, undisturbed

SIZES = {"alpha": 20, "bravo": 13, "charlie": 12}
DEADLINE, GRACE = 600.0, 60.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a fault does to the step that it strikes: the kind of its failure, and what its one line says.

    An empty kind means that the update counts all the same.
    """

    fault: Fault
    kind: str = "MessageError"
    says: str = ""


OUTCOMES = {
    "Drop": Outcome(fault=Drop(), says="it delivered no update"),
    "Hang": Outcome(fault=Hang(), kind="DeadlineExceeded", says="it did not end within "),
    "Slow": Outcome(fault=Slow(seconds=DEADLINE + 5), kind="DeadlineExceeded", says="later than its deadline of 600 s"),
    "Slow beyond the grace": Outcome(
        fault=Slow(seconds=DEADLINE + GRACE + 5),
        kind="DeadlineExceeded",
        says="it took more than its deadline of 600 s and a grace of 60 s",
    ),
    "Slow within the deadline": Outcome(fault=Slow(seconds=DEADLINE - 60), kind=""),
    "Crash": Outcome(fault=Crash(at=2), kind="StepFailed", says="its process was ended by signal 9"),
    "Corrupt": Outcome(fault=Corrupt(), says="its tensors' sha256 is not the one in its meta.json"),
    "Truncated": Outcome(fault=Truncated(), says="it is not whole"),
    "NaN": Outcome(fault=NaN(), says="is not finite"),
    "WrongShape": Outcome(fault=WrongShape(), says="expected torch.float64"),
    "Stale": Outcome(fault=Stale(), says="stale or replayed, of another round"),
    "Duplicate": Outcome(fault=Duplicate(), kind=""),
    "ClockSkew": Outcome(fault=ClockSkew(seconds=-7200), kind=""),
}
STRATEGY = Scaffold(epochs=1, batch_size=8, lr=0.2)
"""It has a memory in each silo, and one at the orchestrator that must stay the silos' sum."""
ROUND = 2


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"), SIZES)


@pytest.fixture(scope="module")
def honest(silos: Federation) -> list[str]:
    return digests(undisturbed(asked(), silos), range(4))


def asked(**settings: Any) -> Job:
    return job(strategy=STRATEGY, rounds=3, deadline=DEADLINE, grace=GRACE, **settings)


def struck(fault: Fault, **settings: Any) -> Fault:
    return replace(fault, rounds=(ROUND,), **settings)


def in_memory(found: Mapping[str, Any]) -> InProcess:
    return InProcess(folder=None, keep="all", faults=found)


def test_every_fault_is_here() -> None:
    known = {name for name in faults.__all__ if issubclass(getattr(faults, name), Fault)}
    assert known == {type(outcome.fault).__name__ for outcome in OUTCOMES.values()}


@pytest.mark.parametrize("name", OUTCOMES)
def test_with_a_quorum_the_others_go_on(name: str, silos: Federation, honest: list[str]) -> None:
    outcome = OUTCOMES[name]
    run = asked(min_silos=2).run(silos, on=in_memory({"bravo": struck(outcome.fault, times=0)})).wait()
    check_outcome(run, "bravo", outcome)
    found = digests(run, range(4))
    assert found[:2] == honest[:2]
    assert (found == honest) == (not outcome.kind)
    assert ("bravo" in counted(run, ROUND)) == (not outcome.kind)
    assert "bravo" in counted(run, ROUND + 1)


def check_outcome(run: Any, silo: str, outcome: Outcome, round: int = ROUND) -> None:
    """The failure is told in one line with silo, round, step and kind, and the silo has a gap there."""
    rows = [row for row in run.failures.itertuples() if row.silo == silo and row.round == round]
    gaps = [e for e in run.events() if (e.name, e.party, e.round) == (SILO_LEFT_OUT, silo, round)]
    if not outcome.kind:
        assert not rows
        assert not gaps
        return
    (row,) = rows
    assert (row.step, row.kind) == ("fit", outcome.kind)
    assert outcome.says in row.message
    assert "\n" not in row.message
    assert len(gaps) == 1


def counted(run: Any, round: int) -> set[str]:
    return {silo for silo, last in run.state(round).counted.items() if last == round}


@pytest.mark.parametrize("name", OUTCOMES)
def test_without_a_quorum_the_run_stops(name: str, silos: Federation, honest: list[str]) -> None:
    outcome = OUTCOMES[name]
    run = asked().run(silos, on=in_memory({"bravo": struck(outcome.fault)}))
    if outcome.kind:
        with pytest.raises(StepFailed, match="bravo, round 2, step 'fit'") as raised:
            run.wait()
        assert raised.value.kind == outcome.kind
        assert digests(run, range(2)) == honest[:2]


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_fault_that_passes_changes_no_bit_where_the_step_is_tried_again(
    name: str, silos: Federation, honest: list[str]
) -> None:
    run = asked(retries=1).run(silos, on=in_memory({"bravo": struck(OUTCOMES[name].fault)})).wait()
    assert digests(run, range(4)) == honest
    assert len(run.failures) == bool(OUTCOMES[name].kind)


# Backends with processes: one run each, in which a different fault strikes each silo in each round

EACH_ROUND = {
    ("alpha", 1): "Drop", ("bravo", 1): "Crash", ("charlie", 1): "ClockSkew", ("delta", 1): "WrongShape",
    ("alpha", 2): "Hang", ("bravo", 2): "Stale", ("charlie", 2): "Duplicate", ("delta", 2): "Slow",
    ("alpha", 3): "Corrupt", ("bravo", 3): "Truncated", ("charlie", 3): "Slow within the deadline", ("delta", 3): "NaN",
}  # fmt: skip
"""(silo, round) → what strikes: only charlie counts in each round, which is quorum enough."""

Cells = Mapping[tuple[str, int], str]


def at_once(cells: Cells) -> dict[str, tuple[Fault, ...]]:
    found: dict[str, tuple[Fault, ...]] = {}
    for (silo, round), name in cells.items():
        found[silo] = (*found.get(silo, ()), replace(OUTCOMES[name].fault, rounds=(round,), times=0))
    return found


def over(cells: Cells) -> Job:
    rounds = max(round for _, round in cells)
    return job(strategy=STRATEGY, rounds=rounds, deadline=DEADLINE, grace=GRACE, min_silos=1, evaluate_every=0)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("four"), {**SIZES, "delta": 17})


@pytest.fixture(scope="module")
def here(four: Federation) -> Any:
    """In this process, step by step."""
    return over(EACH_ROUND).run(four, on=in_memory(at_once(EACH_ROUND))).wait()


def as_processes(folder: Path, silos: Federation) -> Any:
    return over(EACH_ROUND).run(silos, on=Processes(folder=folder, faults=at_once(EACH_ROUND))).wait()


def on_azureml(folder: Path, silos: Federation) -> Any:
    backend = LocalAzureML(folder=folder)
    try:
        backend.serve(silos).disturb(at_once(EACH_ROUND))
        run = over(EACH_ROUND).run(silos, on=backend).wait(timeout=240)
        digests(run, range(over(EACH_ROUND).rounds + 1))  # the states are brought here while they can be
        return run
    finally:
        backend.close()


def test_each_kind_is_in_the_run_that_goes_through_all() -> None:
    assert {type(OUTCOMES[name].fault) for name in EACH_ROUND.values()} == {type(o.fault) for o in OUTCOMES.values()}


@pytest.mark.slow
@pytest.mark.parametrize("place", [as_processes, on_azureml])
def test_all_at_once_have_the_same_words_and_bits_in_every_backend(place, here, four, tmp_path) -> None:
    """Each fault has its outcome, every round goes on with whoever is left, and the bits are those of InProcess."""
    check_cells(here, EACH_ROUND)
    run = place(tmp_path, four)
    check_cells(run, EACH_ROUND)
    rounds = range(over(EACH_ROUND).rounds + 1)
    assert digests(run, rounds) == digests(here, rounds)


def check_cells(run: Any, cells: Cells) -> None:
    for (silo, round), name in cells.items():
        check_outcome(run, silo, OUTCOMES[name], round)
    assert all(counted(run, round) == {"charlie"} for _, round in cells)
    late = [(event.party, event.round) for event in run.events() if event.name == SILO_LATE]
    assert late == [cell for cell, name in cells.items() if name == "Slow"]
