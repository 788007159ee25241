import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Job, Silo
from fl_kit.door import failed, left_out
from fl_kit.errors import StepFailed, TrackingError
from fl_kit.events import Event, metric_event
from fl_kit.plan import Step
from fl_kit.reporting import LENGTH, NAMES, Reporter, crowded, metric_names
from tests.fl_kit.tracking_server import TrackingServer, serving
from tests.sim.small import LOGISTIC

JOB = Job(task=LOGISTIC, strategy=FedAvg(), rounds=2)


def reporter(server: TrackingServer, silos: int = 2) -> Reporter:
    federation = Federation(silos=tuple(Silo(name=f"s{i}", data="x") for i in range(silos)))
    environ = {"MLFLOW_TRACKING_URI": server.url, "AZUREML_ROOT_RUN_ID": "root", "MLFLOW_TRACKING_TOKEN": "secret"}
    return Reporter.of_environment(JOB, JOB.plan(federation), environ)


@pytest.fixture
def server() -> Iterator[TrackingServer]:
    with serving() as found:
        found.run("root")
        yield found


def figure(round: int, party: str, value: float, time: float = 5.0) -> Event:
    return metric_event(round=round, party=party, metric="loss", value=value, time=time)


def done(found: Reporter, round: int) -> Step:
    return found.plan.by_id[f"round_00{round}/orchestrator/aggregate"]


def failure(round: int, silo: str, message: str = "no", detail: str = "") -> Event:
    return failed(StepFailed(message, op="fit", silo=silo, round=round, kind="ValueError", detail=detail))


def notes(server: TrackingServer) -> dict[str, Event]:
    tags = server.runs["root"]["tags"]
    return {key: Event.from_json(json.loads(value)["event"]) for key, value in tags.items()}


def test_figures_become_metrics_of_the_root_with_the_round_as_step(server):
    teller = reporter(server)
    teller.tell([figure(0, "s0", 0.5), figure(0, "global", 0.25)], done=done(teller, 1))
    assert server.metrics("root") == [("s0/loss", 0, 0.5), ("global/loss", 0, 0.25), ("orchestrator/done", 1, 1.0)]
    assert set(server.tokens) == {"Bearer secret"}
    assert [method for method, _ in server.calls] == ["runs/log-batch"]


def test_their_times_keep_the_order_of_the_events(server):
    reporter(server).tell([figure(0, "s0", 0.5, time=5.0), figure(0, "s1", 0.5, time=4.0)])
    assert [row["timestamp"] for row in server.runs["root"]["rows"]] == [5000, 5001]


@pytest.mark.parametrize(("value", "word"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_a_figure_that_is_not_finite(server, value, word):
    reporter(server).tell([figure(0, "s0", value)])
    assert server.metrics("root") == [("s0/loss", 0, word)]


def test_a_silos_step_that_is_done_says_nothing(server):
    teller = reporter(server)
    teller.tell([], done=teller.plan.by_id["round_001/s0/fit"])
    assert server.calls == []


def test_a_failure_becomes_a_tag_that_holds_the_event(server):
    event = failure(1, "s0", "no such loss (task.py, line 3: raise)", "Traceback …\nValueError: no")
    reporter(server).tell([event])
    assert notes(server) == {"fl_kit.note.s0.1": event}


def test_a_long_failure_keeps_the_beginning_of_its_message_and_the_end_of_its_traceback(server):
    event = failure(1, "s0", "message " * 100, "x\n" * 3000 + "ValueError: the last line")
    reporter(server).tell([event])
    (value,) = server.runs["root"]["tags"].values()
    assert len(value) <= LENGTH
    (found,) = notes(server).values()
    assert found.value["message"].startswith("message message")
    reporter(server).tell([failure(1, "s1", "short", "x\n" * 3000 + "ValueError: the last line")])
    assert notes(server)["fl_kit.note.s1.1"].value["detail"].endswith("ValueError: the last line")


def test_tags_stay_few_however_often_silos_fail(server):
    for round in range(1, 60):
        reporter(server).tell([failure(round, "s0"), failure(round, "s1")])
    assert len(notes(server)) <= 40
    rounds = {event.round for event in notes(server).values()}
    assert {59, 58, 57} <= rounds
    assert 1 not in rounds


def test_a_silo_that_is_left_out_is_a_metric_and_an_unusual_reason_is_kept(server):
    reporter(server).tell([left_out("s0", 2, "it delivered no update"), left_out("s1", 2, "malformed update: NaN")])
    assert server.metrics("root") == [("s0/left_out", 2, 1.0), ("s1/left_out", 2, 1.0)]
    assert [event.value for event in notes(server).values()] == ["malformed update: NaN"]


def test_a_late_result_is_told_as_a_note(server):
    value = {"step": "fit", "seconds": 612.5, "deadline": 600.0}
    late = Event(time=5.0, round=1, party="s0", name="silo/late", value=value)
    reporter(server).tell([late])
    assert notes(server) == {"fl_kit.note.s0.1": late}


def test_nothing_to_tell_is_no_request(server):
    reporter(server).tell([])
    assert server.calls == []


def test_names_on_the_root_stay_within_what_azureml_takes():
    each = len({"loss", "train_loss", "update_norm", "left_out", *JOB.task.metrics})
    most = (NAMES - 1) // each - 1
    assert metric_names(JOB, most) == each * (most + 1) + 1
    assert not crowded(JOB, most)
    assert crowded(JOB, most + 1)


def test_with_many_silos_each_has_a_run_of_its_own_and_the_root_keeps_the_federations(server):
    events = [*(figure(0, f"s{i}", i) for i in range(12)), figure(0, "global", 6.0)]
    teller = reporter(server, silos=12)
    teller.tell(events, done=done(teller, 1))
    teller.tell([figure(1, "s3", 0.5)], done=done(teller, 2))
    assert server.metrics("root") == [
        ("global/loss", 0, 6.0),
        ("orchestrator/done", 1, 1.0),
        ("orchestrator/done", 2, 1.0),
    ]
    children = {run["tags"].get("fl_kit.series"): id for id, run in server.runs.items() if id != "root"}
    assert len(children) == 12
    assert server.metrics(children["s3"]) == [("s3/loss", 0, 3.0), ("s3/loss", 1, 0.5)]
    last: tuple[str, Any] = server.calls[-1]
    assert last[1]["run_id"] == "root"


def test_what_is_no_step_of_azureml():
    plan = JOB.plan(Federation(silos=(Silo(name="s0", data="x"),)))
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI and AZUREML_ROOT_RUN_ID"):
        Reporter.of_environment(JOB, plan, {})
