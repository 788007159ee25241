"""Experiments: what jobs and runs are grouped by. One is there when a job or a client first names it."""

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from sim.azureml.errors import WorkspaceError
from sim.azureml.mlflow.figures import invalid, missing
from sim.azureml.mlflow.search import Field, Value
from sim.azureml.state import Body, WorkspaceState

DEFAULT = "Default"
DEFAULT_ID = "0"
"""The experiment of a client that names none."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment, its times in milliseconds since 1970."""

    id: str
    name: str
    created: int
    changed: int
    stage: str = "active"
    tags: dict[str, str] = field(default_factory=dict)


class Experiments:
    """Every experiment; safe for threads."""

    def __init__(self, state: WorkspaceState) -> None:
        self._documents = state.documents
        self._lock = threading.RLock()
        with self._lock:
            if self._documents.get("mlflow_experiments", DEFAULT_ID) is None:
                self._make(DEFAULT_ID, DEFAULT, {})

    def get(self, id: str) -> Experiment:
        """An experiment; raises WorkspaceError (404) if there is none of that id."""
        kept = self._documents.get("mlflow_experiments", id)
        if kept is None:
            raise missing(f"there is no experiment with the id {id!r}")
        return Experiment(**kept)

    def named(self, name: str) -> Experiment:
        """The experiment of a name; raises WorkspaceError (404) if there is none."""
        for experiment in self.all():
            if experiment.name == name:
                return experiment
        raise missing(f"there is no experiment {name!r}")

    def all(self) -> Iterator[Experiment]:
        """Every experiment, those included that only a job names so far."""
        for _, job in list(self._documents.list("jobs")):
            self.of_job((job.get("properties") or {}).get("experimentName") or DEFAULT)
        for _, kept in self._documents.list("mlflow_experiments"):
            yield Experiment(**kept)

    def create(self, name: str, tags: dict[str, str]) -> Experiment:
        """A new experiment; raises WorkspaceError (400) if there is one of that name."""
        if not name:
            raise invalid("an experiment needs a name")
        with self._lock:
            held = next((experiment for experiment in self.all() if experiment.name == name), None)
            if held:
                note = "" if held.stage == "active" else " (deleted: restore it)"
                message = f"there is an experiment {name!r} already{note}"
                raise WorkspaceError(message, status=400, code="RESOURCE_ALREADY_EXISTS")
            id = id_of(name)
            while self._documents.get("mlflow_experiments", id):
                id = id_of(id)
            return self._make(id, name, tags)

    def of_job(self, name: str) -> str:
        """The id of the experiment that a job names; made if it is new."""
        id = id_of(name)
        with self._lock:
            if self._documents.get("mlflow_experiments", id) is None:
                self._make(id, name, {})
        return id

    def change(self, id: str, *, name: str = "", stage: str = "", tags: dict[str, str] | None = None) -> None:
        """Rename an experiment, move it between `active` and `deleted`, or replace its tags."""
        with self._lock:
            held = self.get(id)
            changed = replace(
                held,
                name=name or held.name,
                stage=stage or held.stage,
                tags=held.tags if tags is None else tags,
                changed=now(),
            )
            self._documents.put("mlflow_experiments", id, body=asdict(changed))

    def _make(self, id: str, name: str, tags: dict[str, str]) -> Experiment:
        moment = now()
        experiment = Experiment(id=id, name=name, created=moment, changed=moment, tags=tags)
        self._documents.put("mlflow_experiments", id, body=asdict(experiment))
        return experiment


def view(experiment: Experiment) -> Body:
    """An experiment as MLflow's clients read it."""
    return {
        "experiment_id": experiment.id,
        "name": experiment.name,
        "artifact_location": "",
        "lifecycle_stage": experiment.stage,
        "creation_time": experiment.created,
        "last_update_time": experiment.changed,
        "tags": [{"key": key, "value": value} for key, value in experiment.tags.items()],
    }


def field_of(experiment: Experiment, field: Field) -> Value:
    """What a search compares."""
    kind, name = field
    if kind == "tag":
        return experiment.tags.get(name)
    attributes: dict[str, Value] = {
        "name": experiment.name,
        "experiment_id": experiment.id,
        "creation_time": experiment.created,
        "last_update_time": experiment.changed,
    }
    if kind != "attribute" or name not in attributes:
        raise invalid(f"an experiment has no {kind} {name!r}; it has tags and {', '.join(attributes)}")
    return attributes[name]


def id_of(name: str) -> str:
    """An id that follows from the name, so that a job's experiment is the same after a restart."""
    return DEFAULT_ID if name == DEFAULT else hashlib.sha256(name.encode()).hexdigest()[:18]


def now() -> int:
    return time.time_ns() // 1_000_000
