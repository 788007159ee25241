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
from fl_kit.azureml.submission import Submission, job_name
from fl_kit.azureml.submit import submit
from fl_kit.azureml.workspace import Workspace
from fl_kit.branching import ORIGIN
from fl_kit.bundle import bytes_digest, verify, write_bundle
from fl_kit.errors import StoreError
from fl_kit.job import Job
from fl_kit.legs import Leg, keep, part_of
from fl_kit.plan import Plan, step_id
from fl_kit.run_lock import RunLock
from fl_kit.silo import Federation
from fl_kit.store import FolderStore

SENDING = 600.0
"""Seconds that another kernel may take to submit a pipeline of the same run."""


@dataclass(frozen=True)
class Origin:
    """Where a run branched off: what was made up to that round lies where the other run's submissions put it."""

    submissions: "Submissions"
    round: int


class Submissions:
    """What was submitted of a run, and the means to submit more of it.

    store  the run's folder on this machine: what was asked for, and each round's state once it was brought here
    """

    def __init__(self, workspace: Workspace, run_id: str, store: FolderStore, experiment: str) -> None:
        self.workspace = workspace
        self.run_id = run_id
        self.store = store
        self.experiment = experiment
        self.legs = store.legs()
        self.federation: Federation = store.federation()
        self.settings = store.environment()
        origin = self.settings.get(ORIGIN)
        self.origin = None if origin is None else Origin(self._beside(str(origin["run"])), int(origin["round"]))
        self.made: list[Submission] = []
        self._phases: dict[int, Sequence[Phase]] = {}
        self.early: int | None = None
        """The last round, if the run has stopped early."""

    def _beside(self, run_id: str) -> "Submissions":
        """Those of another run, whose folder is beside this one's."""
        store = FolderStore.open(self.store.folder.parent, run_id)
        return Submissions(self.workspace, run_id, store, self.experiment).find()

    @property
    def job(self) -> Job:
        """The job, as it was changed last."""
        return self.legs[-1].job

    @property
    def plan(self) -> Plan:
        """The plan, as it was changed last."""
        return self.legs[-1].plan

    @property
    def phases(self) -> Sequence[Phase]:
        """The phases of the plan, as it was changed last."""
        return self.phases_of(len(self.legs) - 1)

    def phases_of(self, leg: int) -> Sequence[Phase]:
        """The phases of a leg's plan."""
        if leg not in self._phases:
            self._phases[leg] = phases(self.legs[leg].plan)
        return self._phases[leg]

    def find(self) -> "Submissions":
        """Itself, with all that the workspace knows of the run."""
        self.made = []
        while (job := self.workspace.job(job_name(self.run_id, len(self.made) + 1))) is not None:
            self.made.append(Submission.of_job(len(self.made) + 1, job))
        return self

    def submit(
        self, first: int, last: int | None = None, *, resumed: bool = False, new: bool = False
    ) -> Submission | None:
        """Submit the phases from one up to, and without, another: by default as many rounds as one pipeline shall have.

        What another kernel that follows the run has submitted in the meantime is taken as it is, and one that is about
        to is waited for. None if another one has changed the run: then `legs` has it, and the phases may be others.

        new  whether the run has just been made, so that the workspace need not be asked for it

        Raises RunLocked if another kernel takes too long.
        """
        with RunLock.take(self.store.folder, wait=SENDING):
            if not new and (job := self._next()) is not None:
                self._learn()
                self.made.append(Submission.of_job(len(self.made) + 1, job))
                return self.made[-1]
            return None if self._learn() else self._submit(first, last, resumed=resumed)

    def change(self, number: int, leg: Leg) -> None:
        """Keep a change; raises StoreError if another kernel has changed the run, or gone on with it, since."""
        with RunLock.take(self.store.folder, wait=SENDING):
            if self._next() is not None:
                raise StoreError(f"run {self.run_id} was gone on with by another kernel: attach to it anew")
            keep(self.store.folder, number, leg)

    def _next(self) -> Any | None:
        """The job that another kernel has submitted beyond those that are known here, if there is one."""
        return self.workspace.job(job_name(self.run_id, len(self.made) + 1))

    def _learn(self) -> bool:
        """Take over what another kernel has changed in the run; whether it has."""
        if not (self.store.folder / part_of(len(self.legs)) / "job.json").is_file():
            return False
        self.legs += self.store.legs()[len(self.legs) :]
        return True

    def _submit(self, first: int, last: int | None, *, resumed: bool) -> Submission:
        number = len(self.made) + 1
        last = self.last_after(first, None) if last is None else last
        names = {phase.name for phase in self.phases[first:last]}
        again = any(names & {phase.name for phase in self.of(earlier)} for earlier in self.made)
        submission = Submission(
            number=number,
            job=job_name(self.run_id, number),
            first=first,
            last=last,
            attempt=number if again else 0,
            resumed=resumed,
            time=round(time.time(), 3),
            leg=len(self.legs) - 1,
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
        if self.made and self.made[-1].leg != submission.leg:
            event = audit.CHANGED
        audit.record_run_event(self.store.folder, event, digest=terms.digest, silos=self.legs[-1].silos)
        submit(self.workspace.client, pipeline, self.store.folder / "azureml" / submission.job)
        self.made.append(submission)
        return submission

    def after(self, done: int, early: int | None) -> int:
        """The phase that follows one of the last submission.

        Of a run that has stopped early it is the next that makes no state; of one that was changed since, the first
        of the round that follows.
        """
        last = self.made[-1].leg
        if last < len(self.legs) - 1:
            of_last = self.phases_of(last)
            round = max((phase.round for phase in of_last[: done + 1] if phase.makes_state), default=-1)
            return self._states_until(round)
        if early is None:
            return done + 1
        rest = range(done + 1, len(self.phases))
        return next((i for i in rest if not self.phases[i].makes_state), len(self.phases))

    def _states_until(self, round: int) -> int:
        """How many phases there are up to and with the one that makes a round's state."""
        made = [i for i, phase in enumerate(self.phases) if phase.makes_state and phase.round <= round]
        return made[-1] + 1 if made else 0

    def of(self, made: Submission) -> Sequence[Phase]:
        """The phases of a submission."""
        return self.phases_of(made.leg)[made.first : made.last]

    def layout(self, submission: Submission) -> Layout:
        """Where a submission's outputs are."""
        return Layout(self.run_id, self.legs[submission.leg].plan, self.federation, submission.attempt)

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
        makers = [made for made in reversed(self.made) if any(step in phase.nodes for phase in self.of(made))]
        found = [self.layout(made).source(source) for made in makers]
        if self.origin is not None and self.plan.by_id[step].round <= self.origin.round:
            found += self.origin.submissions.places(source)
        return found

    @property
    def first(self) -> int:
        """The phase with which the run begins."""
        return 0 if self.origin is None else self._states_until(self.origin.round)

    @property
    def origins(self) -> tuple[str, ...]:
        """The runs that this one branched off, the nearest first."""
        if self.origin is None:
            return ()
        return (self.origin.submissions.run_id, *self.origin.submissions.origins)

    def last_after(self, first: int, until: int | None) -> int:
        """The phase after the last one of a pipeline that begins with a phase; what follows its last round goes along.

        until  the last round that it may have; None means as many as a pipeline of this run has
        """
        limit = self.settings.get("rounds_per_pipeline")
        end = max(self.phases[first].round, 1) + int(limit) - 1 if limit else self.plan.rounds
        end = end if until is None else min(end, max(until, 1))
        return sum(phase.round <= end for phase in self.phases)

    def _terms(self) -> Terms:
        leg = self.legs[-1]
        code = self.store.folder / part_of(len(self.legs) - 1) / "code"
        there = (code / BUNDLE).exists()
        bundle = verify(code / BUNDLE) if there else write_bundle(leg.job, leg.plan, code / BUNDLE, packed=True)
        return Terms(
            job=self.job,
            federation=self.federation,
            code=str(code.resolve()),
            digest=bundle.digest,
            limit=step_limit(self.job, int(self.settings.get("margin", self.settings.get("grace", 60)))),
            threads=int(self.settings["threads"]),
            approvals=beside_bundle(self.store.folder / PACKED, code),
            origins=self.origins,
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
