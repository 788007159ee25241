"""fl-kit: cross-silo federated learning from a notebook.

    job = Job(task=heart, strategy=FedProx(mu=0.01, lr=0.03), rounds=20, seed=7)
    run = job.run(federation, on=InProcess())
    watch(run)

The names below are loaded when they are first used, so `import fl_kit` costs almost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fl_kit.aggregators import Bulyan as Bulyan
    from fl_kit.aggregators import FLTrust as FLTrust
    from fl_kit.aggregators import GeometricMedian as GeometricMedian
    from fl_kit.aggregators import Krum as Krum
    from fl_kit.aggregators import Mean as Mean
    from fl_kit.aggregators import Median as Median
    from fl_kit.aggregators import NormBounded as NormBounded
    from fl_kit.aggregators import TrimmedMean as TrimmedMean
    from fl_kit.approvals import approve as approve
    from fl_kit.audit import verify_audit as verify_audit
    from fl_kit.bundle import write_bundle as write_bundle
    from fl_kit.errors import FlKitError as FlKitError
    from fl_kit.job import Job as Job
    from fl_kit.policy import Policy as Policy
    from fl_kit.regression.recording import record as record
    from fl_kit.regression.recording import record_run as record_run
    from fl_kit.schedules import constant as constant
    from fl_kit.schedules import cosine as cosine
    from fl_kit.schedules import exponential as exponential
    from fl_kit.schedules import step_decay as step_decay
    from fl_kit.schedules import warmup as warmup
    from fl_kit.silo import Federation as Federation
    from fl_kit.silo import Orchestrator as Orchestrator
    from fl_kit.silo import Silo as Silo
    from fl_kit.silo_facts import SiloFacts as SiloFacts
    from fl_kit.standardize import Standardize as Standardize
    from fl_kit.stopping import Plateau as Plateau
    from fl_kit.stopping import Target as Target
    from fl_kit.strategies import Cyclic as Cyclic
    from fl_kit.strategies import Ditto as Ditto
    from fl_kit.strategies import FedAdagrad as FedAdagrad
    from fl_kit.strategies import FedAdam as FedAdam
    from fl_kit.strategies import FedAvg as FedAvg
    from fl_kit.strategies import FedBN as FedBN
    from fl_kit.strategies import FedDyn as FedDyn
    from fl_kit.strategies import FedNova as FedNova
    from fl_kit.strategies import FedPer as FedPer
    from fl_kit.strategies import FedProx as FedProx
    from fl_kit.strategies import FedSGD as FedSGD
    from fl_kit.strategies import FedYogi as FedYogi
    from fl_kit.strategies import Moon as Moon
    from fl_kit.strategies import QFedAvg as QFedAvg
    from fl_kit.strategies import Scaffold as Scaffold
    from fl_kit.task import Task as Task
    from fl_kit.watcher import watch as watch
    from fl_kit.widgets.picker import SiloPicker as SiloPicker
    from fl_kit.widgets.run_panel import RunPanel as RunPanel

HOMES = {
    "Bulyan": "fl_kit.aggregators",
    "FLTrust": "fl_kit.aggregators",
    "FedAdagrad": "fl_kit.strategies",
    "FedAdam": "fl_kit.strategies",
    "FedAvg": "fl_kit.strategies",
    "FedDyn": "fl_kit.strategies",
    "FedNova": "fl_kit.strategies",
    "FedProx": "fl_kit.strategies",
    "FedSGD": "fl_kit.strategies",
    "FedYogi": "fl_kit.strategies",
    "Federation": "fl_kit.silo",
    "FlKitError": "fl_kit.errors",
    "GeometricMedian": "fl_kit.aggregators",
    "Job": "fl_kit.job",
    "Krum": "fl_kit.aggregators",
    "Mean": "fl_kit.aggregators",
    "Median": "fl_kit.aggregators",
    "NormBounded": "fl_kit.aggregators",
    "Orchestrator": "fl_kit.silo",
    "QFedAvg": "fl_kit.strategies",
    "RunPanel": "fl_kit.widgets.run_panel",
    "Scaffold": "fl_kit.strategies",
    "Silo": "fl_kit.silo",
    "SiloFacts": "fl_kit.silo_facts",
    "SiloPicker": "fl_kit.widgets.picker",
    "Standardize": "fl_kit.standardize",
    "Plateau": "fl_kit.stopping",
    "Target": "fl_kit.stopping",
    "Cyclic": "fl_kit.strategies",
    "Ditto": "fl_kit.strategies",
    "FedBN": "fl_kit.strategies",
    "FedPer": "fl_kit.strategies",
    "Moon": "fl_kit.strategies",
    "Task": "fl_kit.task",
    "TrimmedMean": "fl_kit.aggregators",
    "Policy": "fl_kit.policy",
    "approve": "fl_kit.approvals",
    "constant": "fl_kit.schedules",
    "cosine": "fl_kit.schedules",
    "exponential": "fl_kit.schedules",
    "record": "fl_kit.regression.recording",
    "record_run": "fl_kit.regression.recording",
    "step_decay": "fl_kit.schedules",
    "verify_audit": "fl_kit.audit",
    "warmup": "fl_kit.schedules",
    "watch": "fl_kit.watcher",
    "write_bundle": "fl_kit.bundle",
}

__all__ = [*HOMES]  # noqa: PLE0604
__version__ = "0.1.0.dev0"


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'fl_kit' has no attribute {name!r}")
    value = getattr(import_module(HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*HOMES, "__version__"])


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext fl_kit` brings the cell magic `%%silo_module`."""
    from fl_kit.magics import register

    register(shell)
