"""What holds for every strategy of fl-kit, found by itself: a new one is held to it without a line here."""

import inspect
import re
import shutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from fl_kit import strategies
from fl_kit.components import build, describe
from fl_kit.errors import FlKitError, IncompatibleError
from fl_kit.job import Job
from fl_kit.plan import ORCHESTRATOR, round_name
from fl_kit.silo import Federation
from fl_kit.strategies.adaptive import Adaptive
from sim.in_process import InProcess
from tests.tasks import (
    BATCHNORM,
    DROPOUT,
    LINEAR,
    NORMED,
    digests,
    job,
    random_rows,
    run,
    silos,
    write_task,
)

KINDS = [getattr(strategies, name) for name in strategies.__all__]
STRIDING = (Adaptive, strategies.QFedAvg)
"""Their orchestrator's step is not the mean delta: an adaptive one is about server_lr long, QFedAvg's has its bound."""
ROUNDS = 2
KEEPING = strategies.FedPer
"""They keep layers in the silos, so they refuse a model without such layers, or of one layer alone."""
ALONE = strategies.Cyclic
"""One silo a round, by its own plan: nothing to draw, and nothing to average."""
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def made(kind: Any, **settings: Any) -> Any:
    """The strategy with those of the settings that it does not decide itself."""
    return kind(**{name: value for name, value in settings.items() if name not in kind.FIXED})


def fits(kind: Any, task: Path) -> Path:
    """The task, or one with layers that the strategy can keep in the silos."""
    return NORMED if issubclass(kind, KEEPING) and task != BATCHNORM else task


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", ash=random_rows(10, 4, 1), birch=random_rows(4, 4, 2), cedar=random_rows(14, 4, 3))


def test_every_file_of_the_package_is_offered() -> None:
    """A strategy that nobody exported would escape all rules below."""
    files = {path.stem for path in Path(strategies.__file__).parent.glob("*.py")} - {
        "__init__",
        "adaptive",
        "local_training",
        "rounds",
        "weights",
    }
    assert {kind.__module__.rpartition(".")[2] for kind in KINDS} == files


@every
def test_it_is_a_frozen_dataclass_that_stands_without_settings(kind: Any) -> None:
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in fields(kind))
    kind()


@every
def test_its_paper_is_named(kind: Any) -> None:
    module = inspect.getmodule(kind)
    assert module is not None
    assert re.search(r"arXiv \d{4}\.\d{4,5}", module.__doc__ or "")
    assert len(inspect.getsource(module).splitlines()) <= 150


@every
def test_every_setting_is_explained(kind: Any) -> None:
    inherited = {field.name for base in kind.__mro__[1:] if is_dataclass(base) for field in fields(base)}
    for field in fields(kind):
        where = inspect.getdoc(kind) or "" if field.name not in inherited else "".join(
            inspect.getdoc(base) or "" for base in kind.__mro__
        )  # fmt: skip
        assert re.search(rf"^{field.name}  +\S", where, re.MULTILINE), f"{kind.__name__}.{field.name}"


@every
def test_described_and_built_again_it_is_equal(kind: Any) -> None:
    described = describe(kind(lr=0.25), "nowhere")
    assert described["class"] == f"{kind.__module__}.{kind.__name__}"
    assert described["settings"]["lr"] == 0.25
    assert build(described, inspect) == kind(lr=0.25)


@every
def test_a_job_of_it_survives_json(kind: Any) -> None:
    asked = job(fits(kind, LINEAR), kind(lr=0.25), 3)
    assert Job.from_json(asked.to_json(), asked.task.source) == asked


@every
@pytest.mark.parametrize("measure", [False, True])
def test_its_plan_is_consistent(kind: Any, federation: Federation, measure: bool) -> None:
    plan = kind().plan(federation, ROUNDS, measure=measure).check()
    assert plan.rounds == ROUNDS
    assert plan.silos == federation.names
    for step in plan.steps:
        if step.party == ORCHESTRATOR:
            assert not any(source.startswith("data:") for source in step.inputs.values())
        else:
            assert step.inputs["data"] == f"data:{step.party}"
    aggregates = [step for step in plan.steps if step.op == "aggregate"]
    assert [step.round for step in aggregates] == [1, 2]
    of_round = [tuple(s.party for s in plan.steps if (s.op, s.round) == ("fit", r)) for r in (1, 2)]
    assert [tuple(step.updates) for step in aggregates] == of_round
    assert of_round == ([("ash",), ("birch",)] if issubclass(kind, ALONE) else [federation.names] * 2)


@every
def test_memory_is_private_and_read_by_its_own_silo_only(kind: Any, federation: Federation) -> None:
    plan = kind().plan(federation, 3, measure=False)
    remembers = any("memory" in step.outputs for step in plan.steps)
    for step in plan.steps:
        assert step.outputs.get("memory", "private") == "private"
        if "memory" in step.inputs:
            assert plan.by_id[step.inputs["memory"].partition(":")[0]].party == step.party
        if remembers and step.op == "fit" and step.round > 1:
            assert step.inputs["memory"] == f"round_{step.round - 1:03d}/{step.party}/fit:memory"


@every
def test_it_says_whether_it_corrects_gradients(kind: Any) -> None:
    """A task's own fit would ignore the correction, so the job must be able to refuse it."""
    plain = strategies.FedAvg
    changes = kind.correction is not plain.correction or kind.loss_term is not plain.loss_term
    assert kind.corrects_gradients == changes


@every
def test_with_a_task_of_its_own_fit(kind: Any, federation: Federation, tmp_path: Path) -> None:
    source = fits(kind, LINEAR).read_text(encoding="utf-8")
    task = write_task(
        tmp_path,
        source + "\ndef fit(model, data, context):\n"
        "    with torch.no_grad():\n        for p in model.parameters():\n            p += 0.5\n",
    )
    if kind.corrects_gradients:
        with pytest.raises(IncompatibleError, match=rf"{kind.__name__}.*fit\(\)"):
            job(task, kind(), 1)
    else:
        finished = run(task, kind(), federation, 1)
        before, after = finished.state(0).params, finished.state(1).params
        private = kind().private(finished.job.fresh_model())
        for name in finished.job.fresh_model().state_dict():
            moved = (after[name] - before[name]).double()
            if name in private or "running" in name or "num_batches" in name:
                assert not moved.any(), name  # nobody trained in this fit, and what is private never arrives
            elif issubclass(kind, STRIDING):
                assert (moved > 0).all(), name
            else:
                torch.testing.assert_close(moved, torch.full_like(moved, 0.5), rtol=0, atol=1e-12)


@every
@pytest.mark.parametrize("task", [LINEAR, BATCHNORM, DROPOUT], ids=lambda path: path.stem)
def test_the_same_seed_gives_the_same_bits(kind: Any, task: Path, federation: Federation) -> None:
    strategy = made(kind, lr=0.05, batch_size=4, epochs=2)
    first, again = (run(fits(kind, task), strategy, federation, ROUNDS, seed=3) for _ in range(2))
    assert digests(first) == digests(again)
    assert len(set(digests(first))) == ROUNDS + 1
    assert digests(run(fits(kind, task), strategy, federation, ROUNDS, seed=4)) != digests(first)


@every
@pytest.mark.parametrize("task", [BATCHNORM, DROPOUT], ids=lambda path: path.stem)
def test_the_order_of_listing_does_not_matter(kind: Any, task: Path, federation: Federation) -> None:
    turned = Federation(silos=federation.silos[::-1])
    strategy = made(kind, lr=0.05, batch_size=4)
    assert digests(run(fits(kind, task), strategy, turned, ROUNDS)) == digests(
        run(fits(kind, task), strategy, federation, ROUNDS)
    )


@every
def test_in_a_folder_it_gives_the_same_bits_as_in_memory(kind: Any, federation: Federation, tmp_path: Path) -> None:
    asked = job(BATCHNORM, made(kind, lr=0.05, batch_size=4), ROUNDS)
    on_disk = InProcess(folder=tmp_path / "runs").start(asked, federation).wait()
    assert digests(on_disk) == digests(run(BATCHNORM, made(kind, lr=0.05, batch_size=4), federation, ROUNDS))


@every
def test_resumed_from_what_is_on_the_disk_it_gives_the_same_bits(
    kind: Any, federation: Federation, tmp_path: Path
) -> None:
    """Whatever a strategy goes on with, at the orchestrator or in a silo, has to be in what was written."""
    backend = InProcess(folder=tmp_path / "runs")
    finished = backend.start(job(BATCHNORM, made(kind, lr=0.05, batch_size=4), 3), federation).wait()
    whole, folder = digests(finished), tmp_path / "runs" / finished.id
    for round in (2, 3):
        shutil.rmtree(folder / round_name(round))
    events = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(events[:-1]), encoding="utf-8")  # the last says that it is complete
    assert finished.rounds_done == 1
    assert digests(backend.resume(finished.id).wait()) == whole


@every
def test_with_silos_that_take_turns_it_gives_the_same_bits_after_a_resume(
    kind: Any, federation: Federation, tmp_path: Path
) -> None:
    """One silo a round: the first two rounds and the last measurement find silos that never trained."""
    draws = {} if issubclass(kind, ALONE) else {"per_round": 1}
    asked = job(BATCHNORM, made(kind, lr=0.05, batch_size=4), 3, seed=1, **draws)
    backend = InProcess(folder=tmp_path / "runs")
    finished = backend.start(asked, federation).wait()
    assert {*finished.history().party} == {*federation.names, "global"}
    whole, folder = digests(finished), tmp_path / "runs" / finished.id
    for round in (2, 3):
        shutil.rmtree(folder / round_name(round))
    events = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(events[:-1]), encoding="utf-8")
    assert digests(backend.resume(finished.id).wait()) == whole


@every
def test_a_schedule_gives_each_round_its_learning_rate(kind: Any, federation: Federation) -> None:
    """A flat schedule is the number to the bit, and the second rate counts in round 2 alone."""
    number, flat, falling = (
        run(fits(kind, LINEAR), kind(lr=lr), federation, 2) for lr in (0.05, [0.05, 0.05], (0.05, 0.01))
    )
    assert digests(flat) == digests(number)
    assert digests(falling)[:2] == digests(number)[:2]
    assert falling.digest(2) != number.digest(2)


@every
def test_a_schedule_survives_json_and_is_refused_if_too_short(kind: Any) -> None:
    asked = job(fits(kind, LINEAR), kind(lr=[0.25, 0.1, 0.05]), 3)
    again = Job.from_json(asked.to_json(), asked.task.source)
    assert again == asked
    assert again.strategy.lr == (0.25, 0.1, 0.05)  # type: ignore[attr-defined]  # every strategy here has one
    with pytest.raises(
        IncompatibleError, match="a schedule of 3 rounds for a job of 4: give one learning rate a round"
    ):
        job(fits(kind, LINEAR), kind(lr=(0.25, 0.1, 0.05)), 4)


@every
def test_without_a_learning_rate_nothing_is_learned(kind: Any, federation: Federation) -> None:
    try:
        strategy = kind(lr=0.0)
    except FlKitError:
        return  # it divides by lr, and says so
    finished = run(fits(kind, LINEAR), strategy, federation, ROUNDS)
    before, after = finished.state(0).params, finished.state(ROUNDS).params
    assert all(torch.equal(before[name], after[name]) for name, _ in finished.job.fresh_model().named_parameters())


@every
def test_it_learns(kind: Any, tmp_path: Path) -> None:
    """Rows with y = x_1 − 2·x_2: the loss of the global model falls to less than a hundredth.

    Where the length of a step is the orchestrator's own, or a round is one step, it takes more of them.
    """
    rounds = 40 if issubclass(kind, (*STRIDING, strategies.FedSGD)) else 12
    pace = {"server_lr": 0.3} if issubclass(kind, Adaptive) else {}
    rows = random_rows(60, 4, 5)
    rows[:, 3] = rows[:, 0] - 2 * rows[:, 1]
    finished = run(
        fits(kind, LINEAR),
        made(kind, lr=0.05, batch_size=10, **pace),
        silos(tmp_path, a=rows[:20], b=rows[20:]),
        rounds,
    )
    frame = finished.history()
    losses = frame[(frame.party == "global") & (frame.metric == "loss")].set_index("round").value
    enough = 5 if issubclass(kind, KEEPING) else 100  # a batch's own statistics are noise to the head
    assert losses[rounds] < losses[0] / enough


@every
def test_states_already_given_out_do_not_change(kind: Any, federation: Federation) -> None:
    """Round r's parameters after r rounds are those of a run that ended there."""
    longer = run(BATCHNORM, kind(lr=0.05), federation, 3)
    shorter = run(BATCHNORM, kind(lr=0.05), federation, 2)
    assert digests(longer)[:3] == digests(shorter)


@every
@pytest.mark.parametrize("setting", ["lr", "epochs", "batch_size", "server_lr"])
def test_a_negative_setting_is_refused_by_name(kind: Any, setting: str) -> None:
    with pytest.raises(IncompatibleError, match=rf"{kind.__name__}\({setting}=-1\)"):
        kind(**{setting: -1})


@every
def test_what_it_decides_itself_cannot_be_set(kind: Any) -> None:
    """Silently ignored, it would look as if it had an effect."""
    for field in fields(kind):
        if field.name in kind.FIXED:
            with pytest.raises(IncompatibleError, match=rf"{kind.__name__}\({field.name}=7\): the strategy itself"):
                kind(**{field.name: 7})
            assert kind(**{field.name: field.default}) == kind()
    assert {field.name for field in fields(kind)} >= kind.FIXED
