"""A run that is kept in memory only."""

from fl_kit.errors import StoreError
from fl_kit.events import EventLog
from fl_kit.messages import Memory, State
from fl_kit.retention import Keep, oldest_kept
from fl_kit.store import Memories


class MemoryStore:
    """Keeps a run in memory only: the last state, unless `keep` asks for more."""

    def __init__(self, *, keep: Keep = "last") -> None:
        self.events = EventLog()
        self.keep = keep
        self._states: dict[int, State] = {}
        self._memories: dict[int, dict[str, Memory]] = {}

    def save(self, state: State, memories: Memories) -> None:
        self._states[state.round] = state
        self._memories[state.round] = dict(memories)
        oldest = oldest_kept(self._states, self.keep)
        for round in [round for round in self._states if round < oldest]:
            del self._states[round], self._memories[round]

    def state(self, round: int) -> State:
        if round not in self._states:
            raise StoreError(
                f"the state of round {round} was not kept in memory; run with a folder, or with keep='all'"
            )
        return self._states[round]

    def memories(self, round: int) -> dict[str, Memory]:
        return dict(self._memories[round])

    def last_round(self) -> int | None:
        return max(self._states, default=None)

    def hold(self) -> None:
        """Nobody else has it."""

    def release(self) -> None:
        """Nobody else has it."""
