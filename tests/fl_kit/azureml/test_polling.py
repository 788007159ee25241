"""What a feed tells, held against a small tracking server: no workspace is needed."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Job, Silo
from fl_kit.azureml.blame import failure_of
from fl_kit.azureml.phases import phases
from fl_kit.azureml.polling import Feed, Patience
from fl_kit.door import failed, left_out
from fl_kit.errors import StepFailed, TrackingError
from fl_kit.events import Event, metric_event
from fl_kit.mlflow_rest import MlflowServer, NotNow
from fl_kit.reporting import Reporter
from tests.fl_kit.tracking_server import TrackingServer, serving
from tests.sim.small import LOGISTIC

JOB = Job(task=LOGISTIC, strategy=FedAvg(), rounds=3)


class Told:
    """A run that is told, and feeds that read it."""

    def __init__(self, server: TrackingServer, silos: int = 2) -> None:
        federation = Federation(silos=tuple(Silo(name=f"s{i}", data="x") for i in range(silos)))
        self.plan = JOB.plan(federation)
        environ = {"MLFLOW_TRACKING_URI": server.url, "AZUREML_ROOT_RUN_ID": "root"}
        self.server = server
        self.reporter = Reporter.of_environment(JOB, self.plan, environ)

    def feed(self, first: int = 0, last: int = 5) -> Feed:
        server = MlflowServer(url=self.server.url, token=lambda: "", patience=0.0)
        return Feed(server, "root", phases(self.plan), first, last, series=self.reporter.separate)

    def round(self, round: int, loss: float, *events: Event) -> None:
        op = "aggregate" if round else "init"
        figures = [metric_event(round=round - 1, party=p, metric="loss", value=loss) for p in ("s0", "global")]
        step = self.plan.by_id[f"round_00{round}/orchestrator/{op}"]
        self.reporter.tell([*events, *(figures if round else [])], done=step)

    def report(self, loss: float) -> None:
        figures = [metric_event(round=3, party=p, metric="loss", value=loss) for p in ("s0", "global")]
        self.reporter.tell(figures, done=self.plan.by_id["round_003/orchestrator/report"])

    def end(self, status: str) -> None:
        self.server.runs["root"]["info"] |= {"status": status, "end_time": 9_000_000_000_000}


@pytest.fixture
def server() -> Iterator[TrackingServer]:
    with serving() as found:
        found.run("root")
        yield found


def short(events: list[Event]) -> list[tuple[Any, ...]]:
    return [(e.name, e.round, e.party) for e in events]


def methods(server: TrackingServer) -> list[str]:
    return [method for method, _ in server.calls]


def test_a_round_after_the_other_costs_one_request_a_poll(server):
    told = Told(server)
    feed = told.feed()
    assert short(feed.poll()) == [("round/started", 0, "orchestrator")]
    told.round(0, 0.0)
    assert short(feed.poll()) == [("round/completed", 0, "orchestrator"), ("round/started", 1, "orchestrator")]
    server.calls.clear()
    told.round(1, 0.5)
    server.calls.clear()
    events = feed.poll()
    assert short(events) == [
        ("metric/loss", 0, "s0"),
        ("metric/loss", 0, "global"),
        ("round/completed", 1, "orchestrator"),
        ("round/started", 2, "orchestrator"),
    ]
    assert feed.poll() == []
    assert methods(server) == ["runs/get", "runs/get"]


def test_whoever_comes_late_gets_the_same_events(server):
    told = Told(server)
    live, found = told.feed(), []
    for round in range(4):
        told.round(round, 1.0 / (round + 1))
        found += live.poll()
    told.report(0.1)
    told.end("FINISHED")
    found += live.poll()
    assert (live.ended, live.done) == ("completed", 4)
    late = told.feed()
    assert late.poll() == found
    losses = [e.value for e in found if e.name == "metric/loss" and e.party == "global"]
    assert losses == [0.5, 1 / 3, 0.25, 0.1]


def test_figures_of_a_round_that_is_not_yet_told_whole_wait(server):
    told = Told(server)
    feed = told.feed()
    told.round(0, 0.0)
    feed.poll()
    told.reporter.tell([metric_event(round=0, party="s0", metric="loss", value=1.0)])
    assert feed.poll() == []
    told.end("FAILED")
    assert short(feed.poll()) == [("metric/loss", 0, "s0")]
    assert feed.ended == "failed"


def test_what_the_next_step_is_telling_just_now_hides_nothing(server):
    told = Told(server)
    feed, found = told.feed(), []
    for round in (0, 1, 2):
        told.round(round, 0.5)
        found += feed.poll() if round < 2 else []
    row = metric_event(round=2, party="s0", metric="loss", value=0.25, time=time.time() + 1)
    told.reporter.tell([row])  # half of round 3 is told, and round 2 was not yet read
    found += feed.poll()
    assert [(e.round, e.value) for e in found if e.name == "metric/loss" and e.party == "s0"] == [(0, 0.5), (1, 0.5)]
    told.end("FAILED")
    assert [(e.round, e.value) for e in feed.poll()] == [(2, 0.25)]


def test_with_many_silos_their_figures_come_from_runs_of_their_own(server):
    told = Told(server, silos=12)
    feed = told.feed()
    feed.poll()
    for round in range(3):
        told.round(round, float(round))
    events = feed.poll()
    assert [(e.round, e.value) for e in events if e.name == "metric/loss" and e.party == "s0"] == [(0, 1.0), (1, 2.0)]
    assert [(e.round, e.value) for e in events if e.name == "metric/loss" and e.party == "global"] == [
        (0, 1.0),
        (1, 2.0),
    ]


def test_failures_and_silos_that_are_left_out_are_told_once(server):
    told = Told(server)
    feed = told.feed()
    told.round(0, 0.0)
    feed.poll()
    failure = failed(StepFailed("no", op="fit", silo="s1", round=1, kind="ValueError", detail="Traceback"))
    told.reporter.tell([failure])
    assert feed.poll() == [failure]
    told.round(1, 0.5, left_out("s0", 1, "malformed update: NaN"), left_out("s1", 1, "it delivered no update"))
    events = feed.poll()
    assert {(e.party, e.value) for e in events if e.name == "silo/left-out"} == {
        ("s0", "malformed update: NaN"),
        ("s1", "it delivered no update"),
    }
    assert feed.poll() == []


def test_a_pipeline_that_completes_has_done_all_its_rounds_even_if_it_could_not_say_so(server):
    told = Told(server)
    feed = told.feed(0, 4)
    told.end("FINISHED")
    events = feed.poll()
    assert [e.round for e in events if e.name == "round/completed"] == [0, 1, 2, 3]
    assert feed.done == 3


def test_a_pipeline_whose_phases_are_all_done_is_completed_though_a_silo_failed_in_it(server):
    told = Told(server)
    feed = told.feed()
    for round in range(4):
        told.round(round, 0.5)
    told.report(0.1)
    told.end("FAILED")
    feed.poll()
    assert feed.ended == "completed"


def test_a_report_says_nothing_of_a_round_that_failed(server):
    told = Told(server)
    feed = told.feed()
    for round in (0, 1, 2):
        told.round(round, 0.5)
    told.report(0.1)
    told.end("FAILED")
    events = feed.poll()
    assert [e.round for e in events if e.name == "round/completed"] == [0, 1, 2]
    assert feed.done == 2


def test_a_chunk_begins_where_it_begins(server):
    told = Told(server)
    feed = told.feed(2, 5)
    assert short(feed.poll()) == [("round/started", 2, "orchestrator")]


def test_why_it_failed():
    of = {silo: failed(StepFailed("no", op="fit", silo=silo, round=1)) for silo in ("s0", "s1", "orchestrator")}
    assert failure_of([]) is None
    assert failure_of([of["s1"], of["s0"]]) == of["s1"]
    assert failure_of([of["s1"], of["orchestrator"], of["s0"]]) == of["orchestrator"]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def silence() -> TrackingError:
    error = TrackingError("no answer")
    error.__cause__ = NotNow("HTTP 503")
    return error


def test_the_longer_nothing_happens_the_rarer_it_asks():
    clock = Clock()
    patience = Patience(clock)
    assert patience.pause() == 0.5
    clock.now += 20
    patience.answered(anything=False)
    assert patience.pause() == 5.0
    clock.now += 1000
    assert patience.pause() == 15.0
    patience.answered(anything=True)
    assert patience.pause() == 0.5


def test_a_silence_is_told_once_and_borne_for_half_an_hour():
    clock = Clock()
    patience = Patience(clock)
    assert "no answer" in patience.failed(silence())
    clock.now += 1700
    assert patience.failed(silence()) == ""
    patience.answered(anything=False)
    assert "no answer" in patience.failed(silence())
    clock.now += 1801
    with pytest.raises(TrackingError, match="no answer"):
        patience.failed(silence())


def test_a_refusal_is_borne_for_two_minutes():
    clock = Clock()
    patience = Patience(clock)
    patience.failed(TrackingError("HTTP 404"))
    clock.now += 121
    with pytest.raises(TrackingError, match="404"):
        patience.failed(TrackingError("HTTP 404"))
