import threading
import time
from collections.abc import Mapping

import pytest
import torch

from fl_kit.errors import StoreError
from fl_kit.memory_store import MemoryStore
from fl_kit.messages import Memory, State
from sim.saver import Saver, stopwatch


class Held(MemoryStore):
    """A store whose disk does nothing until it is let go, and fails at one round."""

    def __init__(self, *, fails_at: int = -1) -> None:
        super().__init__(keep="all")
        self.go = threading.Event()
        self.fails_at = fails_at

    def save(self, state: State, memories: Mapping[str, Memory]) -> None:
        assert self.go.wait(10)
        if state.round == self.fails_at:
            raise StoreError(f"no room for round {state.round}")
        super().save(state, memories)


def state(round: int) -> State:
    return State(round=round, params={"w": torch.full((1,), float(round))})


def test_rounds_are_kept_in_order_and_told_once_they_are_kept():
    told = []
    store = Held()
    saver = Saver(store, lambda round, seconds: told.append((round, seconds, store.last_round())))
    store.go.set()
    for round in range(5):
        saver.save(state(round), {}, seconds=round / 10)
    saver.close()
    assert told == [(0, 0.0, 0), (1, 0.1, 1), (2, 0.2, 2), (3, 0.3, 3), (4, 0.4, 4)]


def test_the_next_round_need_not_wait_for_the_disk_but_the_one_after_that_does():
    """At most two rounds are held: one being written, one waiting."""
    store, handed = Held(), []
    saver = Saver(store, lambda round, seconds: None)

    def hand_over() -> None:
        for round in range(4):
            saver.save(state(round), {}, 0.0)
            handed.append(round)

    thread = threading.Thread(target=hand_over)
    thread.start()
    time.sleep(0.2)
    assert handed == [0, 1]
    assert store.last_round() is None
    store.go.set()
    thread.join(10)
    saver.close()
    assert store.last_round() == 3


def test_what_went_wrong_is_raised_in_the_run_and_nothing_after_it_is_kept():
    store, told = Held(fails_at=1), []
    saver = Saver(store, lambda round, seconds: told.append(round))
    store.go.set()

    def hand_over() -> None:
        for round in range(50):
            saver.save(state(round), {}, 0.0)
            time.sleep(0.001)

    with pytest.raises(StoreError, match="no room for round 1"):
        hand_over()
    with pytest.raises(StoreError, match="no room for round 1"):
        saver.close()
    assert told == [0]
    assert store.last_round() == 0


def test_an_error_of_the_last_round_is_raised_by_close():
    store = Held(fails_at=0)
    saver = Saver(store, lambda round, seconds: None)
    saver.save(state(0), {}, 0.0)
    store.go.set()
    with pytest.raises(StoreError, match="no room for round 0"):
        saver.close()


def test_a_stopwatch_counts_seconds():
    seconds = stopwatch()
    time.sleep(0.02)
    assert 0.02 <= seconds() < 5
