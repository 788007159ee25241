"""Runs of the workspace's MLflow: every job is one, with the job's name as its id, and a client may create more.

A job's run has the job's status, times and parents whatever a client says; parameters, tags and figures are added.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sim.azureml.mlflow.experiments import DEFAULT, Experiments
from sim.azureml.mlflow.figures import Figures, invalid, missing
from sim.azureml.mlflow.search import Field, Value
from sim.azureml.state import Body, WorkspaceState

PARAMS_LIMIT, TAGS_LIMIT, TAG_LIMIT = 200, 50, 1000
"""Parameters and tags of one run, and characters of a tag's value, as Azure documents for its service."""

OWN = "mlflow."
"""What the names of MLflow's own tags begin with."""

STATUS = {
    "Running": "RUNNING",
    "Finalizing": "RUNNING",
    "CancelRequested": "RUNNING",
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "NotResponding": "FAILED",
    "Canceled": "KILLED",
}
"""MLflow's word for a job's status; a job of any other waits to run."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run, its times in milliseconds since 1970."""

    id: str
    experiment: str
    name: str
    status: str
    start: int | None
    end: int | None
    user: str = "local"
    stage: str = "active"
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: Body = field(default_factory=dict)
    outputs: list[Body] = field(default_factory=list)


class Runs:
    """Every run; safe for threads."""

    def __init__(self, state: WorkspaceState, experiments: Experiments) -> None:
        self.state = state
        self.documents = state.documents
        self.experiments = experiments
        self.figures = Figures(state.root / "mlflow" / "figures")
        self._experiment_of_job: dict[str, str] = {}
        self._lock = threading.RLock()

    def create(self, experiment: str, *, name: str, user: str, start: int | None, tags: dict[str, str]) -> Run:
        """A new run that no job stands behind, running from the start."""
        self.experiments.get(experiment)
        id = uuid.uuid4().hex
        name = name or tags.get("mlflow.runName", "") or f"run-{id[:8]}"
        kept = {
            "experiment": experiment,
            "name": name,
            "user": user or "local",
            "status": "RUNNING",
            "start": start or now(),
            "tags": {**tags, "mlflow.runName": name},
        }
        self.documents.put("mlflow_runs", id, body=kept)
        return self.get(id)

    def get(self, id: str) -> Run:
        """A run; raises WorkspaceError (404) if there is none of that id."""
        run = self._view(id, self.documents.get("mlflow_runs", id), self.documents.get("runs", id))
        if run is None:
            raise missing(f"there is no run {id!r}")
        return run

    def all(self) -> Iterator[Run]:
        """Every run."""
        kept = {key[1]: body for key, body in self.documents.list("mlflow_runs")}
        jobs = {key[1]: body for key, body in self.documents.list("runs")}
        for id in {**jobs, **kept}:
            if run := self._view(id, kept.get(id), jobs.get(id)):
                yield run

    @contextmanager
    def change(self, id: str) -> Iterator[Body]:
        """What is kept of a run beside its job, to be changed; nothing is kept if the change raises."""
        with self._lock:
            self.get(id)
            kept = self.documents.get("mlflow_runs", id) or {}
            yield kept
            self.documents.put("mlflow_runs", id, body=kept)

    def set_params(self, id: str, params: dict[str, str]) -> None:
        """Add parameters; a parameter that has another value already is refused, as everywhere in MLflow."""
        with self.change(id) as kept:
            held = kept.setdefault("params", {})
            for name, value in params.items():
                if held.setdefault(name, value) != value:
                    raise invalid(f"parameter {name!r} of run {id!r} is {held[name]!r} and cannot become {value!r}")
            if len(held) > PARAMS_LIMIT:
                raise invalid(f"run {id!r} would have {len(held)} parameters; AzureML takes {PARAMS_LIMIT} for a run")

    def set_tags(self, id: str, tags: dict[str, str]) -> None:
        """Set tags; more or longer ones than Azure takes are refused, MLflow's own aside."""
        for key, value in tags.items():
            if len(value) > TAG_LIMIT and not key.startswith(OWN):
                raise invalid(f"tag {key!r} of run {id!r} has {len(value)} characters; AzureML takes {TAG_LIMIT}")
        with self.change(id) as kept:
            names = {key for key in (*self.get(id).tags, *tags) if not key.startswith(OWN)}
            if len(names) > TAGS_LIMIT:
                raise invalid(f"run {id!r} would have {len(names)} tags; AzureML takes {TAGS_LIMIT} for a run")
            kept.setdefault("tags", {}).update(tags)
            if "mlflow.runName" in tags:
                kept["name"] = tags["mlflow.runName"]

    def field(self, run: Run, field: Field) -> Value:
        """What a search compares."""
        kind, name = field
        if kind == "metric":
            return next((point.value for point in self.figures.latest(run.id) if point.key == name), None)
        if kind == "param":
            return run.params.get(name)
        if kind == "tag":
            return run.tags.get(name)
        attributes: dict[str, Value] = {
            "run_id": run.id,
            "run_name": run.name,
            "Run name": run.name,
            "status": run.status,
            "start_time": run.start,
            "end_time": run.end,
            "user_id": run.user,
            "artifact_uri": self.artifact_uri(run.id),
        }
        if name not in attributes:
            raise invalid(f"a run has no attribute {name!r}; it has {', '.join(attributes)}")
        return attributes[name]

    def artifact_uri(self, id: str) -> str:
        return f"{artifacts_url(self.state)}/runs/{id}"

    def info(self, run: Run) -> Body:
        """A run's RunInfo as MLflow's clients read it."""
        return {
            "run_id": run.id,
            "run_uuid": run.id,
            "run_name": run.name,
            "experiment_id": run.experiment,
            "user_id": run.user,
            "status": run.status,
            "artifact_uri": self.artifact_uri(run.id),
            "lifecycle_stage": run.stage,
            **({} if run.start is None else {"start_time": run.start}),
            **({} if run.end is None else {"end_time": run.end}),
        }

    def view(self, run: Run) -> Body:
        """A run as MLflow's clients read it."""
        return {
            "info": self.info(run),
            "data": {
                "metrics": [point.view() for point in self.figures.latest(run.id)],
                "params": pairs(run.params),
                "tags": pairs(run.tags),
            },
            "inputs": run.inputs,
            "outputs": {"model_outputs": run.outputs},
        }

    def _view(self, id: str, kept: Body | None, job: Body | None) -> Run | None:
        if kept is None and job is None:
            return None
        kept = kept or {}
        if job is None:
            return Run(**{"id": id, "end": None, **kept})
        root = str(job.get("rootRunId") or id)
        lineage = {"mlflow.parentRunId": job.get("parentRunId"), "mlflow.rootRunId": root}
        name = str(kept.get("name") or job.get("displayName") or id)
        tags = {**(job.get("tags") or {}), **kept.get("tags", {}), **lineage, "mlflow.runName": name}
        return Run(
            **{
                **kept,
                "id": id,
                "experiment": self._experiment_of(root),
                "name": name,
                "status": STATUS.get(str(job.get("status")), "SCHEDULED"),
                "start": milliseconds(job.get("startTimeUtc")),
                "end": milliseconds(job.get("endTimeUtc")),
                "tags": {key: str(value) for key, value in tags.items() if value is not None},
            }
        )

    def _experiment_of(self, job: str) -> str:
        """The id of the experiment that a job was submitted to; remembered, for a job's document can be large."""
        if job in self._experiment_of_job:
            return self._experiment_of_job[job]
        submitted = self.documents.get("jobs", job)
        properties = (submitted or {}).get("properties") or {}
        experiment = self.experiments.of_job(properties.get("experimentName") or DEFAULT)
        if submitted is not None:
            self._experiment_of_job[job] = experiment
        return experiment


def artifacts_url(state: WorkspaceState) -> str:
    """Where artifacts are, by HTTP; MLflow's client cuts an artifact's address at `/mlflow-artifacts/artifacts`."""
    return f"{state.settings.url}/mlflow/v2.0{state.settings.scope}/api/2.0/mlflow-artifacts/artifacts"


def pairs(values: dict[str, str]) -> list[Body]:
    return [{"key": key, "value": value} for key, value in values.items()]


def milliseconds(moment: Any) -> int | None:
    """A time in ISO's form as milliseconds since 1970."""
    return round(datetime.fromisoformat(str(moment)).timestamp() * 1000) if moment else None


def now() -> int:
    return time.time_ns() // 1_000_000
