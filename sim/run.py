"""A simulated run: a thread that walks the plan, and the handle that a notebook holds."""

import atexit
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

import torch

from fl_kit.audit import CHANGED, RESUMED, SUBMITTED, record_run_event
from fl_kit.errors import FlKitError, Stopped
from fl_kit.events import (
    ENGINE,
    RUN_CHANGED,
    RUN_COMPLETED,
    RUN_FAILED,
    RUN_RESUMED,
    RUN_STARTED,
    RUN_STOPPED,
    Event,
    now,
)
from fl_kit.legs import Leg, keep
from fl_kit.messages import Memory, State, Update
from fl_kit.plan import ORCHESTRATOR, step_id
from fl_kit.policy import policy_files
from fl_kit.run_handle import RunHandle, unexpected
from fl_kit.silo import Federation
from fl_kit.store import FolderStore, Store
from fl_kit.tensors import Tensors
from sim.allocator import warm_allocator
from sim.engines.engine import Ahead, Engine, Runner
from sim.kept_updates import KeptUpdates
from sim.walk import Walk

_running: "weakref.WeakSet[SimulatedRun]" = weakref.WeakSet()


class SimulatedRun(RunHandle):
    """A run of a simulation; see `fl_kit.protocols.Run`.

    folder   the run folder, or None if it is kept in memory only

    >>> run = job.run(federation, on=InProcess(folder=None)).wait()
    >>> run.state().round
    3
    """

    def __init__(
        self,
        *,
        run_id: str,
        legs: list[Leg],
        federation: Federation,
        store: Store,
        runner: Callable[[Leg], Runner],
        threads: int,
        kept: KeptUpdates,
        undo: "Callable[[str, int], SimulatedRun]",
        engine: Engine | None = None,
    ) -> None:
        super().__init__(run_id=run_id, legs=legs, federation=federation)
        self.folder = store.folder if isinstance(store, FolderStore) else None
        self._store = store
        self._threads = threads
        self._kept = kept
        self._undo = undo
        self._engine = engine
        self._walk = Walk(
            legs=legs,
            federation=federation,
            store=store,
            runner=runner,
            ahead=self._ahead,
            emit=store.events.append,
            check=self._check,
            gate=self._gate,
            rests=self._rests,
            goes_on=self._goes_on,
        )

    def start(self, *, resumed: bool = False, paused: bool = False) -> "SimulatedRun":
        """Start computing, unless the run was completed before; gives itself at once.

        Raises RunLocked if another kernel goes on with it.
        """
        if not self._completed:
            self._store.hold()
        if self._completed:  # if only just now, by the kernel that held it
            self._store.release()
            self._status = "completed"
            self._has_ended()
            return self
        if self.folder is not None:
            event, leg = RESUMED if resumed else SUBMITTED, self._legs[-1]
            try:
                record_run_event(self.folder, event, digest=leg.digest, silos=leg.silos)
            except FlKitError:
                self._store.release()
                raise
        if paused:
            self._gate.pause()
        self._tell(RUN_RESUMED if resumed else RUN_STARTED, self._announcement())
        if self._engine is not None:
            self._tell(ENGINE, self._engine.words)
        self._begin()
        return self

    def undo(self, to_round: int) -> "SimulatedRun":
        """A new run that goes on from an earlier round of this one, which stays as it is; it rests at first.

        Changes that held only for later rounds are undone too. Raises StoreError for a round that was not kept.
        """
        return self._undo(self.id, to_round)

    @property
    def _completed(self) -> bool:
        return any(event.name == RUN_COMPLETED for event in self._store.events.read()[-1:])

    @property
    def rounds_done(self) -> int:
        """The last round whose state is kept; 0 before the first."""
        return self._store.last_round() or 0

    def events(self, after: int = 0) -> list[Event]:
        """Events from position `after` on."""
        return self._store.events.read(after)

    def stop(self) -> None:
        """Ask the run to stop at its next batch; completed rounds stay usable, and it can be resumed."""
        self._stop.set()
        self._gate.leave()

    def state(self, round: int = -1) -> State:
        """The state after a round; −1 is the last one. Raises StoreError if it was not kept."""
        newest = self._walk.state
        if newest is not None and round in (-1, newest.round):
            return newest
        if round == -1:
            round = self.rounds_done
        return self._store.state(round)

    def updates(self, round: int) -> Iterator[Update]:
        """The updates that counted in a round, in silo order; raises StoreError if they were not kept."""
        counted = self.state(round).counted
        for silo in sorted(silo for silo, last in counted.items() if last == round):
            yield self._kept.get(self.plan.by_id[step_id(round, silo, "fit")])

    def memories(self, round: int = -1) -> dict[str, Memory]:
        """What each silo keeps for itself after a round, where the strategy has it keep anything."""
        return self._store.memories(self.rounds_done if round == -1 else round)

    def personal(self, silo: str) -> Tensors:
        """The parameters that a silo uses after the last round: the global ones, with what it keeps for itself."""
        start = getattr(self.job.strategy, "start", None)
        state = self.state()
        return state.params if start is None else dict(start(state, self.memories().get(silo)))

    def _ahead(self, steps: Sequence[Ahead], check: Callable[[], None]) -> None:
        # a silo with a policy of its own is asked step by step: nothing touches its rows before it has said yes
        if self._engine is None or not self._engine.works_ahead:
            return
        if not any(policy_files(str(inputs.get("data", ""))) for _, inputs in steps):
            self._engine.ahead(steps, check)

    @property
    def kept_in(self) -> str:
        """The run folder, or the memory."""
        kept = f"kept in {self.folder}" if self.folder else "kept in memory"
        return f"{kept}; {self._engine.words}" if self._engine else kept

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped(f"run {self.id} was stopped after round {self.rounds_done}")

    def _begin(self) -> None:
        _running.add(self)
        threading.Thread(target=self._work, name=f"fl-kit run {self.id}", daemon=True).start()

    def _hold(self) -> None:
        self._store.hold()

    def _keep_leg(self, number: int, leg: Leg) -> None:
        still = self._is_still()
        if still:
            self._ended.wait()
            self._store.hold()
        try:
            self._write_leg(number, leg)
        finally:
            if still:
                self._store.release()

    def _write_leg(self, number: int, leg: Leg) -> None:
        if self.folder is not None:
            record_run_event(self.folder, CHANGED, digest=leg.digest, silos=leg.silos)
            keep(self.folder, number, leg)
        self._tell(RUN_CHANGED, leg.announcement(self.federation))
        self._store.events.flush()

    def _work(self) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with warm_allocator():
                self._walk.run()
            self._end("completed", RUN_COMPLETED, None)
        except Stopped:
            self._end("stopped", RUN_STOPPED, None)
        except BaseException as error:  # noqa: BLE001 - raised again in whoever waits for the run
            self._error = error if isinstance(error, FlKitError) else unexpected(f"run {self.id} failed", error)
            self._end("failed", RUN_FAILED, str(self._error))
        finally:
            if self._engine is not None:
                self._engine.close()
            torch.set_num_threads(before)
            self._store.release()
            self._has_ended()

    def _end(self, status: str, event: str, value: str | None) -> None:
        self._tell(event, value)
        try:
            self._store.events.flush()
        except FlKitError as error:
            self._error = self._error or error
            status = "failed"
        self._status = status

    def _tell(self, name: str, value: dict[str, object] | str | None) -> None:
        round = self.rounds_done
        self._store.events.append(Event(time=now(), round=round, party=ORCHESTRATOR, name=name, value=value))


@atexit.register
def stop_all() -> None:
    """Let runs that nobody waited for end at a batch before the interpreter goes."""
    for run in list(_running):
        run.stop()
    for run in list(_running):
        run._ended.wait(timeout=10)
