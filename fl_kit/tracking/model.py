"""The final model as an MLflow model: a traced graph and its weights, in a form that runs no foreign code."""

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fl_kit.batches import call, leaves, rows_from
from fl_kit.errors import FlKitError
from fl_kit.messages import State
from fl_kit.model_state import ModelState
from fl_kit.randomness import seeded
from fl_kit.tracking.record import Record

ROWS = 2
"""Rows of an example: torch.export takes an axis of length 1 for one that never changes."""


class NotExportable(FlKitError):
    """The model cannot become an MLflow PyTorch model; says why."""


def save_model(record: Record, state: State, folder: Path) -> str:
    """Write the model of a state to a folder; gives the reason if it is weights only, else an empty text.

    An MLflow PyTorch model of the format `pt2` (torch.export), with signature; a model that torch.export
    cannot trace, or whose input nobody can tell, is written as safetensors beside the task's source.
    """
    try:
        module = model_of(record, state)
        save_pt2(module, example_of(record), folder)
    except Exception as error:  # noqa: BLE001 - it runs the task's code and torch's tracer, which raise anything
        reason = str(error) if isinstance(error, FlKitError) else f"{type(error).__name__}: {error}"
        save_weights(record, state, folder)
        return (reason.strip().splitlines() or ["no reason given"])[0]
    return ""


def model_of(record: Record, state: State) -> nn.Module:
    """The task's model with a state's parameters, on the CPU, for evaluation."""
    with seeded(0, "model for MLflow"):
        model = ModelState(record.task.model(), torch.device("cpu"))
    model.load(state.params)
    return model.module.eval()


def example_of(record: Record) -> Any:
    """An input of the right form with nothing of a silo in it: zeros.

    The form comes from the task's own `example()`, where it has one; else, in a simulation, from the shape
    and dtype of a silo's rows. Raises NotExportable where neither is at hand.
    """
    if hasattr(record.task.module, "example"):
        return zeros_like(record.task.module.example())
    folder = next((silo.data for silo in record.federation.silos if Path(silo.data).is_dir()), None)
    if folder is None:
        raise NotExportable(
            "the form of the model's input is not known here; define example() in the task, which returns an input"
        )
    with seeded(0, "example for MLflow"):
        rows = rows_from(record.task.module.data(folder, "train"), torch.device("cpu"), "the example")
        inputs, _ = next(rows.batches(ROWS))
    return zeros_like(inputs)


def zeros_like(inputs: Any) -> Any:
    """The same structure, of `ROWS` rows of zeros."""
    if isinstance(inputs, dict):
        return {name: zeros_like(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(zeros_like(value) for value in inputs)
    tensor = torch.as_tensor(inputs)
    return torch.zeros((ROWS, *tensor.shape[1:]), dtype=tensor.dtype)


def save_pt2(module: nn.Module, example: Any, folder: Path) -> None:
    """Write an MLflow model; raises NotExportable, or what torch.export raises."""
    import mlflow.pytorch

    if isinstance(example, dict):
        raise NotExportable("a model with named inputs has no MLflow form of the format pt2")
    arrays = [value.numpy() for value in leaves(example)]
    with torch.no_grad():
        outputs = call(module, example)
    mlflow.pytorch.save_model(
        module,
        folder,
        input_example=arrays[0] if len(arrays) == 1 else arrays,
        signature=signature(arrays, outputs),
        serialization_format="pt2",
        pip_requirements=requirements(),
    )
    forget_paths(folder / "data" / "model.pt2")
    refuse_pickle(folder)


def signature(arrays: list[Any], outputs: Any) -> Any:
    """The shapes and dtypes that go in and come out; −1 is the number of rows."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def spec(array: Any, name: str | None = None) -> TensorSpec:
        return TensorSpec(array.dtype, (-1, *array.shape[1:]), name)

    single = len(arrays) == 1
    inputs = Schema([spec(array, None if single else f"input_{i}") for i, array in enumerate(arrays)])
    known = isinstance(outputs, Tensor) and outputs.ndim > 0
    return ModelSignature(inputs=inputs, outputs=Schema([spec(outputs.numpy())]) if known else None)


def requirements() -> list[str]:
    """What loads the model. Said here, MLflow need not find it out by running the model in another process."""
    from importlib.metadata import version

    return [f"{name}=={version(name).partition('+')[0]}" for name in ("numpy", "torch")]


def forget_paths(file: Path) -> None:
    """Take out of an exported model where on this machine each operation's source stands."""
    program = torch.export.load(file)
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    torch.export.save(program, file)


def refuse_pickle(folder: Path) -> None:
    """Raise NotExportable if torch.export wrote a weight or a constant as a pickle (tensor subclasses are).

    What remains in torch's own format is the example, zeros in plain tensors, which torch reads with
    `weights_only`; MLflow's check with MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false accepts it.
    """
    for file in folder.rglob("*.pt2"):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                entries = json.loads(archive.read(name))["config"] if name.endswith("_config.json") else {}
                pickled = [key for key, entry in entries.items() if entry["use_pickle"]]
                if pickled:
                    raise NotExportable(f"torch.export would pickle {pickled[0]!r}")


def save_weights(record: Record, state: State, folder: Path) -> None:
    """Write the parameters as safetensors, and the source that makes the model."""
    import shutil

    from safetensors.torch import save_file

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in state.params.items()}, folder / "model.safetensors")
    (folder / f"{record.task.name}.py").write_text(record.task.source, encoding="utf-8")
