"""The environment variables of a step, as AzureML sets them."""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sim.azureml.job_step import JobStep, Value
from sim.azureml.state import WorkspaceState
from sim.azureml.tokens import STEP_AUDIENCE, bearer

KEPT = ("LANG", "LANGUAGE", "TZ", "SYSTEMROOT", "COMSPEC", "PATHEXT")
"""What a step has of the workspace's own environment, beside limits of threads; nothing that may be a secret."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

TOKEN_MINUTES = 30 * 24 * 60
"""As long as a job may live on AzureML."""


@dataclass(frozen=True, kw_only=True)
class StepPlace:
    """Where a step runs, and with what.

    run, job  ids of the step's own record and of the job's
    folder    the step's own: `work` is where it starts; `home`, `temporary`, and `changes` of its code lie beside it
    inputs    name → path, or the value as text; what is absent is not in it
    outputs   name → path
    """

    run: str
    job: str
    experiment: str
    folder: Path
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    @property
    def changes(self) -> Path:
        return self.folder / "changes"


def host_variables() -> dict[str, str]:
    """What every step has of the machine: this Python first on the path, language, time zone, threads."""
    system = os.environ.get("PATH", os.defpath) if os.name == "nt" else "/usr/local/bin:/usr/bin:/bin"
    kept = {name: os.environ[name] for name in (*KEPT, *THREADS) if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    return {**kept, "PATH": os.pathsep.join((str(Path(sys.executable).parent), system)), "PYTHONUNBUFFERED": "1"}


def step_variables(state: WorkspaceState, step: JobStep, place: StepPlace) -> dict[str, str]:
    """The whole environment of a step; the job's own variables win."""
    return {
        **host_variables(),
        "HOME": str(place.home),
        "TMPDIR": str(place.temporary),
        **trust(state),
        **workspace_variables(state, place),
        **metrics_variables(state, place),
        **compute_variables(step, place),
        **input_variables(step, place),
        **{name: str(value) for name, value in step.variables.items()},
    }


def trust(state: WorkspaceState) -> dict[str, str]:
    """Certificates, for requests and for Python's own ssl."""
    file = bundle(state)
    return {"REQUESTS_CA_BUNDLE": str(file), "SSL_CERT_FILE": str(file)} if file.exists() else {}


def bundle(state: WorkspaceState) -> Path:
    return state.root / "tls" / "bundle.pem"


def workspace_variables(state: WorkspaceState, place: StepPlace) -> dict[str, str]:
    names = state.settings
    token, expiry = bearer(state, STEP_AUDIENCE, minutes=TOKEN_MINUTES), time.time() + TOKEN_MINUTES * 60
    return {
        "AZUREML_RUN_ID": place.run,
        "AZUREML_ROOT_RUN_ID": place.job,
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(round(expiry)),
        "AZUREML_EXPERIMENT_ID": place.experiment,
        "AZUREML_EXPERIMENT_SCOPE": f"{names.scope}/experiments/{place.experiment}",
        "AZUREML_ARM_SUBSCRIPTION": names.subscription,
        "AZUREML_ARM_RESOURCEGROUP": names.resource_group,
        "AZUREML_ARM_WORKSPACE_NAME": names.name,
        "AZUREML_ARM_PROJECT_NAME": place.experiment,
        "AZUREML_WORKSPACE_ID": names.name,
        "AZUREML_WORKSPACE_SCOPE": names.scope,
        "AZUREML_SERVICE_ENDPOINT": names.url,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{names.url}/discovery",
        "AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": names.url,
    }


def metrics_variables(state: WorkspaceState, place: StepPlace) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": f"{state.settings.url}/mlflow/v2.0{state.settings.scope}",
        "MLFLOW_TRACKING_TOKEN": bearer(state, STEP_AUDIENCE, minutes=TOKEN_MINUTES),
        "MLFLOW_RUN_ID": place.run,
        "MLFLOW_EXPERIMENT_NAME": place.experiment,
    }


def compute_variables(step: JobStep, place: StepPlace) -> dict[str, str]:
    context = {"cluster_name": step.compute, "node_count": step.instances}
    return {
        "AZUREML_CR_COMPUTE_CONTEXT": json.dumps(context),
        "AZUREML_CR_EXECUTION_WORKING_DIR_PATH": str(place.folder),
        "NODE_NAME": f"{step.compute}-0",
    }


def input_variables(step: JobStep, place: StepPlace) -> dict[str, str]:
    values = {name: place.inputs[name] for name, source in step.inputs.items() if isinstance(source, Value)}
    folders = {name: path for name, path in place.inputs.items() if name not in values}
    return {
        **{f"AZUREML_PARAMETER_{name}": value for name, value in values.items()},
        **{f"AZURE_ML_INPUT_{name}": path for name, path in folders.items()},
        **{f"AZURE_ML_OUTPUT_{name}": path for name, path in place.outputs.items()},
    }


def rank_variables(step: JobStep, rank: int, port: int) -> dict[str, str]:
    """What torch.distributed reads, where a step is more than one process; all of them run on this machine."""
    world = step.instances * step.processes
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank % step.processes),
        "LOCAL_WORLD_SIZE": str(step.processes),
        "NODE_RANK": str(rank // step.processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
