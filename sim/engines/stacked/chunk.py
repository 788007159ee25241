"""A chunk of silos: what their strategy asks for is gathered, computed together, and handed back to each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fl_kit.batches import TensorRows
from fl_kit.context import StepContext
from fl_kit.execute import Inputs
from fl_kit.job import Job
from fl_kit.local import LocalResult
from fl_kit.messages import Memory
from fl_kit.model_state import ModelState
from fl_kit.protocols import Context, Correction
from fl_kit.tensors import Tensors
from fl_kit.workbench import Workbench
from sim.engines.engine import Ahead
from sim.engines.stacked.evaluation import measured
from sim.engines.stacked.probe import Probe
from sim.engines.stacked.reasons import Unstackable
from sim.engines.stacked.rows import Packed, Schedule, form
from sim.engines.stacked.training import Request, Training, check_requests


class Asked(BaseException):
    """A silo's fit has come to a training whose result is not there yet; it is begun again when it is.

    No Exception, so that no strategy takes it for an error of its own.
    """

    def __init__(self, request: Request) -> None:
        self.request = request


class Facts:
    """What is known of the job's model, by the form of the rows.

    compared   forms whose first gradient was found to be what it is alone
    schedules  of chunks whose silos take their rows in their own order
    """

    def __init__(self) -> None:
        self._probes: dict[Any, Probe] = {}
        self.compared: set[Any] = set()
        self.schedules: dict[Any, Schedule] = {}

    def probe(self, ctx: Context, start: Tensors) -> Probe:
        """The probe for rows such as this silo's; raises Unstackable."""
        rows = ctx.rows("train")
        if not isinstance(rows, TensorRows):
            raise Unstackable(f"the rows of {ctx.step.party} come from a Dataset, batch by batch")
        key = form(rows)
        if key not in self._probes:
            self._probes[key] = Probe.of(ctx, start, rows)
        return self._probes[key]


class Chunk:
    """Silos whose steps are computed together; it is the `Together` of each of their contexts.

    steps  in silo order
    """

    def __init__(
        self, job: Job, bench: Workbench, steps: Sequence[Ahead], facts: Facts, check: Callable[[], None]
    ) -> None:
        self.job, self.bench, self.steps, self.facts, self.check = job, bench, steps, facts, check
        self.results: dict[str, list[tuple[LocalResult, Tensors, Tensors]]] = {step.party: [] for step, _ in steps}
        self._sums: dict[Any, Mapping[str, Tensors] | None] = {}
        self._given = 0

    def begin(self) -> None:
        """Before a step is run: its first request is answered first."""
        self._given = 0

    def train(
        self,
        ctx: Context,
        start: Tensors,
        settings: Any,
        correction: Correction | None,
        memory: Memory | None,
        term: Any,
    ) -> LocalResult:
        """The result that is known of this silo's next training; raises Asked where there is none yet."""
        if (result := self.known(ctx)) is not None:
            return result
        if term is not None:
            term.close()
        raise Asked(Request(ctx=ctx, start=start, settings=settings, correction=correction, has_term=term is not None))

    def known(self, ctx: Context) -> LocalResult | None:
        """The result of the silo's next training, if all have come to it."""
        results = self.results[ctx.step.party]
        if self._given == len(results):
            return None
        result, start, trained = results[self._given]
        self._given += 1
        # few strategies look at the model after training, and loading it for all of them costs as much as a step
        ctx.model = Later(ctx.model, start, trained)  # type: ignore[misc, assignment]  # a property of the protocol
        return result

    def evaluate(self, ctx: Context, params: Tensors, split: str, metrics: Mapping[str, Any]) -> Tensors | None:
        """The silo's sums of a model that all of them measure; None for one of its own."""
        if params is not self.steps[0][1]["state"].params:
            return None
        key = (split, *metrics)
        if key not in self._sums:
            self._sums[key] = None  # if a silo's rows cannot be read, each reads its own
            silos = [(step.party, self.bench.rows(step.party, inputs["data"], split)) for step, inputs in self.steps]
            self._sums[key] = measured(ctx, params, silos, metrics, self.check)
        sums = self._sums[key]
        return None if sums is None else sums[ctx.step.party]

    def compute(self) -> None:
        """Have each silo come to its next training, and train all of them that do; raises Unstackable."""
        requests = [request for step, inputs in self.steps if (request := self._request(step, inputs))]
        check_requests(requests)
        packed = Packed.of([(request.ctx.step.party, request.ctx.rows("train")) for request in requests])
        compare = packed.form not in self.facts.compared
        probe = self.facts.probe(requests[0].ctx, requests[0].start)
        results = Training(requests, packed, probe, self.check, self.facts.schedules, compare=compare).run()
        self.facts.compared.add(packed.form)
        for request, (result, trained) in zip(requests, results, strict=True):
            self.results[request.ctx.step.party].append((result, request.start, trained))

    def _request(self, step: Any, inputs: Inputs) -> Request | None:
        ctx = StepContext(job=self.job, step=step, bench=self.bench, folder=inputs["data"], check=self.check)
        self.begin()
        try:
            self.job.strategy.fit(inputs["state"], inputs.get("memory"), ctx)
        except Asked as asked:
            return asked.request
        return None


class Later:
    """A step's working model that is given what was trained when it is first looked at."""

    def __init__(self, model: ModelState, start: Tensors, trained: Tensors) -> None:
        self._model, self._start, self._trained = model, start, trained

    def __getattr__(self, name: str) -> Any:
        if self._trained:
            self._model.load({**self._start, **self._trained})
            self._model.changed()
            self._trained = {}
        return getattr(self._model, name)
