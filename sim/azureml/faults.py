"""Faults to order: what a real workspace does to a run now and then, done to the local one on purpose.

    ws.faults.preempted("fit_hungarian*", after=0.5)
    ws.faults.compute_down("silo-budapest", times=2)

A pattern (`*`, `?`) is held against a step's node name (`fit_hungarian`), its path in the pipeline
(`round_003/fit_hungarian`), and the name of its compute. `times` is how often the fault strikes; the default is
once, and 0 means always. What befalls a silo's own step or its update, in whatever backend, is in `sim.faults`:
`LocalWorkspace.disturb`.
"""

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sim.azureml.silo_faults import SiloFaults, StruckStep

Kind = Literal["compute down", "slow start", "preempted", "step lost", "datastore refused", "metrics down", "timeout"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong: what, for which steps, how often (0 is always), and a time in seconds."""

    kind: Kind
    pattern: str
    times: int
    seconds: float


class Faults:
    """What is to go wrong in a workspace; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: list[tuple[Fault, int]] = []
        self.of_silos: SiloFaults | None = None

    def strike_silo(self, command: str) -> "StruckStep | None":
        """What befalls the silo's step of that command now, counted; None if nothing does."""
        return self.of_silos.strike(command) if self.of_silos else None

    def compute_down(self, pattern: str = "*", *, times: int = 1) -> None:
        """The step fails before it starts: its compute does not answer."""
        self._add("compute down", pattern, times)

    def slow_start(self, pattern: str = "*", *, seconds: float, times: int = 1) -> None:
        """The step waits in the queue for some seconds, as for a machine that must be started first."""
        self._add("slow start", pattern, times, seconds)

    def preempted(self, pattern: str = "*", *, after: float = 0.0, times: int = 1) -> None:
        """The step is killed `after` some seconds of running, queued again, and started afresh, as on spot machines."""
        self._add("preempted", pattern, times, after)

    def step_lost(self, pattern: str = "*", *, after: float = 0.0, times: int = 1) -> None:
        """The step's machine vanishes: no more word from it, then Failed."""
        self._add("step lost", pattern, times, after)

    def datastore_refused(self, pattern: str = "*", *, times: int = 1) -> None:
        """The step's inputs cannot be mounted: its identity may not read the datastore."""
        self._add("datastore refused", pattern, times)

    def metrics_down(self, *, times: int = 0) -> None:
        """The MLflow interface answers 503 to so many calls, or until `clear`."""
        self._add("metrics down", "*", times)

    def clear(self) -> None:
        """Nothing more goes wrong."""
        with self._lock:
            self._left.clear()
        self.of_silos = None

    def strikes(self, kind: Kind, *names: str) -> Fault | None:
        """The fault of that kind that strikes whoever has one of these names now, counted; None if there is none."""
        with self._lock:
            for place, (fault, left) in enumerate(self._left):
                if fault.kind == kind and any(fnmatchcase(name, fault.pattern) for name in names or ("",)):
                    if left == 1:
                        del self._left[place]
                    elif left > 1:
                        self._left[place] = (fault, left - 1)
                    return fault
        return None

    def _add(self, kind: Kind, pattern: str, times: int, seconds: float = 0.0) -> None:
        if times < 0 or seconds < 0:
            raise ValueError("a fault strikes 0 (always) or more times, after 0 or more seconds")
        fault = Fault(kind=kind, pattern=pattern, times=times, seconds=seconds)
        with self._lock:
            self._left.append((fault, times))
