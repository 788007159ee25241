"""Logged models of MLflow 3: a model of its own beside the run that made it, with its artifacts."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sim.azureml.mlflow.experiments import now
from sim.azureml.mlflow.figures import invalid, missing
from sim.azureml.mlflow.runs import Runs, artifacts_url, pairs
from sim.azureml.mlflow.search import Field, Value
from sim.azureml.state import Body

STATUSES = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")


class Models:
    """Every logged model; safe for threads."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._documents = runs.documents
        self._lock = threading.RLock()

    def create(self, asked: Body) -> Body:
        """A new model, pending until its files are there."""
        experiment = self._runs.experiments.get(str(asked.get("experiment_id", "")))
        if source := asked.get("source_run_id"):
            self._runs.get(source)
        id = f"m-{uuid.uuid4().hex}"
        moment = now()
        kept = {
            "id": id,
            "experiment": experiment.id,
            "name": asked.get("name") or id,
            "type": asked.get("model_type") or "",
            "run": source or "",
            "status": STATUSES[0],
            "created": moment,
            "changed": moment,
            "params": texts(asked.get("params")),
            "tags": texts(asked.get("tags")),
        }
        return self._documents.put("mlflow_models", id, body=kept)

    def get(self, id: str) -> Body:
        """A model; raises WorkspaceError (404) if there is none of that id."""
        kept = self._documents.get("mlflow_models", id)
        if kept is None:
            raise missing(f"there is no logged model {id!r}")
        return kept

    def all(self) -> Iterator[Body]:
        for _, kept in self._documents.list("mlflow_models"):
            yield kept

    @contextmanager
    def change(self, id: str) -> Iterator[Body]:
        """A model, to be changed."""
        with self._lock:
            kept = self.get(id)
            yield kept
            self._documents.put("mlflow_models", id, body={**kept, "changed": now()})

    def finish(self, id: str, status: str) -> None:
        """Say whether a model's files arrived."""
        if status not in STATUSES:
            raise invalid(f"{status!r} is no status of a logged model; they are {', '.join(STATUSES)}")
        with self.change(id) as kept:
            kept["status"] = status

    def delete(self, id: str) -> None:
        self.get(id)
        self._documents.delete("mlflow_models", id)

    def artifact_uri(self, id: str) -> str:
        return f"{artifacts_url(self._runs.state)}/models/{id}"

    def field(self, kept: Body, field: Field) -> Value:
        """What a search compares."""
        kind, name = field
        if kind in ("param", "tag"):
            return str(kept[f"{kind}s"][name]) if name in kept[f"{kind}s"] else None
        if kind == "metric":
            return next((point["value"] for point in self._metrics(kept) if point["key"] == name), None)
        attributes: dict[str, Value] = {
            "model_id": kept["id"],
            "name": kept["name"],
            "model_name": kept["name"],
            "model_type": kept["type"],
            "source_run_id": kept["run"],
            "status": kept["status"].removeprefix("LOGGED_MODEL_"),
            "creation_timestamp": kept["created"],
            "last_updated_timestamp": kept["changed"],
        }
        if name not in attributes:
            raise invalid(f"a logged model has no attribute {name!r}; it has {', '.join(attributes)}")
        return attributes[name]

    def view(self, kept: Body) -> Body:
        """A model as MLflow's clients read it."""
        return {
            "info": {
                "model_id": kept["id"],
                "experiment_id": kept["experiment"],
                "name": kept["name"],
                "model_type": kept["type"],
                "source_run_id": kept["run"],
                "status": kept["status"],
                "creation_timestamp_ms": kept["created"],
                "last_updated_timestamp_ms": kept["changed"],
                "artifact_uri": self.artifact_uri(kept["id"]),
                "tags": pairs(kept["tags"]),
            },
            "data": {"params": pairs(kept["params"]), "metrics": self._metrics(kept)},
        }

    def _metrics(self, kept: Body) -> list[Body]:
        """The last figure of each of a model's series, which its run holds."""
        points = self._runs.figures.latest(kept["run"], kept["id"]) if kept["run"] else []
        return [{**point.view(), "run_id": kept["run"]} for point in points]


def texts(said: Any) -> dict[str, str]:
    """Tags or parameters as a client sends them, `[{"key": …, "value": …}]`; raises WorkspaceError (400)."""
    try:
        return {str(pair["key"]): str(pair.get("value", "")) for pair in said or ()}
    except (KeyError, TypeError, AttributeError) as error:
        raise invalid(f"{said!r} is no list of keys and values") from error
