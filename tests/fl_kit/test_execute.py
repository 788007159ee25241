from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fl_kit import FedAvg, Federation, Job, Scaffold
from fl_kit.context import StepContext
from fl_kit.errors import MessageError, QuorumLost, StepFailed, Stopped, TaskError
from fl_kit.events import Event
from fl_kit.execute import run_step
from fl_kit.messages import Memory, State, Update
from fl_kit.tensors import digest
from fl_kit.workbench import Workbench
from tests.sim.small import LOGISTIC, SIZES, digests, federation, job, undisturbed, variant


class Bench:
    """One job's steps, run one by one by a test."""

    def __init__(self, silos: Federation, task: Path = LOGISTIC, **settings: Any) -> None:
        self.silos = silos
        self.job: Job = job(task, **settings)
        self.plan = self.job.plan(silos)
        self.bench = Workbench(self.job.task, seed=self.job.seed)
        self.events: list[Event] = []

    def run(self, step: str, **inputs: Any) -> dict[str, Any]:
        data = {"data": self.silos[step.split("/")[1]].data} if "orchestrator" not in step else {}
        return dict(run_step(self.job, self.plan.by_id[step], {**data, **inputs}, self.bench, emit=self.events.append))

    def start(self) -> State:
        return self.run("round_000/orchestrator/init")["state"]

    def fit(self, silo: str, state: State, memory: Memory | None = None) -> dict[str, Any]:
        return self.run(f"round_001/{silo}/fit", state=state, memory=memory)

    def updates(self, state: State) -> list[Update]:
        return [self.fit(silo, state)["update"] for silo in self.silos.names]

    def figures(self, metric: str) -> dict[str, float]:
        return {event.party: event.value for event in self.events if event.name == f"metric/{metric}"}


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"))


def test_walking_the_plan_step_by_step_gives_the_bits_of_a_run(silos):
    bench = Bench(silos, strategy=Scaffold(batch_size=8))
    state, memories = bench.start(), {}
    for round in (1, 2, 3):
        updates = []
        for silo in silos.names:
            outputs = bench.run(f"round_00{round}/{silo}/fit", state=state, memory=memories.get(silo))
            memories[silo] = outputs["memory"]
            updates.append(outputs["update"])
        state = bench.run(f"round_00{round}/orchestrator/aggregate", state=state, updates=updates)["state"]
    assert digest(state.params) == undisturbed(bench.job, silos).digest(3)


def test_an_update_carries_its_sender_its_rows_and_sums(silos):
    bench = Bench(silos)
    update = bench.fit("bravo", bench.start())["update"]
    assert update.silo == "bravo"
    assert update.weight == SIZES["bravo"]
    assert set(update.metrics) == {"loss", "accuracy", "f1", "train_loss"}
    assert update.metrics["loss"].dtype == torch.float64
    assert update.metrics["loss"][1] == 17  # rows of its test split
    assert update.metrics["train_loss"][1] == 2 * SIZES["bravo"]  # two epochs


def test_only_what_the_plan_names_comes_out(silos):
    assert set(Bench(silos).fit("alpha", Bench(silos).start())) == {"update"}
    bench = Bench(silos, strategy=Scaffold())
    outputs = bench.fit("alpha", bench.start())
    assert set(outputs) == {"update", "memory"}
    assert isinstance(outputs["memory"], Memory)


def test_a_silo_emits_nothing_and_the_orchestrator_tells_silo_and_global_figures(silos):
    bench = Bench(silos)
    state = bench.start()
    updates = bench.updates(state)
    assert bench.events == []
    bench.run("round_001/orchestrator/aggregate", state=state, updates=updates)
    losses = bench.figures("loss")
    assert set(losses) == {*silos.names, "global"}
    rows = {update.silo: float(update.metrics["loss"][1]) for update in updates}
    pooled = sum(rows[silo] * losses[silo] for silo in rows) / sum(rows.values())
    assert losses["global"] == pytest.approx(pooled, abs=1e-12)
    assert {event.round for event in bench.events if event.name == "metric/loss"} == {0}
    assert {event.round for event in bench.events if event.name == "metric/train_loss"} == {1}
    norms = bench.figures("update_norm")
    for update in updates:
        squares = sum(float((delta**2).sum()) for delta in update.delta.values())
        assert norms[update.silo] == pytest.approx(squares**0.5, rel=1e-12)


def test_updates_are_read_one_by_one(silos):
    """While one is being added up, the next one need not be there yet."""
    bench, order = Bench(silos), []
    state = bench.start()

    def arriving() -> Iterator[Update]:
        for silo in silos.names:
            order.append(f"{silo} made")
            yield bench.fit(silo, state)["update"]
            order.append(f"{silo} used")

    bench.run("round_001/orchestrator/aggregate", state=state, updates=arriving())
    assert order == [f"{silo} {what}" for silo in silos.names for what in ("made", "used")]


def test_too_few_updates_are_a_lost_quorum_that_names_the_missing(silos):
    for min_silos, sent, lost in [(None, 3, True), (3, 3, False), (3, 2, True), (1, 0, True)]:
        bench = Bench(silos, min_silos=min_silos)
        state = bench.start()
        inputs = {"state": state, "updates": bench.updates(state)[:sent]}
        if lost:
            with pytest.raises(QuorumLost, match=rf"round 1: {sent} of 4 silos.*missing: .*delta"):
                bench.run("round_001/orchestrator/aggregate", **inputs)
        else:
            assert bench.run("round_001/orchestrator/aggregate", **inputs)["state"].round == 1


def test_a_state_says_in_which_round_each_silos_update_last_counted(silos):
    bench = Bench(silos, min_silos=1)
    state = bench.start()
    assert state.counted == {}
    for round, present in [(1, ["alpha", "bravo"]), (2, ["bravo"])]:
        updates = [bench.run(f"round_00{round}/{silo}/fit", state=state)["update"] for silo in present]
        state = bench.run(f"round_00{round}/orchestrator/aggregate", state=state, updates=updates)["state"]
    assert state.counted == {"alpha": 1, "bravo": 2}


def test_a_malformed_update_is_refused_or_left_out(silos):
    for min_silos in (None, 3):
        bench = Bench(silos, min_silos=min_silos)
        state = bench.start()
        updates = bench.updates(state)
        good = [update for update in updates if update.silo != "bravo"]
        updates[1] = replace(updates[1], delta={**updates[1].delta, "bias": torch.full((1,), torch.inf).double()})
        if min_silos is None:
            with pytest.raises(StepFailed, match="update of bravo") as raised:
                bench.run("round_001/orchestrator/aggregate", state=state, updates=updates)
            assert isinstance(raised.value.__cause__, MessageError)
        else:
            after = bench.run("round_001/orchestrator/aggregate", state=state, updates=updates)["state"]
            expected = bench.run("round_001/orchestrator/aggregate", state=state, updates=good)["state"]
            assert digest(after.params) == digest(expected.params)
            (event,) = [event for event in bench.events if event.name == "silo/left-out"]
            assert (event.party, event.round) == ("bravo", 1)


def test_the_orchestrator_has_no_rows(silos):
    bench = Bench(silos)
    ctx = StepContext(job=bench.job, step=bench.plan.by_id["round_001/orchestrator/aggregate"], bench=bench.bench)
    with pytest.raises(TaskError, match="never reads a silo's data"):
        ctx.rows("train")


def test_a_stop_ends_a_step_at_its_next_batch_and_is_no_failure(silos):
    bench = Bench(silos)
    state, calls = bench.start(), []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Stopped("enough")

    inputs = {"state": state, "data": silos["bravo"].data}
    with pytest.raises(Stopped, match="enough"):
        run_step(bench.job, bench.plan.by_id["round_001/bravo/fit"], inputs, bench.bench, check=check)
    assert len(calls) == 3


def test_the_deepest_line_of_the_users_own_file_is_named(silos, tmp_path):
    source = """
def loss(outputs, targets):
    return scaled(outputs)

def scaled(outputs):
    return torch.stack(outputs.sum())  # here
"""
    bench = Bench(silos, variant(tmp_path, source))
    with pytest.raises(StepFailed, match=r"bravo, round 1, step 'fit': TypeError: .*# here\)") as raised:
        bench.fit("bravo", bench.start())
    assert "in scaled" in raised.value.detail
    assert "return scaled(outputs)" in raised.value.detail


LATE = """
class Late(nn.Linear):
    '''Adds noise to its inputs, but only after its third training step.'''
    def __init__(self):
        super().__init__(3, 1, dtype=torch.float64)
        self.register_buffer("seen", torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        if self.training:
            self.seen += 1
            if self.seen > 3:
                x = x + torch.randn_like(x)
        return super().forward(x)

def model():
    return Late()
"""


def test_a_model_that_begins_to_draw_later_draws_from_the_seed_too(silos, tmp_path):
    """The first fit of the run draws nothing, a later one does, while somebody else moves the global generator."""
    late = job(variant(tmp_path, LATE), strategy=FedAvg(batch_size=64, lr=0.1), rounds=5)
    runs = []
    for _ in range(2):
        runs.append(digests(undisturbed(late, silos), range(6)))
        torch.rand(3)
    assert runs[0] == runs[1]
