"""What a run needs of an `MLClient`, and the only place that knows the SDK's ways."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fl_kit.azureml.downloads import download_message
from fl_kit.errors import FlKitError
from fl_kit.mlflow_rest import MlflowServer, trust

TIMEOUT = 60.0
LOG_LIMIT, LOG_KEPT, LOG_PART = 256 << 20, 8 << 20, 1 << 20
"""Bytes of a log that are read at most, that are kept of its end, and that are read at a time: a silo's step may write
what it likes."""


class Workspace:
    """A workspace, through a client of the SDK that the user made."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._scope = ""
        self._tracking = ""

    @property
    def name(self) -> str:
        """The workspace's own name."""
        return str(self.client.workspace_name)

    def tracking(self) -> MlflowServer:
        """The workspace's MLflow, asked as the user; the SDK renews the token when it is old."""
        if not self._tracking:
            self._tracking = self.client.workspaces.get(self.client.workspace_name).mlflow_tracking_uri
        return MlflowServer(url=self._tracking, token=self._token, patience=0.0)

    def job(self, name: str) -> Any | None:
        """A job that was submitted, or None."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return self.client.jobs.get(name)
        except ResourceNotFoundError:
            return None

    def cancel(self, name: str) -> None:
        """Ask for a job to be cancelled; does not wait until it is."""
        self.client.jobs.begin_cancel(name)

    def download(self, uri: str, folder: Path) -> bool:
        """Bring the message in a folder of a datastore here; False if there is none. Raises StoreError if it cannot."""
        return download_message(self.client, uri, folder)

    def children(self, name: str) -> Iterator[Any]:
        """The direct children of a job."""
        yield from self.client.jobs.list(parent_job_name=name)

    def details(self, name: str) -> Any:
        """Run history's record of a job or step: `error`, `log_files`, `end_time_utc`."""
        return self.client.jobs._runs_operations.get_run_details(name)

    def log(self, name: str) -> str:
        """What a step has said so far; an empty text before it said anything."""
        return self.log_of(name, self.details(name))

    def log_of(self, name: str, details: Any) -> str:
        """The same, of a step whose record is at hand; raises FlKitError for a log that cannot be read."""
        files = {str(file): str(url) for file, url in (details.log_files or {}).items()}
        chosen = next((url for file, url in sorted(files.items()) if file.endswith("std_log.txt")), None)
        if chosen is None:
            return ""
        try:
            with urllib.request.urlopen(chosen, timeout=TIMEOUT, context=trust()) as answer:
                return end_of(answer).decode("utf-8", "replace")
        except OSError as error:
            raise FlKitError(f"the log of {name} cannot be read: {error}") from error

    def _token(self) -> str:
        if not self._scope:
            from azure.ai.ml._azure_environments import _get_base_url_from_metadata, _resource_to_scopes

            self._scope = _resource_to_scopes(_get_base_url_from_metadata())[0]
        return str(self.client._credential.get_token(self._scope).token)


def end_of(log: BinaryIO) -> bytes:
    """The last part of a log, from the beginning of a line on; all of one that is not large."""
    read, kept = 0, bytearray()
    while read < LOG_LIMIT and (part := log.read(LOG_PART)):
        read += len(part)
        kept += part
        del kept[: max(0, len(kept) - LOG_KEPT)]
    whole = read == len(kept)
    return bytes(kept) if whole else bytes(kept).partition(b"\n")[2]
