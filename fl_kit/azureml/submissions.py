"""A run's submissions: it may be sent in chunks, and sent again from where it stopped. Each is one pipeline job."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_kit import audit
from fl_kit.approvals import PACKED
from fl_kit.azureml.layout import Layout
from fl_kit.azureml.nodes import BUNDLE, Terms
from fl_kit.azureml.phases import Phase, phases
from fl_kit.azureml.pipeline import compile_pipeline
from fl_kit.azureml.submit import submit
from fl_kit.azureml.workspace import Workspace
from fl_kit.bundle import bytes_digest, verify, write_bundle
from fl_kit.errors import StoreError
from fl_kit.job import Job
from fl_kit.plan import Plan, step_id
from fl_kit.silo import Federation
from fl_kit.store import FolderStore

RUN, PHASES, ATTEMPT, RESUMED, TIME = "fl_kit.run", "fl_kit.phases", "fl_kit.attempt", "fl_kit.resumed", "fl_kit.time"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One pipeline job of a run.

    number   1 for the first
    job      the pipeline job's name
    first    the first of its phases
    last     the phase after its last one
    attempt  0, or its number if its phases were submitted before; part of the paths of what it makes
    resumed  whether the one before it did not come to its end
    time     when it was submitted, in seconds since the epoch
    """

    number: int
    job: str
    first: int
    last: int
    attempt: int = 0
    resumed: bool = False
    time: float = 0.0

    def tags(self, run_id: str) -> dict[str, str]:
        """What is written on the job, so that the run can be found again by its id alone."""
        return {
            RUN: run_id,
            PHASES: f"{self.first}-{self.last}",
            ATTEMPT: str(self.attempt),
            RESUMED: str(int(self.resumed)),
            TIME: f"{self.time:.3f}",
        }

    @classmethod
    def of_job(cls, number: int, job: Any) -> "Submission":
        """The submission that a job's tags describe; raises StoreError for a job that fl-kit did not make."""
        tags = job.tags or {}
        try:
            first, last = (int(text) for text in tags[PHASES].split("-"))
            return cls(
                number=number,
                job=str(job.name),
                first=first,
                last=last,
                attempt=int(tags[ATTEMPT]),
                resumed=tags[RESUMED] == "1",
                time=float(tags[TIME]),
            )
        except (KeyError, ValueError) as error:
            raise StoreError(f"job {job.name} is no run of fl-kit: its tags are {tags}") from error


def job_name(run_id: str, number: int) -> str:
    """The first job of a run has the run's own id as its name."""
    return run_id if number == 1 else f"{run_id}-{number}"


class Submissions:
    """What was submitted of a run, and the means to submit more of it.

    store  the run's folder on this machine: what was asked for, and each round's state once it was brought here
    """

    def __init__(self, workspace: Workspace, run_id: str, store: FolderStore, experiment: str) -> None:
        self.workspace = workspace
        self.run_id = run_id
        self.store = store
        self.experiment = experiment
        self.job = store.job()
        self.plan: Plan = store.plan()
        self.federation: Federation = store.federation()
        self.settings = store.environment()
        self.phases: Sequence[Phase] = phases(self.plan)
        self.made: list[Submission] = []
        self.early: int | None = None
        """The last round, if the run has stopped early."""

    def find(self) -> "Submissions":
        """Itself, with all that the workspace knows of the run."""
        self.made = []
        while (job := self.workspace.job(job_name(self.run_id, len(self.made) + 1))) is not None:
            self.made.append(Submission.of_job(len(self.made) + 1, job))
        return self

    def submit(self, first: int, *, resumed: bool = False) -> Submission:
        """Submit from a phase on: all that follows, or as many rounds as one pipeline shall have.

        What another kernel that follows the run has submitted in the meantime is taken as it is.
        """
        number = len(self.made) + 1
        if number > 1 and (job := self.workspace.job(job_name(self.run_id, number))) is not None:
            self.made.append(Submission.of_job(number, job))
            return self.made[-1]
        again = any(first < earlier.last for earlier in self.made)
        submission = Submission(
            number=number,
            job=job_name(self.run_id, number),
            first=first,
            last=self._last(first),
            attempt=number if again else 0,
            resumed=resumed,
            time=round(time.time(), 3),
        )
        terms = self._terms()
        pipeline = compile_pipeline(
            terms,
            self.layout(submission),
            first=submission.first,
            last=submission.last,
            earlier=self.place,
            name=submission.job,
            experiment=self.experiment,
            tags=submission.tags(self.run_id),
        )
        event = audit.RESUMED if resumed else audit.SUBMITTED if number == 1 else audit.CONTINUED
        audit.record_run_event(self.store.folder, event, digest=terms.digest, silos=self.federation.names)
        submit(self.workspace.client, pipeline, self.store.folder / "azureml" / submission.job)
        self.made.append(submission)
        return submission

    def after(self, done: int, early: int | None) -> int:
        """The phase that follows one: of a run that has stopped early, the next that makes no state."""
        rest = range(done + 1, len(self.phases))
        if early is None:
            return done + 1
        return next((i for i in rest if "state" not in self.phases[i].steps[-1].outputs), len(self.phases))

    def layout(self, submission: Submission) -> Layout:
        """Where a submission's outputs are."""
        return Layout(self.run_id, self.plan, self.federation, submission.attempt)

    def place(self, source: str) -> str:
        """The folder of an output, as the last submission that was to make it has it.

        After the last round of a run that has stopped early, that round's outputs stand for those of all later ones.
        """
        step, _, output = source.partition(":")
        found = self.plan.by_id[step]
        if self.early is not None and found.round > self.early:
            source = f"{step_id(self.early, found.party, found.op)}:{output}"
        return self.places(source)[0]

    def places(self, source: str) -> list[str]:
        """Every folder in which an output may be, the newest first."""
        step = source.partition(":")[0]
        index = next(i for i, phase in enumerate(self.phases) if step in phase.nodes)
        makers = [made for made in reversed(self.made) if made.first <= index < made.last]
        return [self.layout(made).source(source) for made in makers]

    def _last(self, first: int) -> int:
        """The phase after a pipeline's last one; what follows the last round goes along with it."""
        limit = self.settings.get("rounds_per_pipeline")
        end = max(self.phases[first].round, 1) + int(limit) - 1 if limit else self.plan.rounds
        return sum(phase.round <= end for phase in self.phases)

    def _terms(self) -> Terms:
        code = self.store.folder / "code"
        there = (code / BUNDLE).exists()
        bundle = verify(code / BUNDLE) if there else write_bundle(self.job, self.plan, code / BUNDLE, packed=True)
        return Terms(
            job=self.job,
            federation=self.federation,
            code=str(code.resolve()),
            digest=bundle.digest,
            limit=step_limit(self.job, int(self.settings.get("margin", self.settings.get("grace", 60)))),
            threads=int(self.settings["threads"]),
            approvals=beside_bundle(self.store.folder / PACKED, code),
        )


def beside_bundle(kept: Path, code: Path) -> str:
    """The name under which a run's approvals lie beside the bundle, which follows from them; empty for none."""
    for earlier in code.glob("approvals-*.json"):
        earlier.unlink()
    if not kept.exists():
        return ""
    data = kept.read_bytes()
    name = f"approvals-{bytes_digest(data)[:16]}.json"
    (code / name).write_bytes(data)
    return name


def step_limit(job: Job, margin: int) -> int | None:
    """Seconds for every attempt that the job's deadline and grace allow, and the margin to start and to end."""
    return None if job.patience is None else math.ceil(job.patience * (job.retries + 1)) + margin
