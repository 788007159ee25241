"""A run's model in the workspace: what is uploaded, what its tags say, and that it gives the run's own predictions."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from azure.core.exceptions import HttpResponseError
from safetensors.torch import load_file
from torch import nn

from fl_kit.azureml.registration import input_width, register
from fl_kit.errors import FlKitError
from fl_kit.silo import Federation, Silo
from fl_kit.standardize import Standardize
from fl_kit.strategies import FedProx
from fl_kit.tracking.model import NotExportable
from sim.azureml import LocalWorkspace
from sim.in_process import InProcess
from sim.run import SimulatedRun
from tests.tasks import LINEAR, job, random_rows, silos, write_task

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own type hints when this is loaded
    import mlflow.pyfunc

ROWS = {"a": random_rows(6, 4, seed=1), "b": random_rows(9, 4, seed=2)}


class Models:
    """Keeps what is registered, as the service would: the folder is gone when `register` returns."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept
        self.model: Any = None

    def create_or_update(self, model: Any) -> Any:
        shutil.copytree(model.path, self.kept)
        self.model = model
        return model


class Registry:
    """The one thing that `register` uses of an MLClient."""

    def __init__(self, kept: Path) -> None:
        self.models = Models(kept)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "kept")


def finished(folder: Path, task: Path = LINEAR, rounds: int = 3) -> SimulatedRun:
    run = job(task, FedProx(lr=0.05, mu=0.01), rounds).run(silos(folder / "data", **ROWS), on=InProcess(folder=None))
    assert isinstance(run, SimulatedRun)
    return run.wait()


def by_hand(run: SimulatedRun, rows: np.ndarray) -> np.ndarray:
    """x·w + b with the run's own parameters."""
    params = run.state().params
    return rows @ params["weight"].numpy().T + params["bias"].numpy()


def test_the_model_predicts_as_the_run_does(tmp_path: Path, registry: Registry) -> None:
    run = finished(tmp_path)
    registered = register(run, registry, "heart")
    assert registered is registry.models.model
    assert (registered.name, registered.type) == ("heart", "mlflow_model")
    loaded = mlflow.pyfunc.load_model(str(registry.models.kept))
    rows = random_rows(7, 3, seed=5)
    np.testing.assert_allclose(loaded.predict(rows), by_hand(run, rows), rtol=1e-12)
    (inputs,), (outputs,) = loaded.metadata.signature.inputs.inputs, loaded.metadata.signature.outputs.inputs
    assert (inputs.type, inputs.shape) == (np.float64, (-1, 3))
    assert (outputs.type, outputs.shape) == (np.float64, (-1, 1))


def test_nothing_of_a_silos_rows_is_in_it(tmp_path: Path, registry: Registry) -> None:
    register(finished(tmp_path), registry, "heart")
    example = np.array(json.loads((registry.models.kept / "input_example.json").read_text()))
    assert example.shape == (2, 3)
    assert np.count_nonzero(example) == 0


def test_the_tags_say_where_it_comes_from(tmp_path: Path, registry: Registry) -> None:
    run = finished(tmp_path)
    tags = register(run, registry, "heart").tags
    expected = {
        "fl_kit.run_id": run.id,
        "fl_kit.round": "3",
        "fl_kit.rounds": "3",
        "fl_kit.params_sha256": run.digest(),
        "fl_kit.task": "linear",
        "fl_kit.task_sha256": run.job.task.sha256,
        "fl_kit.strategy": "FedProx",
        "fl_kit.strategy.mu": "0.01",
        "fl_kit.aggregator": "Mean",
        "fl_kit.seed": "0",
        "fl_kit.silos": "a, b",
    }
    assert {key: tags.get(key) for key in expected} == expected
    assert all(isinstance(value, str) and len(value) <= 256 for value in tags.values())
    assert len(tags) <= 50
    assert registry.models.model.description == "fl-kit: after round 3 of 3, 2 silos"


def test_many_silos_fit_into_a_tag(tmp_path: Path, registry: Registry) -> None:
    rows = {f"{'long' * 10}-{i}": random_rows(3, 4, seed=i) for i in range(8)}
    run = job(LINEAR, FedProx(lr=0.05, mu=0.01), 1).run(silos(tmp_path / "data", **rows), on=InProcess(folder=None))
    tag = register(run.wait(), registry, "heart").tags["fl_kit.silos"]
    assert len(tag) == 256
    assert tag.endswith("…")


def far(run: SimulatedRun) -> SimulatedRun:
    """The same run as if its silos were elsewhere."""
    run.federation = Federation(
        silos=tuple(
            Silo(name=silo.name, data=f"azureml://datastores/{silo.name}/paths/x/") for silo in run.federation.silos
        )
    )
    return run


WRAPPED = """

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, 1, dtype=torch.float64)

    def forward(self, inputs):
        return self.inner(inputs)


def model():
    return Wrapped()
"""


def test_rows_that_are_elsewhere_need_an_example(tmp_path: Path, registry: Registry) -> None:
    run = far(finished(tmp_path, write_task(tmp_path, LINEAR.read_text() + WRAPPED)))
    with pytest.raises(NotExportable, match=r"the form of the model's input is not known here.*Pass example="):
        register(run, registry, "heart")
    assert registry.models.model is None
    register(run, registry, "heart", example=torch.ones(1, 3, dtype=torch.float64))
    rows = random_rows(7, 3, seed=5)
    params = {name.removeprefix("inner."): value.numpy() for name, value in run.state().params.items()}
    loaded = mlflow.pyfunc.load_model(str(registry.models.kept))
    np.testing.assert_allclose(loaded.predict(rows), rows @ params["weight"].T + params["bias"], rtol=1e-12)


def test_a_first_layer_tells_the_form(tmp_path: Path, registry: Registry) -> None:
    run = far(finished(tmp_path))
    register(run, registry, "heart")
    rows = random_rows(7, 3, seed=5)
    loaded = mlflow.pyfunc.load_model(str(registry.models.kept))
    np.testing.assert_allclose(loaded.predict(rows), by_hand(run, rows), rtol=1e-12)


@pytest.mark.parametrize(
    ("module", "width"),
    [
        (nn.Linear(4, 1), 4),
        (nn.Sequential(nn.Sequential(Standardize(5, flag_missing=True)), nn.Linear(10, 1)), 5),
        (nn.Sequential(nn.Conv1d(3, 1, 1), nn.Linear(4, 1)), None),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), None),
        (nn.Sequential(), None),
    ],
)
def test_only_two_layers_tell_it(module: nn.Module, width: int | None) -> None:
    assert input_width(module) == width


def test_the_tasks_own_example_will_do(tmp_path: Path, registry: Registry) -> None:
    source = LINEAR.read_text() + "\n\ndef example():\n    return torch.ones(5, WIDTH, dtype=torch.float64)\n"
    run = far(finished(tmp_path, write_task(tmp_path, source)))
    assert register(run, registry, "heart").type == "mlflow_model"


UNTRACEABLE = """

class Odd(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs) if float(inputs.sum()) >= 0 else super().forward(inputs)


def model():
    return Odd(WIDTH, 1, dtype=torch.float64)
"""


def test_a_model_that_cannot_be_traced(tmp_path: Path, registry: Registry) -> None:
    task = write_task(tmp_path, LINEAR.read_text() + UNTRACEABLE)
    run = finished(tmp_path, task)
    with pytest.raises(NotExportable, match=r"cannot become an MLflow model: .*weights_only=True"):
        register(run, registry, "heart")
    model = register(run, registry, "heart", weights_only=True)
    assert model.type == "custom_model"
    assert {path.name for path in registry.models.kept.iterdir()} == {"model.safetensors", "made_up.py"}
    kept = load_file(registry.models.kept / "model.safetensors")
    assert all(torch.equal(value, run.state().params[name]) for name, value in kept.items())
    assert kept.keys() == run.state().params.keys()


@pytest.mark.parametrize("name", ["", "-x", "heart disease", "a/b", "x" * 256])
def test_a_name_that_will_not_do(tmp_path: Path, registry: Registry, name: str) -> None:
    with pytest.raises(FlKitError, match=r"model name .* will not do"):
        register(finished(tmp_path, rounds=1), registry, name)


def test_a_run_that_goes_on_has_no_final_model(tmp_path: Path, registry: Registry) -> None:
    run = finished(tmp_path, rounds=1)
    run._status = "running"
    with pytest.raises(FlKitError, match=rf"run {run.id} is still running: run\.wait\(\)"):
        register(run, registry, "heart")


def test_a_workspace_that_refuses(tmp_path: Path, registry: Registry) -> None:
    def refuse(model: Any) -> Any:
        raise HttpResponseError("(AuthorizationFailed) no role for this\nmore")

    registry.models.create_or_update = refuse  # type: ignore[method-assign]
    run = finished(tmp_path, rounds=1)
    with pytest.raises(FlKitError, match=rf"of run {run.id} could not be registered: .*no role for this"):
        register(run, registry, "heart")


# azure-ai-ml calls azure-storage-blob in ways that are deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_through_the_real_client(tmp_path: Path, workspace: LocalWorkspace, client: Any) -> None:
    """Twice: the second registration of the name is its version 2; what is downloaded again predicts the same."""
    run = finished(tmp_path)
    assert register(run, client, "heart").version == "1"
    model = register(run, client, "heart")
    assert (model.name, model.version, model.type) == ("heart", "2", "mlflow_model")
    kept = client.models.get("heart", "2")
    assert kept.tags["fl_kit.params_sha256"] == run.digest()
    assert kept.description == "fl-kit: after round 3 of 3, 2 silos"
    client.models.download("heart", "2", download_path=str(tmp_path))
    (found,) = (tmp_path / "heart").rglob("MLmodel")
    rows = random_rows(7, 3, seed=5)
    loaded = mlflow.pyfunc.load_model(str(found.parent))
    np.testing.assert_allclose(loaded.predict(rows), by_hand(run, rows), rtol=1e-12)
