"""The credential of whoever started the workspace."""

import time
from typing import Any

from azure.core.credentials import AccessToken

from sim.azureml.state import WorkspaceState
from sim.azureml.tokens import bearer

MINUTES = 60


class LocalCredential:
    """An Azure credential (`get_token`) that the workspace's own key backs; never sent anywhere but to the workspace.

    What `DefaultAzureCredential` gets by a call, this has at hand.
    """

    def __init__(self, state: WorkspaceState) -> None:
        self._state = state

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """A token for the resource of the first scope, `<resource>/.default`."""
        audience = scopes[0].removesuffix("/.default") if scopes else self._state.settings.url
        return AccessToken(bearer(self._state, audience, MINUTES), int(time.time()) + MINUTES * 60)
