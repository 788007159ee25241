import json
from dataclasses import replace

import pytest
import torch

from fl_kit import FedAvg, Federation, FedProx, Job, Scaffold, Target
from fl_kit.aggregators import Bulyan, FLTrust, Krum, Mean, Median, NormBounded
from fl_kit.errors import FlKitError, IncompatibleError, TaskError
from sim.in_process import InProcess
from sim.twins import twin_job
from tests.sim.small import LOGISTIC, digests, federation, job, undisturbed, variant

OWN = """
from dataclasses import dataclass
from typing import ClassVar

from fl_kit import FedAvg
from fl_kit.aggregators import Bulyan, FLTrust, Krum, Mean, Median, NormBounded


@dataclass(frozen=True, kw_only=True)
class Halved(FedAvg):
    '''FedAvg that goes half as far.'''
    share: float = 0.5
    lists: tuple = ()

    def aggregate(self, state, updates, ctx):
        return type(state)(round=state.round + 1, params=self.move(state.params, self.half(ctx.combine(updates))))

    def half(self, mean):
        delta = {name: change * self.share for name, change in mean.delta.items()}
        return type(mean)(delta=delta, weight=mean.weight, extra=mean.extra)


@dataclass(frozen=True, kw_only=True)
class Times:
    factor: float
    hides_individuals: ClassVar[bool] = False

    def on_silo(self, update, ctx):
        return self.change(update, lambda x: x * self.factor)

    def on_orchestrator(self, update, ctx):
        return self.change(update, lambda x: x / self.factor)

    def change(self, update, function):
        delta = {name: function(value) for name, value in update.delta.items()}
        return type(update)(
            delta=delta, weight=update.weight, extra=update.extra, metrics=update.metrics, silo=update.silo
        )


@dataclass(frozen=True, kw_only=True)
class Plus(Times):
    def on_silo(self, update, ctx):
        return self.change(update, lambda x: x + self.factor)

    def on_orchestrator(self, update, ctx):
        return self.change(update, lambda x: x - self.factor)


@dataclass(frozen=True, kw_only=True)
class Hiding(Times):
    hides_individuals: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Picky(Mean):
    inspects_individuals: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Deep(FedAvg):
    inside: object = None
"""


@pytest.fixture
def own(tmp_path):
    """A task with components of its own; `own.module.Halved()` is one."""
    return job(variant(tmp_path, OWN, name="own")).task


@pytest.fixture
def silos(tmp_path) -> Federation:
    return federation(tmp_path / "silos")


SETTINGS = {
    "defaults": {},
    "everything set": {
        "strategy": FedProx(mu=0.25, steps=3, momentum=0.5, weight_decay=0.01, shuffle=False, server_lr=0.5),
        "rounds": 7,
        "min_silos": 2,
        "retries": 3,
        "deadline": 2.5,
        "grace": 0.5,
        "seed": -12345678901234567890,
        "device": "cpu",
        "evaluate_every": 0,
    },
    "scaffold": {"strategy": Scaffold(lr=1e-05)},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_job_is_the_same_after_json(settings):
    asked = job(**settings)
    back = Job.from_json(asked.to_json(), LOGISTIC.read_text())
    assert back == asked
    assert back.to_json() == asked.to_json()
    assert json.loads(asked.to_json())["task"]["sha256"] == asked.task.sha256


def test_a_job_with_components_of_the_task_is_the_same_after_json(own):
    times = own.module.Times(factor=2.0)
    asked = Job(task=own, strategy=own.module.Halved(lists=(1, 2)), rounds=2, transforms=[times], aggregator=Mean())
    described = json.loads(asked.to_json())
    assert described["strategy"]["class"] == "task.Halved"
    assert described["strategy"]["settings"]["share"] == 0.5
    assert described["transforms"] == [{"class": "task.Times", "settings": {"factor": 2.0}}]
    back = Job.from_json(asked.to_json(), own.source)
    assert back.to_json() == asked.to_json()
    assert type(back.strategy).__name__ == "Halved"
    assert back.strategy.lists == (1, 2)


@pytest.mark.parametrize("part", ["format", "task", "strategy", "rounds", "transforms", "aggregator", "seed"])
@pytest.mark.parametrize("value", [None, 17, "x", [], {}, {"class": "os.system", "settings": {}}, [{}]])
def test_a_damaged_job_is_one_clear_error(part, value):
    found = json.loads(job().to_json())
    if (part, value) in (("seed", 17), ("rounds", 17), ("transforms", []), ("transforms", {})):
        value = 1.5  # the others are right, or as good as right
    with pytest.raises(FlKitError):
        Job.from_json(json.dumps({**found, part: value}), LOGISTIC.read_text())
    del found[part]
    with pytest.raises(TaskError):
        Job.from_json(json.dumps(found), LOGISTIC.read_text())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"job"'])
def test_what_is_no_job_is_one_clear_error(text):
    with pytest.raises(TaskError, match="not a job"):
        Job.from_json(text, LOGISTIC.read_text())


def test_another_source_is_refused_before_any_of_it_runs(tmp_path):
    trap = tmp_path / "ran"
    source = LOGISTIC.read_text() + f"\nopen({str(trap)!r}, 'w').close()\n"
    with pytest.raises(TaskError, match=r"logistic.*sha256"):
        Job.from_json(job().to_json(), source)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["os.system", "fl_kit.errors.FlKitError", "fl_kit.task.Task", "fl_kit.nothing.X", "X"])
def test_a_job_names_components_only(name):
    found = json.loads(job().to_json())
    found["strategy"]["class"] = name
    with pytest.raises(TaskError):
        Job.from_json(json.dumps(found), LOGISTIC.read_text())


def test_a_strategy_that_does_not_travel_names_the_cure(own):
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Local(FedAvg):
        pass

    with pytest.raises(IncompatibleError, match=r"Local.*%%silo_module"):
        job(strategy=Local())
    with pytest.raises(IncompatibleError, match="Deep"):
        Job(task=own, strategy=own.module.Deep(inside={"a": object()}), rounds=1)


def test_a_strategy_of_the_task_runs_and_resumes(own, silos, tmp_path):
    """Round 1 ends half way between the start and where FedAvg ends."""
    settings = {"epochs": 2, "batch_size": 8, "lr": 0.2}
    halved = Job(task=own, strategy=own.module.Halved(**settings), rounds=4)
    plain = undisturbed(Job(task=own, strategy=FedAvg(**settings), rounds=1), silos)
    run = undisturbed(halved, silos)
    for name, start in plain.state(0).params.items():
        middle = start + 0.5 * (plain.state(1).params[name] - start)
        assert torch.allclose(run.state(1).params[name], middle, rtol=0, atol=1e-15)
    backend = InProcess(folder=tmp_path / "runs")
    stopped = halved.run(silos, on=backend)
    stopped.stop()
    stopped.wait()
    assert digests(backend.resume(stopped.id).wait(), range(5)) == digests(run, range(5))


def test_transforms_act_in_order_in_the_silo_and_in_reverse_at_the_orchestrator(own, silos):
    """Each undoes itself, so the mean is the plain one; in the wrong order 2(x+3)/2 − 3 would not be x."""
    module = own.module
    plain = undisturbed(Job(task=own, strategy=FedAvg(), rounds=2), silos)
    for transforms in (
        [module.Times(factor=2.0)],
        [module.Plus(factor=3.0), module.Times(factor=2.0)],
        [module.Times(factor=2.0), module.Plus(factor=3.0)],
    ):
        run = undisturbed(Job(task=own, strategy=FedAvg(), rounds=2, transforms=transforms), silos)
        for name, value in plain.state(2).params.items():
            assert torch.allclose(run.state(2).params[name], value, rtol=0, atol=1e-13)
    doubled = undisturbed(Job(task=own, strategy=FedAvg(), rounds=1, transforms=[module.Times(factor=2.0)]), silos)
    assert digests(doubled, [1]) == digests(plain, [1])  # powers of two round nothing away


def test_an_update_leaves_the_silo_transformed(own, silos):
    transforms = [own.module.Times(factor=2.0)]
    plain, doubled = (
        undisturbed(Job(task=own, strategy=FedAvg(), rounds=1, transforms=t), silos).history() for t in ([], transforms)
    )
    norms = [frame[frame.metric == "update_norm"].value.to_numpy() for frame in (plain, doubled)]
    assert norms[0] * 2 == pytest.approx(norms[1], rel=1e-12)


def test_an_aggregator_that_compares_refuses_a_transform_that_hides(own):
    hiding, picky = own.module.Hiding(factor=1.0), own.module.Picky()
    with pytest.raises(IncompatibleError, match=r"Picky.*Hiding"):
        Job(task=own, strategy=FedAvg(), rounds=1, aggregator=picky, transforms=[hiding])
    Job(task=own, strategy=FedAvg(), rounds=1, aggregator=picky)
    Job(task=own, strategy=FedAvg(), rounds=1, transforms=[hiding])


def test_a_strategy_of_exact_means_refuses_an_aggregator_that_gives_none():
    for aggregator in (Median(), Krum(), NormBounded(bound=1e9)):
        with pytest.raises(IncompatibleError, match=rf"Scaffold needs.*{type(aggregator).__name__}\(.*Mean"):
            job(strategy=Scaffold(), aggregator=aggregator)
        job(strategy=FedProx(), aggregator=aggregator)
    job(strategy=Scaffold(), aggregator=Mean(weighted=False))


def test_an_aggregator_with_too_few_silos_states_the_inequality(silos):
    """Four silos: Krum(bad=1) needs five."""
    with pytest.raises(IncompatibleError, match=r"Krum\(bad=1, select=1\) needs n ≥ 2·bad \+ 3 = 5 .* only 4 \(4 of 4"):
        job(aggregator=Krum(bad=1)).plan(silos)
    with pytest.raises(IncompatibleError, match=r"Bulyan\(bad=1\) needs n ≥ 4·bad \+ 3 = 7"):
        job(aggregator=Bulyan(bad=1)).plan(silos)
    job(aggregator=Krum(bad=0)).plan(silos)


def test_a_quorum_that_would_be_too_few_for_the_aggregator_is_refused(silos):
    """A round in which only two delivered would satisfy the job and not Krum."""
    with pytest.raises(IncompatibleError, match=r"needs n ≥ 2·bad \+ 3 = 3 .* only 2 \(4 of 4 .* 2 must deliver\)"):
        job(aggregator=Krum(bad=0), min_silos=2).plan(silos)
    job(aggregator=Krum(bad=0), min_silos=3).plan(silos)


def test_the_trusted_silo_must_be_one_and_in_every_round(silos):
    with pytest.raises(IncompatibleError, match=r"FLTrust\(trusted='alpa'\): there is no silo 'alpa'; did you mean"):
        job(aggregator=FLTrust(trusted="alpa")).plan(silos)
    job(aggregator=FLTrust(trusted="alpha")).plan(silos)
    with pytest.raises(IncompatibleError, match=r"trusted='alpha'\).* only 3 of 4 silos are drawn"):
        FLTrust(trusted="alpha").check(silos.names, drawn=3, least=3)


def test_the_twins_of_a_robust_job_are_plain(silos):
    """One silo that pools all rows is none to defend against, and too few for Krum."""
    twin = twin_job(job(aggregator=Krum(bad=0)), silos)
    assert twin.aggregator == Mean()


def test_the_plan_follows_from_job_and_federation_alone(silos):
    asked = job()
    assert asked.plan(silos).to_json() == replace(asked).plan(silos).to_json()
    assert asked.plan(silos).rounds == 3
    assert asked.plan(silos).silos == silos.names
    assert not asked.measures


def test_a_model_that_standardises_has_its_silos_measured_first(silos, tmp_path):
    standardised = """
from fl_kit import Standardize
def model():
    return nn.Sequential(Standardize(3), nn.Linear(3, 1, dtype=torch.float64))
"""
    asked = job(variant(tmp_path, standardised))
    plan = asked.plan(silos)
    assert asked.measures
    assert [(step.op, step.party) for step in plan.steps[:5]] == [
        *(("measure", name) for name in silos.names),
        ("init", "orchestrator"),
    ]


def test_the_first_event_says_what_progress_and_pictures_need(silos):
    """Without the rounds there is no bar and no time left; without the rule no line to reach."""
    found = job(rounds=7)
    assert found.announcement(silos) == {
        "rounds": 7,
        "silos": list(silos.names),
        "strategy": "FedAvg",
        "policy": "strict",
        "metrics": ["loss", *found.task.metrics],
    }
    rule = replace(found, stop=Target(metric="loss", value=0.5)).announcement(silos)["stop"]
    assert (rule["metric"], rule["value"]) == ("loss", 0.5)


def test_a_job_shows_what_was_set_and_nothing_that_is_as_by_default() -> None:
    shown = repr(job(strategy=FedProx(mu=1.0, lr=0.2), aggregator=Krum(bad=2), seed=7, init={"x": torch.ones(1)}))
    lines = [line.split(maxsplit=1) for line in shown.splitlines()[1:]]
    assert shown.splitlines()[0] == "Job: logistic by FedProx, 3 rounds"
    assert [name for name, _ in lines] == ["task", "strategy", "rounds", "aggregator", "init", "seed"]
    told = dict(lines)
    assert told["strategy"] == "FedProx(lr=0.2, mu=1.0)"
    assert told["aggregator"] == "Krum(bad=2)"
    assert told["init"].startswith("weights of the given tensors, sha256 ")
    assert told["task"].startswith(f"logistic.py, sha256 {job().task.sha256[:12]}")
