"""The same workload as a job of fl-kit, simulated by InProcess."""

from dataclasses import dataclass
from pathlib import Path

from bench.result import Mark, Result
from bench.workloads import Workload
from fl_kit import FedAvg, Federation, Job, Silo, Task
from fl_kit.events import ENGINE
from fl_kit.protocols import Strategy
from sim.in_process import InProcess

TASK = Path(__file__).with_name("task.py")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job and its federation, ready to run."""

    job: Job
    federation: Federation

    def run(self, on: InProcess) -> Result:
        """Run it once, to its end."""
        marks: list[Mark] = self.job.task.module.marks
        marks.clear()
        run = self.job.run(self.federation, on=on).wait()
        history = run.history()
        losses = history[(history["party"] == "global") & (history["metric"] == "loss")]
        return Result(
            marks=tuple(marks),
            loss=float(losses.sort_values("round")["value"].iloc[-1]),
            parameters=tuple(run.state().params.values()),
            said=[str(event.value) for event in run.events() if event.name == ENGINE][-1],
        )


def prepare(workload: Workload, folder: Path, strategy: Strategy | None = None) -> Prepared:
    """The job, and a federation of folders below `folder`: each holds its silo's number, its whole data.

    strategy  FedAvg with the workload's settings by default
    """
    silos = [Silo(name=f"silo-{i:04d}", data=str(folder / f"silo-{i:04d}")) for i in range(workload.silos)]
    for number, silo in enumerate(silos):
        Path(silo.data).mkdir(parents=True, exist_ok=True)
        Path(silo.data, "silo.txt").write_text(f"{number}\n")
    task = task_of(workload)
    fedavg = FedAvg(epochs=workload.epochs, batch_size=workload.batch_size, lr=workload.lr, shuffle=False)
    job = Job(
        task=task,
        strategy=strategy or fedavg,
        rounds=workload.rounds,
        aggregator=task.module.MarkedMean(),
        evaluate_every=workload.evaluate_every,
        device="cpu",
    )
    return Prepared(job=job, federation=Federation(silos=tuple(silos)))


def task_of(workload: Workload) -> Task:
    """bench/task.py with the workload's name bound at its end, so that the source says what runs."""
    return Task(name="bench_task", source=f"{TASK.read_text()}\n\nworkload = named({workload.name!r})\n")
