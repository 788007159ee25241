"""All that the workspace's MLflow keeps, and what a call is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sim.azureml.mlflow.experiments import Experiments
from sim.azureml.mlflow.models import Models
from sim.azureml.mlflow.runs import Runs
from sim.azureml.state import Body, WorkspaceState


@dataclass(frozen=True, kw_only=True)
class Book:
    """Experiments, runs with their figures, logged models."""

    experiments: Experiments
    runs: Runs
    models: Models

    @classmethod
    def of(cls, state: WorkspaceState) -> "Book":
        """What a workspace keeps."""
        experiments = Experiments(state)
        runs = Runs(state, experiments)
        return cls(experiments=experiments, runs=runs, models=Models(runs))


Call: TypeAlias = Callable[[Book, Body], Body]
"""What answers a call: from what is kept and what is asked to the answer's JSON."""
