"""Run history: one record for each job and each of its steps."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sim.azureml.blob_store import Place
from sim.azureml.places import short_uri
from sim.azureml.state import Body, WorkspaceState

LOG = "user_logs/std_log.txt"
PIPELINE_LOG = "logs/azureml/executionlogs.txt"
"""Names of logs that the SDK streams: of a command, and of a pipeline."""

SHORTEST = 1.0
"""Seconds that a job takes at least: the SDK streams no logs of one that has ended before it first looks."""

NOT_STARTED = "NotStarted"
QUEUED = "Queued"
PREPARING = "Preparing"
RUNNING = "Running"
FINALIZING = "Finalizing"
COMPLETED = "Completed"
FAILED = "Failed"
CANCELED = "Canceled"
CANCEL_REQUESTED = "CancelRequested"
NOT_RESPONDING = "NotResponding"
ENDED = frozenset({COMPLETED, FAILED, CANCELED})


def begin(state: WorkspaceState, run: str, *, root: str, parent: str = "", node: str = "", **more: Any) -> Body:
    """A new record; `node` is the step's path in the pipeline, empty for the job itself."""
    body: Body = {
        "runId": run,
        "parentRunId": parent or None,
        "rootRunId": root,
        "status": NOT_STARTED,
        "displayName": node.rpartition("/")[2] or run,
        "createdUtc": now(),
        "startTimeUtc": None,
        "endTimeUtc": None,
        "tags": {},
        "properties": {},
        "outputs": {},
        "places": {},
        "error": None,
        "node": node,
    }
    return state.documents.put("runs", run, body={**body, **more})


def move(state: WorkspaceState, run: str, status: str, **changes: Any) -> None:
    """A record's next status, with the time of its start and its end. What has ended stays as it is."""
    with moving:
        current = state.documents.get("runs", run) or {}
        if current.get("status") in ENDED:
            return
        if status == RUNNING and not current.get("startTimeUtc"):
            changes["startTimeUtc"] = now()
        if status in ENDED:
            changes["endTimeUtc"] = now()
        state.documents.update("runs", run, status=status, **changes)


moving = threading.Lock()
"""A cancel that comes while a run ends does not bring it back to life."""


def linger(state: WorkspaceState, run: str) -> None:
    """Keep a job that is about to end Finalizing until it is SHORTEST seconds old."""
    move(state, run, FINALIZING)
    began = datetime.fromisoformat((state.documents.get("runs", run) or {})["createdUtc"])
    time.sleep(max(0.0, SHORTEST - (datetime.now(UTC) - began).total_seconds()))


def outputs(state: WorkspaceState, run: str, kinds: Mapping[str, str], places: Mapping[str, Place]) -> Body:
    """What a record says of a run's outputs: their asset ids, in the service's own spelling of kinds, and places."""
    return {
        "outputs": {
            name: {"assetId": asset_id(state, run, name), "type": SPELLED.get(kinds[name], kinds[name])}
            for name in places
        },
        "places": {name: short_uri(place) for name, place in places.items()},
    }


def asset_id(state: WorkspaceState, run: str, output: str) -> str:
    names = state.settings
    return f"azureml://locations/{names.location}/workspaces/{names.name}/data/{asset_name(run, output)}/versions/1"


def asset_name(run: str, output: str) -> str:
    return f"azureml_{run}_output_data_{output}"


SPELLED = {"uri_folder": "UriFolder", "uri_file": "UriFile", "mltable": "MLTable"}
"""Run history's own spelling. azure-ai-ml 1.35.0 to 1.35.2 do not know it, so that `jobs.download(output_name=…)`
silently downloads nothing, here as on Azure."""


def fail(state: WorkspaceState, run: str, message: str, *, code: str = "UserError") -> None:
    """A record that has failed, and why."""
    error = {"error": {"code": code, "message": message, "messageFormat": "", "messageParameters": {}, "details": []}}
    move(state, run, FAILED, error=error)


def status_of(state: WorkspaceState, run: str) -> str:
    """A record's status; empty if there is none."""
    body = state.documents.get("runs", run)
    return "" if body is None else str(body["status"])


def children(state: WorkspaceState, run: str) -> list[Body]:
    """The records just below one, in the order in which they began."""
    return [body for _, body in state.documents.list("runs") if body["parentRunId"] == run]


def end_what_was_running(state: WorkspaceState) -> None:
    """Mark as failed what a stopped workspace left unfinished."""
    for key, body in state.documents.list("runs"):
        if body["status"] not in ENDED:
            fail(state, key[1], "the workspace was stopped while this ran", code="WorkspaceStopped")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
