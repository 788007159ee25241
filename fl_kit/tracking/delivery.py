"""Brings one MLflow server up to date with one run; each call goes on where the last one broke off."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fl_kit.events import GLOBAL, Event, is_metric, metric_name
from fl_kit.messages import State
from fl_kit.tracking.ledger import ROOT, Ledger
from fl_kit.tracking.model import save_model
from fl_kit.tracking.names import metric_key, params, tags
from fl_kit.tracking.record import FAILED, Record
from fl_kit.tracking.server import check_alive, experiment_id, has_no_logged_models

MOST_NAMES = 50
"""AzureML keeps 50 metric names of a run; above that each silo's figures go to a child run of its own."""
MOST_METRICS = 1000
"""MLflow takes so many figures in one call."""
OWN_METRICS = 3
"""loss, train_loss and update_norm, beside the task's own."""
PARENT = "mlflow.parentRunId"


class Delivery:
    """A run, a server, and what has arrived there.

    uri       the server's
    notes     what a reader of the mirror should know
    complete  whether all has arrived, the run's end too
    """

    def __init__(self, record: Record, uri: str, ledger: Ledger) -> None:
        self.record = record
        self.uri = uri
        self.ledger = ledger
        self.notes: list[str] = []
        self.complete = False
        names = (len(record.federation) + 1) * (OWN_METRICS + len(record.task.metrics))
        self.child_runs = names > MOST_NAMES
        self._client: Any = None
        self._experiment = ""
        self._read = 0
        self._sure = False
        self._new: set[str] = set()

    def deliver(self, end: str) -> None:
        """Deliver what is new; `end` is empty while the run goes on, else how it ended.

        Raises what MLflow raises; whatever arrived until then is not sent again.
        """
        if not self._sure:
            self._attach()
        try:
            self._deliver_figures()
            if end:
                self._deliver_end(end)
        except BaseException:
            # a call that failed may have arrived all the same
            self._sure = False
            self._new.clear()
            raise
        self._sure = True

    def _attach(self) -> None:
        """Find the MLflow run, or create it, and describe the run there."""
        check_alive(self.uri)
        from mlflow import MlflowClient

        if self._client is None:
            self._client = MlflowClient(tracking_uri=self.uri)
        self._experiment = experiment_id(self._client, self.ledger.experiment)
        root = self._run(ROOT)
        self.ledger.save(self.record.folder)
        if self.ledger.end and not self.record.end():
            self._set_status(self.ledger.runs.values(), "RUNNING")  # it was resumed
            self.ledger.end = ""
        if not self.ledger.described:
            self._describe(root)

    def _run(self, silo: str) -> str:
        """The id of the MLflow run (of the whole, or of a silo), found or created."""
        if silo not in self.ledger.runs:
            labels = {PARENT: self._run(ROOT), "fl_kit.silo": silo} if silo else tags(self.record)
            self.ledger.runs[silo] = self._find(silo, labels) or self._create(silo or self.record.id, labels)
        return self.ledger.runs[silo]

    def _find(self, silo: str, labels: dict[str, str]) -> str:
        """The id of a run that an earlier mirror made, though its ledger is lost; empty if there is none."""
        if silo and labels[PARENT] in self._new:
            return ""
        sought = labels if silo else {"fl_kit.run_id": self.record.id}
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in sought.items())
        found = self._client.search_runs([self._experiment], where, max_results=1)
        return str(found[0].info.run_id) if found else ""

    def _create(self, name: str, labels: dict[str, str]) -> str:
        run = self._client.create_run(self._experiment, self._time(0), labels, name)
        self._new.add(run.info.run_id)
        return str(run.info.run_id)

    def _describe(self, root: str) -> None:
        from mlflow.entities import Param

        self._client.log_batch(root, params=[Param(name, value) for name, value in params(self.record).items()])
        self._client.log_text(root, self.record.job, "job.json")
        self._client.log_text(root, self.record.plan.to_json(), "plan.json")
        self._client.log_text(root, self.record.task.source, f"task/{self.record.task.name}.py")
        self.ledger.described = True
        self.ledger.save(self.record.folder)

    def _deliver_figures(self) -> None:
        events = self.record.events(self._read)
        by_run = self._by_run(events)
        try:
            for run, figures in by_run.items():
                fresh = figures if self._sure or run in self._new else self._not_there(run, figures)
                for start in range(0, len(fresh), MOST_METRICS):
                    self._send(run, fresh[start : start + MOST_METRICS])
                self._note_sent(figures)
        finally:
            if by_run:
                self.ledger.save(self.record.folder)
        self._read += len(events)

    def _by_run(self, events: Iterable[Event]) -> dict[str, list[Event]]:
        """The figures that have not arrived, by MLflow run; of one that was measured again, the last.

        All of them at first and after a failure: a server that fell may have lost what it had taken.
        """
        latest = {(series(e), e.round): e for e in events if is_metric(e)}
        by_run: dict[str, list[Event]] = {}
        for (name, round), event in latest.items():
            if not self._sure or round > self.ledger.sent.get(name, -1):
                silo = event.party if self.child_runs and event.party != GLOBAL else ROOT
                by_run.setdefault(self._run(silo), []).append(event)
        return by_run

    def _not_there(self, run: str, figures: list[Event]) -> list[Event]:
        """Those that the server lacks: asked after a failure, and where an earlier mirror is continued."""
        keys = {self._key(event) for event in figures}
        held = {(key, point.step) for key in keys for point in self._client.get_metric_history(run, key)}
        return [event for event in figures if (self._key(event), event.round) not in held]

    def _send(self, run: str, figures: list[Event]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(key=self._key(e), value=float(e.value), timestamp=int(e.time * 1000), step=e.round)  # type: ignore[arg-type]
            for e in figures
        ]
        self._client.log_batch(run, metrics=points)
        self._note_sent(figures)

    def _note_sent(self, figures: list[Event]) -> None:
        self.ledger.sent.update({series(event): event.round for event in figures})

    def _key(self, event: Event) -> str:
        """The figure's name in its MLflow run: a child run holds one silo, so its series lack the prefix."""
        alone = self.child_runs and event.party != GLOBAL
        return metric_key(metric_name(event) if alone else series(event))

    def _deliver_end(self, end: str) -> None:
        state = self.record.state()
        if end != FAILED and state is not None and state.round > self.ledger.model:
            self._deliver_model(state)
        if end != self.ledger.end:
            self._set_status([run for silo, run in self.ledger.runs.items() if silo != ROOT], end)
            self._client.set_terminated(self.ledger.runs[ROOT], end, self._time(-1))
            self.ledger.end = end
            self.ledger.save(self.record.folder)
        self.complete = True

    def _deliver_model(self, state: State) -> None:
        root = self.ledger.runs[ROOT]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            reason = save_model(self.record, state, folder)
            if reason:
                self.notes.append(f"the model is there as safetensors, not as an MLflow model: {reason}")
                self._client.log_artifacts(root, str(folder), "model")
            else:
                self._log_model(root, folder, state.round)
        self._client.set_tag(root, "fl_kit.model", f"safetensors: {reason}" if reason else "pt2")
        self.ledger.model = state.round
        self.ledger.save(self.record.folder)

    def _log_model(self, root: str, folder: Path, round: int) -> None:
        """As an MLflow 3 logged model; among the run's artifacts on a server that knows none."""
        from mlflow.entities import LoggedModelOutput
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model

        try:
            logged = self._client.create_logged_model(self._experiment, name="model", source_run_id=root)
        except MlflowException as error:
            if not has_no_logged_models(error):
                raise
            self._client.log_artifacts(root, str(folder), "model")
            return
        described = Model.load(str(folder))
        described.model_id, described.model_uuid, described.run_id = logged.model_id, logged.model_id, root
        described.save(str(folder / "MLmodel"))
        self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.finalize_logged_model(logged.model_id, "READY")
        self._client.log_outputs(root, [LoggedModelOutput(logged.model_id, step=round)])

    def _time(self, position: int) -> int:
        """When the first (0) or the last (−1) event was, in milliseconds: MLflow shows how long a run took."""
        return int(self.record.events(0)[position].time * 1000)

    def _set_status(self, runs: Iterable[str], status: str) -> None:
        for run in runs:
            self._client.update_run(run, status=status)


def series(event: Event) -> str:
    """`global/loss`, `cleveland/loss`: a figure's series."""
    return f"{event.party}/{metric_name(event)}"
