"""How a step that runs elsewhere tells what happened: through the MLflow run of its whole pipeline.

Figures become metrics `<party>/<metric>` with `step=round`: few fixed names, as AzureML takes at most 50 on one run.
With many silos each silo's series goes to a child run of its own, and the root keeps the federation's. What is more
than a number, a failure with its traceback, becomes a tag that holds the event.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from fl_kit.bounded import parse_json
from fl_kit.errors import StoreError, TrackingError
from fl_kit.events import NOTE as SAID
from fl_kit.events import (
    SILO_LATE,
    SILO_LEFT_OUT,
    STEP_FAILED,
    STOPPED_EARLY,
    Event,
    Value,
    clean,
    is_metric,
    metric_name,
    now,
)
from fl_kit.job import Job
from fl_kit.mlflow_rest import MlflowServer
from fl_kit.plan import ORCHESTRATOR, Plan, Step

LEFT_OUT = "left_out"
"""A silo's metric that is 1 in a round in which it does not count."""
DONE = f"{ORCHESTRATOR}/done"
"""The metric that says which of the orchestrator's steps are done, counted from 0; its time is when."""
NOTE = "fl_kit.note"
"""Tags `fl_kit.note.<party>.<slot>` hold events as JSON."""
SERIES = "fl_kit.series"
"""The tag of a child run that holds one silo's figures: the silo's name."""

NAMES, TAGS, ROWS, LENGTH = 50, 40, 200, 1000
"""What AzureML takes: metric names and tags of one run, rows of one batch, characters of one tag's value."""

ABSENT = "it delivered no update"


def metric_names(job: Job, silos: int) -> int:
    """How many metric names a run has on its root, if all silos' figures are there."""
    measured = len({*job.task.metrics, "loss"}) * (2 if job.strategy.personal else 1)
    each = measured + len(("train_loss", "update_norm", LEFT_OUT))
    return each * (silos + 1) + 1


def crowded(job: Job, silos: int) -> bool:
    """Whether silos' series go to child runs, since the root could not hold their names."""
    return metric_names(job, silos) > NAMES


@dataclass(frozen=True, kw_only=True)
class Reporter:
    """Tells one run's root.

    root      the run of the whole pipeline
    server    where it is
    plan      who takes part
    separate  whether each silo's figures go to a run of its own
    """

    root: str
    server: MlflowServer
    plan: Plan
    separate: bool

    @classmethod
    def of_environment(
        cls, job: Job, plan: Plan, environ: Mapping[str, str] = os.environ, *, patience: float = 30.0
    ) -> "Reporter":
        """The reporter that AzureML's variables describe; raises TrackingError if this is no AzureML step.

        patience  seconds for which it waits for a server that is down
        """
        missing = [name for name in ("MLFLOW_TRACKING_URI", "AZUREML_ROOT_RUN_ID") if not environ.get(name)]
        if missing:
            raise TrackingError(f"this is no step of AzureML: {' and '.join(missing)} not set")
        token = environ.get("MLFLOW_TRACKING_TOKEN", "")
        server = MlflowServer(url=environ["MLFLOW_TRACKING_URI"], token=lambda: token, patience=patience)
        silos = len(plan.silos)
        return cls(root=environ["AZUREML_ROOT_RUN_ID"], server=server, plan=plan, separate=crowded(job, silos))

    def tell(self, events: Iterable[Event], *, done: Step | None = None, at: float | None = None) -> None:
        """Tell what happened in a step, and that it is done; raises TrackingError if that cannot be told.

        at  when it was done, in seconds since the epoch; now by default
        """
        events = list(events)
        runs: dict[str, list[dict[str, Any]]] = {self.root: []}
        series = self._series() if self.separate and any(map(is_figure, events)) else {}
        clock = 0
        for event in events:
            if is_figure(event):
                clock = max(int(event.time * 1000), clock + 1)  # their order is the events' order
                runs.setdefault(series.get(event.party, self.root), []).append(as_metric(event, clock))
        if done is not None and done.party == ORCHESTRATOR:
            when = max(int((now() if at is None else at) * 1000), clock + 1)
            row = {"key": DONE, "value": 1.0, "timestamp": when, "step": self._index(done)}
            runs[self.root].append(row)
        notes = [event for event in events if worth_a_note(event)]
        for run, metrics in sorted(runs.items(), key=lambda item: item[0] == self.root):  # "done" comes last of all
            tags = self._tags(notes) if run == self.root and notes else []
            for batch in batches(metrics) if metrics or tags else ():
                self.server.post("runs/log-batch", {"run_id": run, "metrics": batch, "params": [], "tags": tags})
                tags = []

    def _index(self, step: Step) -> int:
        """The how manieth of the orchestrator's steps this is."""
        return [other.id for other in self.plan.steps if other.party == ORCHESTRATOR].index(step.id)

    def _tags(self, notes: Iterable[Event]) -> list[dict[str, str]]:
        """Each note in the next slot of its party: a run has few tags, so the oldest notes give way."""
        found = self.server.get("runs/get", run_id=self.root)["run"].get("data", {}).get("tags", [])
        taken = [tag["key"] for tag in found if tag["key"].startswith(f"{NOTE}.")]
        slots = max(1, TAGS // (len(self.plan.silos) + 1))
        numbers = {tag["key"]: read_note(tag)[0] for tag in found if tag["key"] in taken}
        tags: dict[str, str] = {}
        for event in notes:
            own = [n for key, n in numbers.items() if key.startswith(f"{NOTE}.{event.party}.")]
            number = max(own, default=0) + 1
            key = f"{NOTE}.{event.party}.{number % slots}"
            numbers[key] = number
            tags[key] = note(event, number)
        return [{"key": key, "value": value} for key, value in tags.items()]

    def _series(self) -> dict[str, str]:
        """Silo → the child run of its figures, made if there is none yet."""
        root = self.server.get("runs/get", run_id=self.root)["run"]["info"]
        query = {"experiment_ids": [root["experiment_id"]], "filter": series_of(self.root), "max_results": 1000}
        found = series_runs(self.server.post("runs/search", query).get("runs", []))
        for silo in self.plan.silos:
            if silo not in found:
                tags = {"mlflow.parentRunId": self.root, "mlflow.runName": silo, SERIES: silo}
                body = {
                    "experiment_id": root["experiment_id"],
                    "run_name": silo,
                    "start_time": root.get("start_time", 0),
                    "tags": [{"key": key, "value": value} for key, value in tags.items()],
                }
                found[silo] = self.server.post("runs/create", body)["run"]["info"]["run_id"]
        return found


def is_figure(event: Event) -> bool:
    """Whether an event is told as a metric."""
    return is_metric(event) or event.name == SILO_LEFT_OUT


def worth_a_note(event: Event) -> bool:
    return event.name in (STEP_FAILED, SILO_LATE, STOPPED_EARLY) or (
        event.name == SILO_LEFT_OUT and event.value != ABSENT
    )


def as_metric(event: Event, clock: int) -> dict[str, Any]:
    if event.name == SILO_LEFT_OUT:
        key, value = f"{event.party}/{LEFT_OUT}", 1.0
    else:
        key, value = f"{event.party}/{metric_name(event)}", float(event.value)  # type: ignore[arg-type]  # a figure's is a number
    return {"key": key, "value": number(value), "timestamp": clock, "step": event.round}


def number(value: float) -> float | str:
    """A number as JSON takes it: the words of protocol buffers for what is not finite."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def note(event: Event, number: int) -> str:
    """The event as JSON of bounded length: of a long traceback the last lines remain, of a message the first."""
    value = clean(event.value)
    for room in range(800, -1, -50):
        shortened = {**value, "detail": last(str(value["detail"]), room)} if long(value) else value
        text = json.dumps({"number": number, "event": replace(event, value=shortened).to_json()})
        if len(text) <= LENGTH:
            return text
    short = {**value, "detail": "", "message": str(value["message"])[:300]} if long(value) else value
    return json.dumps({"number": number, "event": replace(event, value=short).to_json()})[:LENGTH]


def long(value: Value) -> TypeGuard[dict[str, Any]]:
    """Whether an event's value is that of a failure, with a message and a traceback."""
    return isinstance(value, dict) and "detail" in value


def read_note(tag: Mapping[str, str]) -> tuple[int, Event]:
    """The number and the event of a note; of a tag that holds none, whoever wrote it, 0 and an event that says so."""
    try:
        found = parse_json(tag["value"])
        number, event = found["number"], Event.from_json(found["event"])
        if type(number) is not int:
            raise TypeError(f"its number is {number!r:.40}")
        return number, event
    except (ValueError, KeyError, TypeError, StoreError) as error:
        said = f"the tag {tag['key']!r:.80} of the MLflow run holds no event: {error!s:.200}"
        return 0, Event(time=now(), round=0, party=ORCHESTRATOR, name=SAID, value=said)


def last(text: str, room: int) -> str:
    return text if len(text) <= room else f"…{text[len(text) - room :]}" if room else ""


def batches(rows: list[Any]) -> Iterator[list[Any]]:
    """In pieces that a server takes; one empty piece for no rows."""
    for start in range(0, max(1, len(rows)), ROWS):
        yield rows[start : start + ROWS]


def series_of(root: str) -> str:
    """The search for the child runs of a run."""
    return f"tags.mlflow.parentRunId = '{root}'"


def series_runs(runs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Silo → run id, of the runs that hold a silo's series."""
    found: dict[str, str] = {}
    for run in runs:
        for tag in run.get("data", {}).get("tags", []):
            if tag["key"] == SERIES:
                found[tag["value"]] = run["info"]["run_id"]
    return found
