"""A local AzureML workspace, to which the unmodified `azure.ai.ml.MLClient` submits over HTTPS on loopback."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.azureml.workspace import LocalWorkspace as LocalWorkspace

__all__ = ["LocalWorkspace"]


def __getattr__(name: str) -> Any:
    if name != "LocalWorkspace":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sim.azureml.workspace import LocalWorkspace

    return LocalWorkspace
