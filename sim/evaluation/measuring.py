"""A trained model measured on each silo's test rows. Simulation only."""

from collections.abc import Iterable, Mapping

from fl_kit.errors import DataError
from fl_kit.execute import run_step
from fl_kit.job import Job
from fl_kit.messages import Memory, State, Update
from fl_kit.metrics import ratio
from fl_kit.plan import Step
from fl_kit.silo import Federation
from fl_kit.tensors import Tensors
from fl_kit.workbench import Workbench


class Measuring:
    """Measures states of a job, each silo's rows being read once."""

    def __init__(self, job: Job, federation: Federation) -> None:
        self.job = job
        self.federation = federation
        self.bench = Workbench(job.task, seed=job.seed, device=job.device)

    def on_each(self, state: State, memories: Mapping[str, Memory] | None = None) -> dict[str, Tensors]:
        """Silo → the sums of loss and of each metric of the state on that silo's test rows.

        memories  the silos' private memories, for a strategy whose silos use models of their own
        """
        return {silo: self._on(silo, state, (memories or {}).get(silo)) for silo in self.federation.names}

    def value(self, metric: str, state: State, memories: Mapping[str, Memory] | None = None) -> float:
        """The metric of the state on the test rows of all silos together."""
        return value_of(self.job, metric, self.on_each(state, memories).values())

    def _on(self, silo: str, state: State, memory: Memory | None) -> Tensors:
        step = Step(op="evaluate", party=silo, round=state.round, inputs={}, outputs={"update": "shared"})
        inputs = {"data": self.federation[silo].data, "state": state, "memory": memory}
        update = run_step(self.job, step, inputs, self.bench)["update"]
        assert isinstance(update, Update)
        return update.metrics


def value_of(job: Job, metric: str, sums: Iterable[Tensors]) -> float:
    """The value of a metric from the sums of some silos together."""
    found = [one[metric] for one in sums if metric in one]
    if not found:
        raise DataError(f"no silo gave a figure for {metric!r}")
    total = sum(found[1:], start=found[0])
    known = job.task.metrics.get(metric)
    return float(known.value(total) if known else ratio(total))


def chosen_metric(job: Job, metric: str | None) -> str:
    """The metric asked for, by default the task's first, or the loss; raises DataError for one it has not."""
    metric = metric or next(iter(job.task.metrics), "loss")
    if metric != "loss" and metric not in job.task.metrics:
        raise DataError(f"the task has no metric {metric!r}; it has {', '.join(['loss', *job.task.metrics])}")
    return metric
