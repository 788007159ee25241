"""Gate: whether a run may go on, asked before each of its steps."""

import threading
from collections.abc import Callable


class Gate:
    """Lets a run work freely, up to the end of a round, or not before somebody says so.

    The run's own thread calls `enter`; any thread may call the rest.

    round     the newest round that was entered
    resting   whether the run waits here
    quiet     set while it rests or has ended: there is nothing to wait for
    finished  whether the run found no step left: what is to follow needs another start
    lock      held while the run enters a round, and by whoever changes what is to come
    """

    def __init__(self, *, paused: bool = False, round: int = -1) -> None:
        self.lock = threading.RLock()
        self.quiet = threading.Event()
        self.round = round
        self.resting = False
        self.finished = False
        self._moved = threading.Condition(self.lock)
        self._paused = paused
        self._until: int | None = None
        self._wanted = round
        self._leaving = False

    @property
    def until(self) -> int | None:
        """The last round that may be worked on; None if nothing holds the run back."""
        return self.round if self._paused else self._until

    def pause(self) -> None:
        """Let the run rest before its next step."""
        with self.lock:
            self._paused = True

    def open(self) -> None:
        """Let the run work freely."""
        self._go(None)

    def up_to(self, round: int | None) -> None:
        """Let the run work up to the end of a round and rest then; None: of the one that it is in, or that is next."""
        with self.lock:
            own = self._wanted if self.resting else self.round
            self._go(max(own, 1) if round is None else round)

    def again(self, round: int) -> None:
        """Be ready for a run that begins again after a round."""
        with self.lock:
            self.round, self.finished = round, False
            self.quiet.clear()

    def end(self) -> None:
        """The run has ended: there is nothing to wait for."""
        with self.lock:
            self.resting = False
            self.quiet.set()

    def enter(self, round: int, resting: Callable[[], None]) -> bool:
        """Return when a step of that round may begin; `resting` is called before the run rests.

        Gives whether it rested, and goes on now.
        """
        with self.lock:
            closed = self._closed(round)
        if closed:
            resting()
        with self.lock:
            if self._closed(round):
                self.resting, self._wanted = True, round
                self.quiet.set()
                self._moved.wait_for(lambda: self._leaving or not self._closed(round))
                self.resting = False
            if not self._leaving:
                self.round = max(self.round, round)
            return closed and not self._leaving

    def leave(self) -> None:
        """Let a run that rests go, so that it can end."""
        with self.lock:
            self._leaving = True
            if self.resting:
                self.resting = False
                self.quiet.clear()
            self._moved.notify_all()

    def _go(self, until: int | None) -> None:
        with self.lock:
            self._paused, self._until, self._leaving = False, until, False
            self.resting = False
            self.quiet.clear()
            self._moved.notify_all()

    def _closed(self, round: int) -> bool:
        return not self._leaving and (self._paused or (self._until is not None and round > self._until))
