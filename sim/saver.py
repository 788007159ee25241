"""Saves finished rounds in the background, so that the next round need not wait for the disk."""

import queue
import threading
import time
from collections.abc import Callable

from fl_kit.messages import State
from fl_kit.store import Memories, Store


class Saver:
    """One thread that saves rounds in order; at most one waits, so at most two states are held.

    saved  called with the round and the seconds it took to compute, once it is safely kept
    """

    def __init__(self, store: Store, saved: Callable[[int, float], None]) -> None:
        self._store = store
        self._saved = saved
        self._waiting: queue.Queue[tuple[State, Memories, float] | None] = queue.Queue(maxsize=1)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="fl-kit saver", daemon=True)
        self._thread.start()

    def save(self, state: State, memories: Memories, seconds: float) -> None:
        """Hand over a round; raises what went wrong with an earlier one."""
        self._raise()
        self._waiting.put((state, memories, seconds))

    def settle(self) -> None:
        """Wait until what was handed over is kept; raises what went wrong."""
        self._waiting.join()
        self._raise()

    def close(self) -> None:
        """Wait until every round is kept; raises what went wrong."""
        self._waiting.put(None)
        self._thread.join()
        self._raise()

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            state, memories, seconds = item
            try:
                if self._error is None:
                    self._store.save(state, memories)
                    self._saved(state.round, seconds)
            except Exception as error:  # noqa: BLE001 - handed to the run's own thread by _raise
                self._error = error
            finally:
                self._waiting.task_done()
            del state, memories, item

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def stopwatch() -> Callable[[], float]:
    """A function that says how many seconds have passed."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start
