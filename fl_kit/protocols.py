"""Every interface of fl-kit on one page; read this file first.

A **Strategy** is an algorithm: its silo half (`fit`) and its orchestrator half (`init`, `aggregate`). It says
in a plan which steps it needs. A **Backend** is a place where a plan runs. Both meet in the plan and in
`execute.run_step`, and know nothing else of one another. An **Aggregator** combines updates, a **Transform**
changes them on their way, and a **Run** is the same thing wherever it runs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import nn

from fl_kit.batches import Rows
from fl_kit.events import Event
from fl_kit.messages import Groups, Memory, State, Update
from fl_kit.model_state import ModelState
from fl_kit.participation import Participants
from fl_kit.plan import Plan, Step
from fl_kit.silo import Federation
from fl_kit.task import Task
from fl_kit.tensors import Tensors

if TYPE_CHECKING:
    import pandas as pd


class Context(Protocol):
    """What one step may use: its task, its party's rows, the model, and nothing of other parties.

    loss          the task's loss, for training on the device
    measure_loss  the same for evaluation, in float64 where it is one of torch's own
    together      what trains and measures in the step's place, where several silos do so at once; None elsewhere
    """

    step: Step
    seed: int
    task: Task
    device: torch.device

    loss: Callable[[Any, torch.Tensor], torch.Tensor]
    measure_loss: Callable[[Any, torch.Tensor], torch.Tensor]
    together: "Together | None"

    @property
    def model(self) -> ModelState:
        """The working model; load a state into it before use."""

    def rows(self, split: str) -> Rows:
        """The party's own rows: "train" or "test"."""

    def evaluate(self, params: Tensors) -> Tensors:
        """The sums of loss and metrics of these parameters on the party's test rows."""

    def combine(self, updates: Iterable[Update]) -> Update:
        """The job's aggregator over updates in silo order, then its transforms in reverse."""

    def check(self) -> None:
        """Raise Stopped if the run was asked to stop; called once a batch."""


class Together(Protocol):
    """Trains and measures for several silos at once: `fl_kit.local` asks it before it does so for one.

    A strategy's `fit` must then be free to be begun more than once: it is a function of what it is given.
    """

    def train(
        self,
        ctx: Context,
        start: Tensors,
        settings: Any,
        correction: "Correction | None",
        memory: Memory | None,
        term: Any,
    ) -> Any:
        """What `fl_kit.local.train` gives for the same; the model then holds what was trained."""

    def known(self, ctx: Context) -> Any:
        """What the training that comes next gives, where that is known: nothing that leads to it need be made then."""

    def evaluate(self, ctx: Context, params: Tensors, split: str, metrics: Mapping[str, Any]) -> Tensors | None:
        """What `fl_kit.local.evaluate` gives for the same; None where it has to be measured for this silo alone."""


class Strategy(Protocol):
    """A federated algorithm, both halves in one frozen dataclass.

    corrects_gradients    whether it changes the silo's gradients, or counts them, which a task's own `fit` would ignore
    inspects_individuals  whether `aggregate` changes single updates, which a transform may hide
    needs_mean            whether its equations need exact means Σ weight·value / Σ weight
    personal              whether figures come a second time, as personal_<metric>: of a model beside the global one
    """

    corrects_gradients: ClassVar[bool]
    inspects_individuals: ClassVar[bool]
    needs_mean: ClassVar[bool]
    personal: ClassVar[bool]

    def plan(
        self, federation: Federation, rounds: int, *, measure: bool, participants: Participants | None = None
    ) -> Plan:
        """Every step of every party; `measure` adds the sums that Standardize needs.

        participants  round → the silos that train in it, where the job draws some; None means all of them.
                      `strategies.rounds.rounds_plan` gives the usual plan for both
        """

    def init(self, params: Tensors, ctx: Context) -> State:
        """At the orchestrator: state 0 from the model's first parameters."""

    def fit(self, state: State, memory: Memory | None, ctx: Context) -> tuple[Update, Memory | None]:
        """In a silo: train from the state; gives what is sent and what is kept."""

    def aggregate(self, state: State, updates: Iterable[Update], ctx: Context) -> State:
        """At the orchestrator: the next state. `updates` come one by one, in silo order; read them once."""

    def evaluate(self, state: State, memory: Memory | None, ctx: Context) -> Tensors:
        """In a silo: the sums of each metric for the model that this silo would use."""

    def check_model(self, make: Callable[[], nn.Module]) -> None:
        """Raise IncompatibleError for a model that the strategy cannot do with; `make` gives one to look at."""

    def private(self, module: nn.Module) -> frozenset[str]:
        """The names of the parameters and buffers that never leave a silo; the same at every call."""

    def extra_groups(self, trainable: Tensors) -> Groups:
        """The groups that an update has beside `delta` and the buffers: group → tensors like those in it.

        trainable  the model's trainable parameters that are shared

        Only names, shapes and dtypes count; the orchestrator refuses an update of any other form.
        """


class Aggregator(Protocol):
    """Combines updates into one.

    inspects_individuals  whether it compares single updates, which a secure sum would hide
    is_mean               whether it gives Σ weight·value / Σ weight and nothing else, by rows or every silo alike
    """

    inspects_individuals: ClassVar[bool]
    is_mean: ClassVar[bool]

    def check(self, silos: Sequence[str], *, drawn: int, least: int) -> None:
        """Raise IncompatibleError for a federation that it cannot do with.

        drawn  how many of the silos take part in a round      least  how many of those must deliver
        """

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        """The combined delta and extra; `weight` is the sum of the weights."""


class Transform(Protocol):
    """Changes updates on their way: in the silo in order, at the orchestrator in reverse order.

    hides_individuals  whether the orchestrator can no longer read a single update
    """

    hides_individuals: ClassVar[bool]

    def on_silo(self, update: Update, ctx: Context) -> Update:
        """In the silo, before the update leaves."""

    def on_orchestrator(self, update: Update, ctx: Context) -> Update:
        """At the orchestrator, on the combined update."""


class StopRule(Protocol):
    """Says when a job has learnt enough, from the federation's values of one metric.

    metric  which
    """

    @property
    def metric(self) -> str: ...

    def why(self, values: Sequence[float], sign: float) -> str:
        """Why to stop after these values, one a measured round, in words; empty to go on.

        sign  1 where a higher value is better, −1 where a lower one is
        """


@runtime_checkable
class Run(Protocol):
    """A run, the same in every backend.

    id        unique; folders and MLflow runs carry it
    status    "running", "paused", "completed", "stopped" or "failed"
    failures  one entry for each failed attempt of a step, as a table
    """

    id: str

    @property
    def status(self) -> str: ...

    @property
    def failures(self) -> "pd.DataFrame": ...

    def events(self, after: int = 0) -> list[Event]:
        """Events from position `after` on."""

    def wait(self, timeout: float | None = None) -> "Run":
        """Itself when it has ended, or after `timeout` seconds; raises what made the run fail."""

    def stop(self) -> None:
        """Ask it to stop at the next batch; completed rounds stay usable."""

    def history(self) -> "pd.DataFrame":
        """One row per round, party and metric: columns round, party, metric, value."""

    def state(self, round: int = -1) -> State:
        """The state after a round; −1 is the last one."""


class Backend(Protocol):
    """A place where a job's plan runs."""

    def start(self, job: Any, federation: Federation, *, paused: bool = False) -> Run:
        """Start a run and give it at once; a paused one rests before its first step."""

    def resume(self, run_id: str) -> Run:
        """Go on with an unfinished run; the bits are those of an undisturbed one."""


Emit = Callable[[Event], None]
Correction = Callable[[list[torch.Tensor], list[torch.Tensor]], None]
"""Changes gradients in place, given (gradients, parameters) in the same order."""
