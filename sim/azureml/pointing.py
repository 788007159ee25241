"""Points this process's clients at a workspace, and back: environment variables, and the config.json that they read."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from fl_kit.files import write_text
from sim.azureml.identity import cloud_name, identity_secret
from sim.azureml.state import Settings, WorkspaceState
from sim.azureml.tokens import bearer

CONFIG = Path(".azureml") / "config.json"
"""Where `MLClient.from_config` looks first, from the working folder upwards."""

WRITTEN_BY = "fl-kit local workspace"

MLFLOW_TOKEN_MINUTES = 7 * 24 * 60

HIDDEN = (
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TENANT_ID",
    "AZURE_TOKEN_CREDENTIALS",
    "AZURE_USERNAME",
    "AZUREML_DEV_URL_MFE",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IMDS_ENDPOINT",
)
"""Variables that would lead a credential elsewhere before it asks the workspace."""


def variables(state: WorkspaceState, bundle: Path) -> dict[str, str]:
    """The environment variables that point any MLClient, `DefaultAzureCredential` and mlflow client at a workspace."""
    url = state.settings.url
    direct = merged(os.environ.get("NO_PROXY") or os.environ.get("no_proxy", ""), "127.0.0.1")
    return {
        "ARM_CLOUD_METADATA_URL": f"{url}/metadata/endpoints?api-version=2019-05-01",
        # The SDK sets it from the variable above and keeps to it from then on; so it is set, and restored, here.
        "AZUREML_CURRENT_CLOUD": cloud_name(state.settings),
        "AZUREML_RUN_POLLING_INTERVAL_MAX": "2",
        "MLFLOW_TRACKING_TOKEN": bearer(state, url, MLFLOW_TOKEN_MINUTES),
        "MSI_ENDPOINT": f"{url}/msi/token",
        "MSI_SECRET": identity_secret(state),
        "NO_PROXY": direct,
        "no_proxy": direct,
        "REQUESTS_CA_BUNDLE": str(bundle),
    }


def merged(hosts: str, host: str) -> str:
    return ",".join(dict.fromkeys([*filter(None, hosts.split(",")), host]))


def config(settings: Settings) -> str:
    """The text of the config.json that names a workspace."""
    names = {
        "subscription_id": settings.subscription,
        "resource_group": settings.resource_group,
        "workspace_name": settings.name,
        "written_by": WRITTEN_BY,
    }
    return json.dumps(names, indent=4) + "\n"


ENTERED: list["Pointing"] = []
"""Those in force in this process, in the order in which they were entered: the last one's variables are set."""


class Pointing:
    """Variables and config.json of a workspace, in force between `enter` and `leave`; what was before is restored.

    Several may overlap and end in any order: the one that was entered last of those that are left is in force.
    """

    def __init__(self, variables: Mapping[str, str], config: str) -> None:
        self.variables = dict(variables)
        self.config = config
        self._file = Path.cwd() / CONFIG
        self._before: dict[str, str | None] = {}
        self._config_before: str | None = None

    def enter(self) -> None:
        """Set the variables and write the file, unless there is one that somebody else wrote."""
        self._before = {name: os.environ.get(name) for name in [*self.variables, *HIDDEN]}
        for name in HIDDEN:
            os.environ.pop(name, None)
        os.environ.update(self.variables)
        self._config_before = write_config(self._file, self.config)
        ENTERED.append(self)

    def leave(self) -> None:
        """Put everything back as it was; nothing happens if it was not entered, or has been left."""
        if self not in ENTERED:
            return
        place = ENTERED.index(self)
        later = ENTERED[place + 1 :]
        del ENTERED[place]
        if later:  # what it found is what the next one is to put back
            later[0]._before = self._before
        else:
            restore(self._before)
        heir = next((other for other in later if other._config_before == self.config), None)
        if heir is not None:  # the file is the next one's
            heir._config_before = self._config_before
        else:
            remove_config(self._file, self.config, self._config_before)


def restore(variables: Mapping[str, str | None]) -> None:
    """Set variables, and unset those that are to be none."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def write_config(file: Path, text: str) -> str | None:
    """Write a workspace's config.json, and give what was there before; one that somebody else wrote is left alone."""
    before = file.read_text(encoding="utf-8") if file.exists() else None
    if before is not None and WRITTEN_BY not in before:
        message = f"{file} names another workspace and was left alone: give MLClient.from_config a path"
        warnings.warn(message, stacklevel=5)
        return None
    file.parent.mkdir(exist_ok=True)
    write_text(file, text)
    return before


def remove_config(file: Path, text: str, before: str | None) -> None:
    """Take a config.json away if it is the one with this text, and put back what was there before."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        return
    if before is not None:
        write_text(file, before)
        return
    file.unlink()
    if not any(file.parent.iterdir()):
        file.parent.rmdir()
