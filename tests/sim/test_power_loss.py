"""A power cut at any moment loses nothing that was promised, and the bits that follow are those without it."""

import os
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import settings

from fl_kit import Federation, Plateau, Scaffold, audit, strategies
from fl_kit.errors import RunNotFound
from fl_kit.events import Event, EventLog
from fl_kit.store import FolderStore
from sim.in_process import InProcess
from tests.sim.power_loss import Crash, crashes, recording
from tests.tasks import LINEAR, NORMED, job, random_rows, silos

ROUNDS = 3
CREATED = "created"
SOME = None if settings.get_current_profile_name() == "explore" else 5
"""Power cuts that are tried of each strategy; None is every one."""


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    folder = tmp_path_factory.mktemp("silos")
    return silos(folder, ash=random_rows(6, 4, 1), birch=random_rows(3, 4, 2), cedar=random_rows(5, 4, 3))


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The disk of what goes on after a crash need not be waited for. The audit log, of all runs, lies elsewhere."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setenv(audit.PATH, str(tmp_path_factory.mktemp("audit") / "audit.jsonl"))


def recorded(asked: Any, federation: Federation, runs: Path, **settings: Any) -> tuple[str, list[Crash]]:
    """The id of a run, and every state in which a power cut could have left its folder."""
    runs.mkdir()
    create, save = FolderStore.create, FolderStore.save
    with recording(runs) as recorder, pytest.MonkeyPatch.context() as patch:

        def created(*args: Any, **kwargs: Any) -> FolderStore:
            store = create(*args, **kwargs)
            recorder.mark(CREATED)
            return store

        def saved(self: FolderStore, state: Any, memories: Any) -> None:
            save(self, state, memories)
            recorder.mark(state.round)

        patch.setattr(FolderStore, "create", created)
        patch.setattr(FolderStore, "save", saved)
        run = InProcess(folder=runs, **settings).start(asked, federation).wait()
    return run.id, crashes(recorder)


def recovered(crash: Crash, run_id: str, whole: Any, runs: Path) -> str:
    """Hold one state to what was promised; says how it ended."""
    crash.build(runs)
    try:
        store = FolderStore.open(runs, run_id)
    except RunNotFound:
        assert CREATED not in crash.marks
        return "never begun"
    promised = max((mark for mark in crash.marks if isinstance(mark, int)), default=-1)
    last = store.last_round()
    assert (-1 if last is None else last) >= promised, "a round was lost that had been kept"
    again = InProcess(folder=runs).resume(run_id).wait()
    assert again.rounds_done == whole.rounds_done
    assert [again.digest(round) for round in store.rounds()] == [whole.digest(round) for round in store.rounds()]
    order = ["round", "party", "metric"]
    found, expected = (run.history().sort_values(order, ignore_index=True) for run in (again, whole))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    return f"from {last}"


def undisturbed(asked: Any, federation: Federation) -> Any:
    return InProcess(folder=None, keep="all").start(asked, federation).wait()


@pytest.mark.parametrize("keep", ["all", "last"])
def test_nothing_is_lost_by_a_power_cut_at_any_moment(federation, tmp_path, no_waiting, keep):
    asked = job(LINEAR, Scaffold(lr=0.1, batch_size=2), ROUNDS, seed=5)
    run_id, found = recorded(asked, federation, tmp_path / "runs", keep=keep)
    whole = undisturbed(asked, federation)
    if keep == "last":  # what comes before the first round is the same
        found = [crash for crash in found if 1 in crash.marks][:: 1 if SOME is None else 5]
    ends = [recovered(crash, run_id, whole, tmp_path / str(i)) for i, crash in enumerate(found)]
    begun = [f"from {round}" for round in range(1, ROUNDS + 1)]
    assert set(ends) == {*begun, *(["never begun", "from None", "from 0"] if keep == "all" else [])}
    kept = [r for r in range(ROUNDS + 1) if (tmp_path / "runs" / run_id / f"round_{r:03d}").exists()]
    assert kept == ([ROUNDS] if keep == "last" else list(range(ROUNDS + 1)))


KINDS = [getattr(strategies, name) for name in strategies.__all__]


def disturbed_job(kind: Any) -> Any:
    """All that goes from round to round: a schedule, momenta, drawn silos, and a rule that ends it after three."""
    chosen: dict[str, Any] = {"lr": (0.1, 0.05, 0.1, 0.02, 0.02), "batch_size": 3}
    if not kind.needs_sgd:
        chosen |= {"momentum": 0.9, "optimizer_state": "kept"}
    task = NORMED if issubclass(kind, strategies.FedPer) else LINEAR
    own_plan = issubclass(kind, strategies.Cyclic)
    return job(
        task,
        kind(**{name: value for name, value in chosen.items() if name not in kind.FIXED}),
        5,
        seed=7,
        stop=Plateau(metric="loss", patience=2, least_gain=1e6),
        **({} if own_plan else {"per_round": 2}),
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_whatever_a_strategy_keeps_survives_a_power_cut(kind, federation, tmp_path, no_waiting):
    run_id, found = recorded(disturbed_job(kind), federation, tmp_path / "runs")
    whole = undisturbed(disturbed_job(kind), federation)
    assert whole.rounds_done == 3
    begun = [crash for crash in found if CREATED in crash.marks]
    some = begun if SOME is None else random.Random(kind.__name__).sample(begun, SOME)
    for i, crash in enumerate(some):
        recovered(crash, run_id, whole, tmp_path / str(i))


def test_an_event_that_was_flushed_is_there_after_a_power_cut(tmp_path):
    with recording(tmp_path) as recorder:
        log = EventLog(tmp_path / "events.jsonl")
        for count in (1, 2):
            log.append(Event(time=1.0, round=0, party="ash", name="note", value="x" * 40))
            log.flush()
            recorder.mark(count)
    for i, crash in enumerate(crashes(recorder)):
        crash.build(tmp_path / str(i))
        file = tmp_path / str(i) / "events.jsonl"
        flushed = max((mark for mark in crash.marks if isinstance(mark, int)), default=0)
        found = EventLog.load(file, vouched=flushed) if file.exists() else []
        assert len(found) >= flushed


def test_a_change_that_was_made_survives_a_power_cut(federation, tmp_path, no_waiting):
    """After round 1 the rate is changed: either nothing of it is left, or all; and all, once it was made."""
    asked = job(LINEAR, Scaffold(lr=0.1, batch_size=2), ROUNDS, seed=5)

    def changed(place: InProcess, mark: Any) -> Any:
        run = asked.run(federation, on=place, paused=True).step()
        run.change(lr=0.03)
        mark("changed")
        return run.resume().wait()

    runs = tmp_path / "runs"
    runs.mkdir()
    with recording(runs) as recorder:
        run_id = changed(InProcess(folder=runs), recorder.mark).id
    with_it = changed(InProcess(folder=None, keep="all"), lambda what: None)
    without = undisturbed(asked, federation)
    assert with_it.digest() != without.digest()
    found = [crash for crash in crashes(recorder) if any("/changes" in name for name in crash.folders)]
    ends = set()
    for i, crash in enumerate(found[:: 1 if SOME is None else 4]):
        crash.build(tmp_path / str(i))
        run = InProcess(folder=tmp_path / str(i)).resume(run_id).wait()
        made = len(FolderStore.open(tmp_path / str(i), run_id).legs()) > 1
        ends.add(made)
        assert made or "changed" not in crash.marks
        whole = with_it if made else without
        assert [run.digest(round) for round in range(ROUNDS + 1)] == [whole.digest(r) for r in range(ROUNDS + 1)]
    assert ends == {True, False}
