"""Faults in a run: who lies, what the liars know, what is kept, and that a run goes on with equal bits."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from fl_kit import FedAvg, Federation, Job
from fl_kit.aggregators import Mean, Median
from fl_kit.errors import FederationError, IncompatibleError, StoreError
from fl_kit.messages import Update
from fl_kit.tensors import Tensors, add_scaled
from fl_kit.workbench import Workbench
from sim import faults
from sim.engines.engine import Runner, Simulation
from sim.engines.exact import Exact
from sim.faults import ALittleIsEnough, Gaussian, InnerProduct, LabelFlip, MinMax, Scaled, SignFlip, SilentConstant
from sim.faults.attack import Known, UpdateAttack
from sim.faults.disturbance import Disturbance
from sim.faults.fault import Fault
from sim.in_process import InProcess
from tests.sim.small import digests, federation, job, undisturbed

EACH: dict[str, Any] = {
    "SignFlip": SignFlip(),
    "Scaled": Scaled(),
    "Gaussian": Gaussian(),
    "SilentConstant": SilentConstant(),
    "ALittleIsEnough": ALittleIsEnough(z=1.0, knows="all"),
    "InnerProduct": InnerProduct(),
    "MinMax": MinMax(),
    "LabelFlip": LabelFlip(classes=2),
}
ONE_STEP = {"strategy": FedAvg(steps=1, batch_size=100, lr=0.2), "rounds": 1, "aggregator": Mean(weighted=False)}


@pytest.fixture(scope="module")
def silos(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return federation(tmp_path_factory.mktemp("silos"))


def attacked(asked: Job, silos: Federation, found: Any, **settings: Any) -> Any:
    return asked.run(silos, on=InProcess(folder=None, keep="all", faults=found, **settings)).wait()


def sent(run: Any, round: int = 1) -> dict[str, Tensors]:
    return {update.silo: update.delta for update in run.updates(round)}


def test_every_attack_is_here() -> None:
    known = (getattr(faults, name) for name in faults.__all__)
    assert sorted(EACH) == sorted(kind.__name__ for kind in known if not issubclass(kind, Fault))


def test_without_faults_nothing_is_wrapped(silos) -> None:
    none = Disturbance.given({}, silos)
    bench = Workbench(job().task, seed=0)
    runner: Runner = Exact(Simulation(job=job(), federation=silos, bench=bench, threads=1, own_load=False))
    assert none.runner(runner, job().plan(silos), 0, None) is runner
    load = InProcess().load
    assert none.load(load, silos) is load
    assert digests(attacked(job(), silos, {}), range(4)) == digests(undisturbed(job(), silos), range(4))


@pytest.mark.parametrize("name", EACH)
def test_it_changes_the_model_and_does_so_again(name, silos) -> None:
    found = {"bravo": EACH[name], "delta": EACH[name]}
    first, again = (digests(attacked(job(), silos, found), range(4)) for _ in range(2))
    honest = digests(undisturbed(job(), silos), range(4))
    assert first == again
    assert first[0] == honest[0]
    assert first[1] != honest[1]


@pytest.mark.parametrize("name", EACH)
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(name, silos, tmp_path) -> None:
    """Whoever resumes need not know of the attack: it is in the run folder."""
    found = {"bravo": EACH[name], "delta": EACH[name]}
    whole = attacked(job(), silos, found)
    started = job().run(silos, on=InProcess(folder=tmp_path, faults=found))
    started.stop()
    started.wait()
    resumed = InProcess(folder=tmp_path).resume(started.id).wait()
    assert resumed.status == "completed"
    assert digests(resumed, range(4)) == digests(whole, range(4))


def test_only_the_bad_silos_lie_and_all_others_are_as_they_would_be(silos) -> None:
    """Kept is what was sent: in round 1 the honest updates are those of the honest run."""
    honest = sent(job().run(silos, on=InProcess(folder=None, keep="all", keep_updates=True)).wait())
    lies = sent(attacked(job(), silos, {"bravo": SignFlip(scale=2)}, keep_updates=True))
    for silo in silos.names:
        scale = -2 if silo == "bravo" else 1
        assert all(torch.equal(lies[silo][name], scale * value) for name, value in honest[silo].items())


def test_the_orchestrator_gets_what_was_sent(silos) -> None:
    """The mean of four with one turned round: (a − b + c + d)/4."""
    run = attacked(job(**ONE_STEP), silos, {"bravo": SignFlip()}, keep_updates=True)
    deltas = sent(run).values()
    mean = {name: sum(delta[name] for delta in deltas) / 4 for name in run.state(0).params}
    for name, value in add_scaled(run.state(0).params, mean).items():
        assert torch.allclose(run.state(1).params[name], value, rtol=0, atol=1e-15)


def test_flipped_labels_are_trained_on_and_test_rows_stay_honest(silos) -> None:
    """One step from w: with all labels turned round the gradient of the logistic loss has y and 1 − y exchanged."""
    asked = job(**ONE_STEP)
    run = attacked(asked, silos, {"bravo": LabelFlip(classes=2)}, keep_updates=True)
    bench = Workbench(asked.task, seed=0)
    rows = bench.rows("bravo", silos["bravo"].data, "train")
    module = bench.model.module
    bench.model.load(run.state(0).params)
    loss = bench.loss(module(rows.inputs), 1 - rows.targets)
    gradient = torch.autograd.grad(loss, [module.weight])[0]
    assert torch.allclose(sent(run)["bravo"]["weight"], -0.2 * gradient, rtol=0, atol=1e-15)
    frame, honest = (r.history().query("round == 0 and metric == 'loss'") for r in (run, undisturbed(asked, silos)))
    assert frame.set_index("party").value.to_dict() == honest.set_index("party").value.to_dict()


def test_two_attacks_act_one_after_the_other(silos) -> None:
    flipped, shouted = (
        sent(attacked(job(**ONE_STEP), silos, {"bravo": found}, keep_updates=True))["bravo"]
        for found in (LabelFlip(classes=2), (LabelFlip(classes=2), Scaled(factor=8)))
    )
    assert all(torch.equal(shouted[name], 8 * value) for name, value in flipped.items())


@dataclass(frozen=True, kw_only=True)
class Noting(UpdateAttack):
    """Sends its own update and notes what it was shown."""

    knows: str = "own"

    def lie(self, own: Update, known: Known) -> Tensors:
        SHOWN.append((own.silo, known.silos, known.bad, [update.silo for update in known.updates]))
        return own.delta


SHOWN: list[Any] = []


@pytest.mark.parametrize(
    ("knows", "shown"),
    [
        ("own", []),
        ("colluders", ["bravo", "delta"]),
        ("all", ["charlie"]),  # neither the liars nor the one with flipped labels
    ],
)
def test_what_the_attackers_know(knows, shown, silos) -> None:
    SHOWN.clear()
    found = {"bravo": Noting(knows=knows), "delta": Noting(knows=knows), "alpha": LabelFlip(classes=2)}
    attacked(job(rounds=1), silos, found)
    counts = (0, 0) if knows == "own" else (4, 2)
    assert [("bravo", *counts, shown), ("delta", *counts, shown)] == SHOWN


def test_updates_are_asked_for_one_by_one_unless_others_are_looked_at(silos) -> None:
    """The honest path's memory: an update is sent on before the next silo trains."""
    plan = job(rounds=1).plan(silos)
    step = next(step for step in plan.steps if step.op == "aggregate")
    made: list[str] = []

    def training() -> Iterator[Update]:
        for silo in silos.names:
            made.append(silo)
            yield Update(delta={"w": torch.ones(2)}, weight=1.0, silo=silo)

    for attack, first in ((SignFlip(), 1), (InnerProduct(), 4)):
        made.clear()
        disturbance = Disturbance.given({"bravo": attack}, silos)
        arriving = disturbance.sent(step, training(), plan, 0, None)
        next(arriving)
        assert len(made) == first
        assert [update.silo for update in arriving] == list(silos.names[1:])


def test_honest_updates_that_liars_look_at_do_not_change(silos) -> None:
    """Median of the others' updates: a lie that wrote into them would move it."""
    asked = job(strategy=FedAvg(steps=1, lr=0.2), rounds=1, aggregator=Median())
    honest = sent(asked.run(silos, on=InProcess(folder=None, keep="all", keep_updates=True)).wait())
    lies = sent(attacked(asked, silos, {"bravo": MinMax()}, keep_updates=True))
    for silo in ("alpha", "charlie", "delta"):
        assert all(torch.equal(lies[silo][name], value) for name, value in honest[silo].items())


def test_faults_that_cannot_be_are_refused_before_anything_runs(silos, tmp_path) -> None:
    with pytest.raises(FederationError, match=r"no silo 'bravoo'; did you mean 'bravo'"):
        job().run(silos, on=InProcess(folder=None, faults={"bravoo": SignFlip()}))
    with pytest.raises(
        IncompatibleError, match=r"faults: 'bravo' is given 'SignFlip', which is no attack and no fault.*MinMax"
    ):
        job().run(silos, on=InProcess(folder=None, faults={"bravo": ("SignFlip",)}))
    with pytest.raises(IncompatibleError, match="no attack"):
        job().run(silos, on=InProcess(folder=None, faults={"bravo": SignFlip}))


def test_an_attack_of_ones_own_is_given_again_to_resume(silos, tmp_path) -> None:
    found = {"bravo": Noting()}
    started = job().run(silos, on=InProcess(folder=tmp_path, faults=found))
    started.stop()
    started.wait()
    with pytest.raises(StoreError, match="no attack 'Noting'; give it again"):
        InProcess(folder=tmp_path).resume(started.id)
    resumed = InProcess(folder=tmp_path, faults=found).resume(started.id).wait()
    assert digests(resumed, range(4)) == digests(undisturbed(job(), silos), range(4))
