"""The same job on Azure Machine Learning: real silos, one pipeline step for each step of the plan.

    federation = federation_in(client)              # a proposal, for a person to correct
    check(job, federation, client)                  # what would go wrong, each with its cure
    run = job.run(federation, on=AzureML(client))
    register(run, client, "heart-disease")          # the final model, with the run it comes from

`client` is an `azure.ai.ml.MLClient`. The names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fl_kit.azureml.backend import AzureML as AzureML
    from fl_kit.azureml.discover import federation_in as federation_in
    from fl_kit.azureml.known_silos import silo_facts as silo_facts
    from fl_kit.azureml.preflight import check as check
    from fl_kit.azureml.registration import register as register

HOMES = {
    "AzureML": "fl_kit.azureml.backend",
    "check": "fl_kit.azureml.preflight",
    "federation_in": "fl_kit.azureml.discover",
    "register": "fl_kit.azureml.registration",
    "silo_facts": "fl_kit.azureml.known_silos",
}

__all__ = [*HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'fl_kit.azureml' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*HOMES])
