"""AzureML: the same job, on real silos."""

import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fl_kit.approvals import brought
from fl_kit.azureml.findings import Check, together
from fl_kit.azureml.locality import breaches
from fl_kit.azureml.own_policies import chosen_by_the_sender
from fl_kit.azureml.places import missing_places, shared_places
from fl_kit.azureml.preflight import of_breach
from fl_kit.azureml.run import AzureMLRun
from fl_kit.azureml.submissions import Submissions
from fl_kit.azureml.workspace import Workspace
from fl_kit.errors import IncompatibleError, RunNotFound
from fl_kit.job import Job
from fl_kit.plan import Plan
from fl_kit.readable import brief, call, changed
from fl_kit.run_ids import new_id
from fl_kit.silo import Federation
from fl_kit.store import FolderStore

BACKEND, AZUREML = "backend", "azureml"
"""What environment.json says of a run that was begun on AzureML."""
TERMINAL = frozenset({"Completed", "Failed", "Canceled", "NotResponding"})


@dataclass(frozen=True, repr=False)
class AzureML:
    """Runs each step of a plan on its party's own compute, as one AzureML pipeline.

    client               an `azure.ai.ml.MLClient` of the workspace
    folder               where run folders are made here: what was asked for, what was sent, and states that were read
    margin               seconds beyond the job's deadline and grace, for a silo's step to start (a container, its
                         imports) and to end; AzureML itself ends it then
    rounds_per_pipeline  cut the run into pipelines of so many rounds, each submitted when the one before is done;
                         None submits all at once, so that the run needs this kernel no more
    threads              torch threads of each step; the bits may depend on it
    experiment           under which AzureML shows the pipelines; the task's name by default
    approvals            a folder of approvals, or a file, that silos' policies ask for; they travel with the bundle

    Raises IncompatibleError for a setting out of its range.

    >>> run = job.run(federation, on=AzureML(client))          # doctest: +SKIP
    """

    client: Any
    _: KW_ONLY
    folder: str | Path = "runs"
    margin: int = 60
    rounds_per_pipeline: int | None = None
    threads: int = 1
    experiment: str = ""
    approvals: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("margin", "rounds_per_pipeline", "threads"):
            value = getattr(self, name)
            if (value is not None or name != "rounds_per_pipeline") and (type(value) is not int or value < 1):
                raise IncompatibleError(f"AzureML({name}={value!r}): must be a whole number of at least 1")

    def __repr__(self) -> str:
        settings = {name: brief(value) for name, value in changed(self).items() if name != "client"}
        return call("AzureML", {"workspace": repr(self.client.workspace_name), **settings})

    def start(self, job: Job, federation: Federation, *, paused: bool = False) -> AzureMLRun:
        """Submit a run and give it when the workspace has it; of a paused one nothing is submitted yet.

        Raises FederationError with every fault that shows without asking the workspace: a party without a place, a
        place of two parties, a path that leads where its party must not read or write. `check` finds more.
        Raises what the SDK raises if it refuses the job; then there is no run folder.
        """
        plan = job.plan(federation)
        refuse_faults(plan, federation)
        run_id = new_id(job.task.name)
        store = FolderStore.create(self._runs / run_id, job, plan, federation, self._settings())
        submissions = self._submissions(run_id, store)
        with keeping_only_what_was_sent(submissions):
            brought(self.approvals, store.folder)
            if not paused:
                submissions.submit(0, new=True)
        return AzureMLRun(submissions).watch(paused=paused)

    def attach(self, run_id: str) -> AzureMLRun:
        """The run of that id, whether it goes on or has ended: from another kernel, the same events.

        It needs the run's folder, which says what was asked for; a run in chunks, or one whose lost steps the job's
        `retries` allow to try again, is gone on with. One of which nothing was submitted yet (it was started paused,
        or its kernel ended before the workspace had it) rests: its own `resume()` or `step()` submits it.

        Raises RunNotFound with the nearest id, StoreError for a damaged run folder.
        """
        submissions = self._found(run_id)
        return AzureMLRun(submissions).watch(paused=not submissions.made)

    def resume(self, run_id: str) -> AzureMLRun:
        """Go on with a run that failed or was stopped, from its last round that is done; the bits stay the same.

        A run that goes on, or is completed, is given as it is; one that was never submitted is submitted now. Raises
        as `attach` does.
        """
        submissions = self._found(run_id)
        brought(self.approvals, submissions.store.folder)
        job = submissions.workspace.job(submissions.made[-1].job) if submissions.made else None
        return AzureMLRun(submissions).watch(resume=job is not None and job.status in TERMINAL)

    @cached_property
    def _workspace(self) -> Workspace:
        return Workspace(self.client)

    @property
    def _runs(self) -> Path:
        return Path(self.folder).resolve()

    def _found(self, run_id: str) -> Submissions:
        try:
            store = FolderStore.open(self._runs, run_id)
        except RunNotFound as error:
            if Path(run_id).name != run_id or self._workspace.job(run_id) is None:
                raise
            raise RunNotFound(
                f"workspace {self._workspace.name} has run {run_id}, but its folder is not in {self._runs}: bring it "
                "from the machine that started the run, or give AzureML the `folder` in which it is"
            ) from error
        refuse_run_of_another_place(run_id, store.environment(), self._workspace.name)
        return self._submissions(run_id, store).find()

    def _submissions(self, run_id: str, store: FolderStore) -> Submissions:
        return Submissions(self._workspace, run_id, store, self.experiment)

    def _settings(self) -> dict[str, Any]:
        """What the run folder keeps beside job, plan and federation."""
        return {
            BACKEND: AZUREML,
            "workspace": str(self.client.workspace_name),
            "python": platform.python_version(),
            "threads": self.threads,
            "margin": self.margin,
            "rounds_per_pipeline": self.rounds_per_pipeline,
        }


def refuse_run_of_another_place(run_id: str, found: Mapping[str, Any], workspace: str) -> None:
    """Raise RunNotFound for a run that was begun by a simulation, or in another workspace."""
    if found.get(BACKEND) != AZUREML:
        raise RunNotFound(f"run {run_id} was not begun on AzureML: resume it with the backend that began it")
    if (begun := str(found.get("workspace", workspace))) != workspace:
        raise RunNotFound(
            f"run {run_id} was begun in workspace {begun}, and this is {workspace}: give AzureML a client of {begun}"
        )


@contextmanager
def keeping_only_what_was_sent(submissions: Submissions) -> Iterator[None]:
    """What fails in the block takes the run folder along, unless the workspace has the job or cannot be asked."""
    try:
        yield
    except BaseException as error:
        run, workspace = submissions.run_id, submissions.workspace
        try:
            there = workspace.job(run) is not None
        except Exception as problem:  # noqa: BLE001 - the error above says what is wrong
            error.add_note(f"Whether {workspace.name} has the run cannot be told ({problem}): AzureML.attach({run!r})")
        else:
            if there:
                error.add_note(f"The workspace has the run all the same: AzureML.attach({run!r}) follows it")
            else:
                shutil.rmtree(submissions.store.folder)
        raise


def refuse_faults(plan: Plan, federation: Federation) -> None:
    """Raise FederationError with all that is wrong with the parties' places; where each has its own, with the paths."""
    places = [*missing_places(federation), *shared_places(federation), *chosen_by_the_sender(federation)]
    for found in (places, map(of_breach, breaches(plan, federation))):
        Check(findings=together(found)).require()
