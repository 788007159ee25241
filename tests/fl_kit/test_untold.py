"""What steps could not tell while the tracking server was down is told by a later one: nothing is lost or doubled."""

import json
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg
from fl_kit import step as command
from fl_kit.azureml.phases import phases
from fl_kit.azureml.polling import Feed
from fl_kit.errors import StoreError
from fl_kit.events import metric_event
from fl_kit.messages import State, read
from fl_kit.mlflow_rest import MlflowServer
from fl_kit.plan import ORCHESTRATOR
from fl_kit.tensors import digest
from fl_kit.untold import FILE, Report, read_untold, write_untold
from tests.fl_kit.test_step import Folders
from tests.fl_kit.tracking_server import TrackingServer, serving
from tests.tasks import LINEAR, job, random_rows, silos


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "PATIENCE", 0.0)
    monkeypatch.setattr(command, "LAST_PATIENCE", 0.0)
    return tmp_path


def told(place: Path, name: str, down: set[str], monkeypatch: pytest.MonkeyPatch) -> tuple[TrackingServer, Folders]:
    """A run whose tracking server is down during these steps, and what the server knows in the end."""
    federation = silos(place / f"silos of {name}", ash=random_rows(10, 4, 1), birch=random_rows(4, 4, 2))
    folders = Folders(job(LINEAR, FedAvg(lr=0.1), rounds=3), federation, place / name)
    with serving() as server:
        server.run("root")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        monkeypatch.setenv("AZUREML_ROOT_RUN_ID", "root")
        for step in folders.plan.steps:
            server.answers[:] = [503] * 99 if step.id in down else []
            assert command.main([*folders.arguments(step), "--report"]) == 0
        server.answers.clear()
        return server, folders


def figures(server: TrackingServer) -> list[tuple[str, int, Any]]:
    return sorted(set(server.metrics("root")))


def of_round(round: int, op: str = "aggregate") -> str:
    return f"round_{round:03d}/{ORCHESTRATOR}/{op}"


@pytest.mark.parametrize("down", [{of_round(1)}, {of_round(0, "init"), of_round(1), of_round(2)}])
def test_the_next_step_tells_what_could_not_be_told(place, monkeypatch, capsys, down):
    server, folders = told(place, "disturbed", down, monkeypatch)
    assert "next step will try to" in capsys.readouterr().err
    whole, other = told(place, "whole", set(), monkeypatch)
    assert figures(server) == figures(whole)
    assert len(server.metrics("root")) == len(whole.metrics("root"))
    last = folders.folder(f"{of_round(3)}:state")
    assert digest(read(State, last).params) == digest(read(State, other.folder(f"{of_round(3)}:state")).params)
    assert not (last / FILE).exists()


def test_what_nobody_can_tell_after_it_is_named_by_the_feed(place, monkeypatch):
    server, folders = told(place, "late", {of_round(3), of_round(3, "report")}, monkeypatch)
    server.runs["root"]["info"]["status"] = "FINISHED"
    with serving() as again:
        again.runs = server.runs
        feed = Feed(MlflowServer(url=again.url, token=str), "root", phases(folders.plan), 0, 5)
        feed.poll()
    assert feed.ended == "completed"
    assert feed.silent_rounds() == [3]


def test_figures_that_are_no_numbers_come_back(tmp_path):
    events = tuple(metric_event(round=1, party="a", metric="loss", value=v, time=2.0) for v in (0.1, float("inf")))
    reports = [Report(step="x", time=1.5, events=events)]
    write_untold(tmp_path, reports)
    assert read_untold(tmp_path) == reports


@pytest.mark.parametrize(
    "content", ["{", "[1]", '[{"step": "a", "time": 1, "events": ["{}"]}]', json.dumps([{"step": "a"}])]
)
def test_a_file_that_is_damaged_fails_no_step(place, monkeypatch, capsys, content):
    (place / FILE).write_text(content)
    with pytest.raises(StoreError, match="holds no reports"):
        read_untold(place)
    _, folders = told(place, "damaged", {of_round(1)}, monkeypatch)
    step = folders.plan.by_id[of_round(2)]
    (folders.folder(f"{of_round(1)}:state") / FILE).write_text(content)
    folders.events_file(step).unlink()
    assert command.main([*folders.arguments(step), "--report"]) == 0
    assert "What an earlier step could not tell is lost" in capsys.readouterr().err
