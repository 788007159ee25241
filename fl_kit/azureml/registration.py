"""`register`: a run's final model as an MLflow model of the workspace, with the run it comes from as tags."""

import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fl_kit.errors import FlKitError
from fl_kit.messages import State
from fl_kit.protocols import Run
from fl_kit.standardize import Standardize
from fl_kit.tensors import digest
from fl_kit.tracking.model import ROWS, NotExportable, example_of, model_of, save_pt2, save_weights, zeros_like
from fl_kit.tracking.names import params, tags
from fl_kit.tracking.record import Record, of_run

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
LONGEST_TAG = 256
"""Characters that a tag's value may have everywhere in Azure."""


def register(run: Run, client: Any, name: str, *, example: Any = None, weights_only: bool = False) -> Any:
    """Register the model of a run's last round in the workspace; gives the SDK's Model, with its version.

    The model is an MLflow PyTorch model of the format `pt2`, with signature, so AzureML can deploy it without further
    code, and reading it runs no foreign code. Its tags say where it comes from: run, round, sha256 of the parameters
    and of the task, strategy and settings, silos.

        model = register(run, client, "heart-disease")
        mlflow.pyfunc.load_model(f"models:/heart-disease/{model.version}")

    client        an `azure.ai.ml.MLClient`
    name          letters, digits, `-`, `_` and `.`, at most 255
    example       an input of the right form, whose values are not kept; not needed where the task has `example()`,
                  where a silo's rows are on this machine, or where the model begins with Standardize or a Linear
    weights_only  register parameters as safetensors and the task's source instead, for a model that torch.export
                  cannot trace

    Raises FlKitError for a run that goes on, a model that cannot be exported, or a workspace that refuses it.

    >>> model = register(run, client, "heart-disease")  # doctest: +SKIP
    """
    if not NAME.fullmatch(name):
        raise FlKitError(f"model name {name!r} will not do: use letters, digits, '-', '_' and '.', at most 255")
    if run.status == "running":
        raise FlKitError(f"run {run.id} is still running: run.wait() or run.stop() first")
    record, state = of_run(run), run.state()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        if weights_only:
            save_weights(record, state, folder)
        else:
            export(record, state, folder, example)
        return upload(client, name, folder, "custom_model" if weights_only else "mlflow_model", record, state)


def export(record: Record, state: State, folder: Path, example: Any) -> None:
    """Write the MLflow model; raises NotExportable with the cure."""
    try:
        module = model_of(record, state)
        save_pt2(module, form_of_input(record, module) if example is None else zeros_like(example), folder)
    except Exception as error:
        known = isinstance(error, FlKitError)
        reason = str(error) if known else f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
        raise NotExportable(
            f"the model of run {record.id} cannot become an MLflow model: {reason}. Pass example=, an input of the "
            "right form, or weights_only=True to register the parameters alone"
        ) from error


def form_of_input(record: Record, module: nn.Module) -> Any:
    """Zeros in the form of the model's input.

    Told by the task's own example, a silo's rows if they are here, or else what the first layer says of itself.
    Raises NotExportable if none of them tells.
    """
    try:
        return example_of(record)
    except NotExportable:
        width = input_width(module)
        if width is None:
            raise
        kinds = [value.dtype for value in module.parameters() if value.is_floating_point()]
        return torch.zeros(ROWS, width, dtype=kinds[0] if kinds else torch.float32)


def input_width(module: nn.Module) -> int | None:
    """How many numbers a row of the input has, if the model is a chain that begins with Standardize or a Linear."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    if isinstance(module, Standardize):
        return module.features
    return module.in_features if isinstance(module, nn.Linear) else None


def upload(client: Any, name: str, folder: Path, kind: str, record: Record, state: State) -> Any:
    from azure.ai.ml.entities import Model
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError

    description = f"fl-kit: after round {state.round} of {record.plan.rounds}, {len(record.federation)} silos"
    model = Model(name=name, path=folder, type=kind, description=description, tags=lineage(record, state))
    try:
        return client.models.create_or_update(model)
    except (AzureError, MlException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FlKitError(f"the model {name!r} of run {record.id} could not be registered: {reason}") from error


def lineage(record: Record, state: State) -> dict[str, str]:
    """Where a model comes from, as tags."""
    found = {
        **{f"fl_kit.{key}": value for key, value in params(record).items()},
        **tags(record),
        "fl_kit.round": str(state.round),
        "fl_kit.params_sha256": digest(state.params),
        "fl_kit.silos": ", ".join(record.federation.names),
    }
    return {key: value if len(value) <= LONGEST_TAG else f"{value[: LONGEST_TAG - 1]}…" for key, value in found.items()}
