"""The orchestrator's door: only what the round's own silos made, of its own state, under its own bundle, counts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, update_form
from fl_kit.errors import StepFailed
from fl_kit.events import NOTE, SILO_LEFT_OUT, Event
from fl_kit.execute import run_step
from fl_kit.messages import State, Update
from fl_kit.tensors import digest
from fl_kit.update_checks import check_update
from fl_kit.workbench import Workbench
from tests.tasks import QUADRATIC, job, silos


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    rows = {"ash": [[1.0, 2.0]], "birch": [[1.0, 4.0], [1.0, 8.0]], "cedar": [[1.0, -3.0]]}
    return silos(tmp_path_factory.mktemp("silos"), **rows)


class Walk:
    """A plan's steps, run one by one in this process, as a backend does."""

    def __init__(self, federation: Federation, **settings: Any) -> None:
        self.federation = federation
        self.job = job(QUADRATIC, FedAvg(lr=0.1), 3, **settings)
        self.plan = self.job.plan(federation)
        self.bench = Workbench(self.job.task, seed=0, device="cpu", bundle="b" * 64)
        self.events: list[Event] = []

    def run(self, step: str, **inputs: Any) -> Any:
        return run_step(self.job, self.plan.by_id[step], inputs, self.bench, emit=self.events.append)

    def start(self) -> State:
        return self.run("round_000/orchestrator/init", updates=[])["state"]

    def fits(self, round: int, state: State) -> list[Update]:
        return [
            self.run(f"round_00{round}/{silo.name}/fit", data=silo.data, state=state)["update"]
            for silo in self.federation.silos
        ]

    def combine(self, round: int, state: State, updates: Sequence[Update]) -> State:
        return self.run(f"round_00{round}/orchestrator/aggregate", state=state, updates=iter(updates))["state"]


def test_an_update_says_which_step_made_it_from_which_state_under_which_bundle(federation: Federation) -> None:
    walk = Walk(federation)
    state = walk.start()
    for update in walk.fits(1, state):
        assert update.origin is not None
        assert update.origin.to_dict() == {
            "step": f"round_001/{update.silo}/fit",
            "state": state.sha256,
            "bundle": "b" * 64,
        }


Spoil = Callable[[list[Update], list[Update]], list[Update]]
"""(this round's updates, those of the round before) → what arrives."""


def renamed(update: Update, silo: str) -> Update:
    return replace(update, silo=silo)


def changed(update: Update, **changes: Any) -> Update:
    assert update.origin is not None
    return replace(update, origin=replace(update.origin, **changes))


SPOILT: dict[str, tuple[Spoil, str]] = {
    "stale": (
        lambda now, before: [now[0], before[1], now[2]],
        "it was made by round_001/birch/fit, not by round_002/birch/fit: stale or replayed, of another round. "
        "Let birch run round_002/birch/fit again: resume the run",
    ),
    "swapped": (
        lambda now, before: [now[0], renamed(now[0], "birch"), now[2]],
        "it was made by round_002/ash/fit, not by round_002/birch/fit: swapped between silos. "
        "Let birch run round_002/birch/fit again: resume the run",
    ),
    "of another state": (
        lambda now, before: [now[0], changed(now[1], start="0" * 64), now[2]],
        "it was made from the state 000000000000…, and round 2 began with STATE…: the silo trained another model. "
        "Let birch run round_002/birch/fit again: resume the run",
    ),
    "of no state": (
        lambda now, before: [now[0], changed(now[1], start=None), now[2]],
        "it was made from the state none…, and round 2 began with STATE…: the silo trained another model. "
        "Let birch run round_002/birch/fit again: resume the run",
    ),
    "of another bundle": (
        lambda now, before: [now[0], changed(now[1], bundle="c" * 64), now[2]],
        "it was made under the bundle cccccccccccc…, and this run's is bbbbbbbbbbbb…: other code or settings. "
        "Let birch run round_002/birch/fit again: resume the run with this run's bundle",
    ),
}


def second_round(walk: Walk, spoil: Spoil) -> tuple[State, list[Update]]:
    state = walk.start()
    before = walk.fits(1, state)
    state = walk.combine(1, state, before)
    return state, spoil(walk.fits(2, state), before)


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_not_of_the_round_is_refused_in_one_line(federation: Federation, kind: str) -> None:
    spoil, why = SPOILT[kind]
    walk = Walk(federation)
    state, updates = second_round(walk, spoil)
    with pytest.raises(StepFailed) as raised:
        walk.combine(2, state, updates)
    expected = why.replace("STATE", state.sha256[:12])
    assert str(raised.value) == f"orchestrator, round 2, step 'aggregate': the update of birch: {expected}"
    assert raised.value.kind == "MessageError"


@pytest.mark.parametrize("kind", SPOILT)
def test_with_a_quorum_it_is_left_out_and_the_bits_are_those_without_the_silo(
    federation: Federation, kind: str
) -> None:
    spoil, why = SPOILT[kind]
    walk = Walk(federation, min_silos=2)
    state, updates = second_round(walk, spoil)
    after = walk.combine(2, state, updates)
    (told,) = [event for event in walk.events if event.name == SILO_LEFT_OUT]
    assert (told.party, told.round) == ("birch", 2)
    assert told.value == f"update refused: {why.replace('STATE', state.sha256[:12])}"
    assert after.counted == {"ash": 2, "birch": 1, "cedar": 2}
    state, rest = second_round(Walk(federation, min_silos=2), lambda now, before: [now[0], now[2]])
    assert digest(after.params) == digest(walk.combine(2, state, rest).params)


def test_an_update_that_is_delivered_twice_counts_once(federation: Federation) -> None:
    walk = Walk(federation, min_silos=2)
    state, once = second_round(walk, lambda now, before: now)
    expected = walk.combine(2, state, once)
    walk.events.clear()
    found = walk.combine(2, state, [once[0], once[1], once[1], once[2]])
    assert digest(found.params) == digest(expected.params)
    assert SILO_LEFT_OUT not in {event.name for event in walk.events}
    (told,) = [event for event in walk.events if event.name == NOTE]
    assert (told.party, told.value) == ("birch", "birch, round 2: its update was delivered twice; the first one counts")


def test_a_silo_that_has_no_part_in_the_round_is_refused(federation: Federation) -> None:
    walk = Walk(federation)
    state, updates = second_round(walk, lambda now, before: [renamed(now[0], "dogwood")])
    with pytest.raises(StepFailed, match="'dogwood' has no step in round 2"):
        walk.combine(2, state, updates)


def test_figures_after_the_last_round_come_from_the_last_state(federation: Federation) -> None:
    walk = Walk(federation)
    state = walk.start()
    for round in (1, 2, 3):
        state, before = walk.combine(round, state, walk.fits(round, state)), state
    measured = [
        walk.run(f"round_003/{silo.name}/evaluate", data=silo.data, state=before if silo.name == "cedar" else state)
        for silo in federation.silos
    ]
    with pytest.raises(StepFailed, match=r"step 'report': the update of cedar: it was made from the state"):
        walk.run("round_003/orchestrator/report", state=state, updates=[found["update"] for found in measured])


def test_an_update_made_by_hand_counts(federation: Federation) -> None:
    """Within a process nothing has passed a boundary: tests and measurements combine what they made."""
    walk = Walk(federation)
    state, updates = second_round(walk, lambda now, before: now)
    bare = [replace(update, origin=None) for update in updates]
    assert digest(walk.combine(2, state, bare).params) == digest(walk.combine(2, state, updates).params)


def test_the_tensors_of_an_update_are_read_once_by_the_doors(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where silo and orchestrator share a process; a large model's tensors take as long to read as to add up."""
    looked: list[str] = []

    def look(update: Update, *more: Any) -> float:
        looked.append(update.silo)
        return check_update(update, *more)

    monkeypatch.setattr(update_form, "check_update", look)
    walk = Walk(federation)
    state = walk.start()
    updates = walk.fits(1, state)
    assert [update.norm for update in updates] == [check_update(update, update.delta, {}) for update in updates]
    walk.combine(1, state, updates)
    assert looked == ["ash", "birch", "cedar"]


def test_an_update_made_from_another_is_read_anew(federation: Federation) -> None:
    """Whatever changed on its way: the norm that the silo's door found is not believed for other tensors."""
    walk = Walk(federation)
    state = walk.start()
    ash, birch, cedar = walk.fits(1, state)
    spoilt = replace(birch, delta={name: value * float("nan") for name, value in birch.delta.items()})
    assert spoilt.norm is None
    with pytest.raises(StepFailed, match="the update of birch: delta of 'w' is not finite"):
        walk.combine(1, state, [ash, spoilt, cedar])
