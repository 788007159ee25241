"""fl-kit: cross-silo federated learning from a notebook.

    job = Job(task=heart, strategy=FedProx(mu=0.01, lr=0.03), rounds=20, seed=7)
    run = job.run(federation, on=InProcess())
    watch(run)

The names below are loaded when they are first used, so `import fl_kit` costs almost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fl_kit.errors import FlKitError as FlKitError
    from fl_kit.job import Job as Job
    from fl_kit.regression.recording import record as record
    from fl_kit.regression.recording import record_run as record_run
    from fl_kit.silo import Federation as Federation
    from fl_kit.silo import Orchestrator as Orchestrator
    from fl_kit.silo import Silo as Silo
    from fl_kit.silo_facts import SiloFacts as SiloFacts
    from fl_kit.standardize import Standardize as Standardize
    from fl_kit.strategies import FedAvg as FedAvg
    from fl_kit.strategies import FedProx as FedProx
    from fl_kit.strategies import Scaffold as Scaffold
    from fl_kit.task import Task as Task
    from fl_kit.watcher import watch as watch
    from fl_kit.widgets.picker import SiloPicker as SiloPicker

HOMES = {
    "Federation": "fl_kit.silo",
    "FedAvg": "fl_kit.strategies",
    "FedProx": "fl_kit.strategies",
    "FlKitError": "fl_kit.errors",
    "Job": "fl_kit.job",
    "Orchestrator": "fl_kit.silo",
    "Scaffold": "fl_kit.strategies",
    "Silo": "fl_kit.silo",
    "SiloFacts": "fl_kit.silo_facts",
    "SiloPicker": "fl_kit.widgets.picker",
    "Standardize": "fl_kit.standardize",
    "Task": "fl_kit.task",
    "record": "fl_kit.regression.recording",
    "record_run": "fl_kit.regression.recording",
    "watch": "fl_kit.watcher",
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
    return sorted({*globals(), *HOMES})


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext fl_kit` brings the cell magic `%%silo_module`."""
    from fl_kit.magics import register

    register(shell)
