"""Any optimiser of torch in the silo: to the bit what torch gives, afresh each round or with its state kept."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fl_kit import FedAvg, FedDyn, Federation, FedNova, FedProx, Job, QFedAvg, Scaffold
from fl_kit.errors import IncompatibleError, StepFailed
from fl_kit.silo import Silo
from fl_kit.strategies import FedAdam
from sim.in_process import InProcess
from sim.run import SimulatedRun
from sim.twins import twin_job
from tests.tasks import BATCHNORM, LINEAR, QUADRATIC, digests, job, random_rows, run, scalar, silos, write_task

ROWS = 8
NAMES = [
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"
]  # fmt: skip
"""All of torch.optim that step on dense gradients of any shape."""


@pytest.fixture
def one(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", a=random_rows(ROWS, 4, 1))


def by_hand(federation: Federation, start: dict[str, torch.Tensor], name: str, steps: int, **settings: Any) -> Any:
    """The same task with torch alone: full batches, one optimiser from beginning to end."""
    task = job(LINEAR, FedAvg(), 1).task.module
    model = task.model()
    model.load_state_dict(start)
    inputs, targets = task.data(federation["a"].data, "train")
    optimizer = getattr(torch.optim, name)(model.parameters(), **settings)
    for _ in range(steps):
        optimizer.zero_grad()
        task.loss(model(inputs), targets).backward()
        optimizer.step()
    return {key: value.detach() for key, value in model.state_dict().items()}, optimizer


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("name", NAMES)
def test_one_round_is_torch_to_the_bit(one: Federation, name: str) -> None:
    """The parameters less and plus their start lose no bit: none moves by more than half of itself or its double."""
    strategy = FedAvg(optimizer=name, lr=1e-4, steps=3, batch_size=ROWS, shuffle=False)
    finished = run(LINEAR, strategy, one, 1)
    expected, _ = by_hand(one, finished.state(0).params, name, 3, lr=1e-4)
    assert same(finished.state(1).params, expected)
    assert finished.digest(0) != finished.digest(1)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("Adam", {"betas": (0.8, 0.95)}), ("AdamW", {"weight_decay": 0.1}), ("SGD", {"momentum": 0.9, "nesterov": True}),
     ("NAdam", {}), ("RMSprop", {"momentum": 0.5, "centered": True}), ("Adagrad", {})],
)  # fmt: skip
def test_kept_over_rounds_it_is_one_uninterrupted_run(one: Federation, name: str, settings: dict[str, Any]) -> None:
    """One silo, full batches, server_lr 1: four rounds of two steps are eight steps of one optimiser. Reset is not."""
    asked = {
        "optimizer": name,
        "optimizer_settings": settings,
        "lr": 1e-4,
        "steps": 2,
        "batch_size": ROWS,
        "shuffle": False,
    }
    kept, reset = (run(LINEAR, FedAvg(**asked, optimizer_state=state), one, 4) for state in ("kept", "reset"))
    expected, optimizer = by_hand(one, kept.state(0).params, name, 8, lr=1e-4, **settings)
    assert same(kept.state(4).params, expected)
    assert not same(reset.state(4).params, expected)
    assert same(reset.state(1).params, kept.state(1).params)
    memory = kept.memories(4)["a"].tensors
    for parameter, state in zip(("weight", "bias"), optimizer.state.values(), strict=True):
        for what, value in state.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(memory[f"optimizer.{what}"][parameter], value), what


def test_sgd_of_torch_and_our_own_are_the_same_to_the_bit(tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", a=random_rows(20, 4, 1), b=random_rows(10, 4, 2))
    own = run(BATCHNORM, FedAvg(lr=0.05, momentum=0.9, weight_decay=0.01, batch_size=4), federation, 3)
    settings = {"momentum": 0.9, "weight_decay": 0.01}
    torchs = run(BATCHNORM, FedAvg(lr=0.05, optimizer_settings=settings, batch_size=4), federation, 3)
    assert digests(own) == digests(torchs)


def test_momentum_of_the_strategy_is_kept_too_if_asked(one: Federation) -> None:
    strategy = FedAvg(lr=1e-4, momentum=0.9, optimizer_state="kept", steps=2, batch_size=ROWS, shuffle=False)
    finished = run(LINEAR, strategy, one, 3)
    expected, _ = by_hand(one, finished.state(0).params, "SGD", 6, lr=1e-4, momentum=0.9)
    assert same(finished.state(3).params, expected)


def test_adam_by_hand(tmp_path: Path) -> None:
    """Adam's first step is lr·sign(gradient), whatever its size: from w = 0 towards 3 and −1 by 0.1 (eps aside)."""
    federation = silos(tmp_path / "silos", a=[[1.0, 3.0]], b=[[1.0, -1.0]] * 3)
    finished = run(QUADRATIC, FedAvg(optimizer="Adam", lr=0.1), federation, 1)
    assert scalar(finished.state().params) == pytest.approx((0.1 - 3 * 0.1) / 4, abs=1e-8)


def test_a_schedule_sets_its_learning_rate(one: Federation) -> None:
    strategy = FedAvg(optimizer="Adam", lr=(0.1, 0.01), steps=1, batch_size=ROWS)
    finished = run(LINEAR, strategy, one, 2)
    for round, lr in ((1, 0.1), (2, 0.01)):
        moved = finished.state(round).params["bias"] - finished.state(round - 1).params["bias"]
        assert float(moved.abs()) == pytest.approx(lr, rel=1e-6)


def test_a_correction_reaches_it(one: Federation) -> None:
    """FedProx's mu acts on the gradients before Adam sees them; with mu = 0 it is FedAvg to the bit."""
    asked = {"optimizer": "Adam", "lr": 0.05, "steps": 4, "batch_size": ROWS, "optimizer_state": "kept"}
    plain, none, strong = (
        run(LINEAR, strategy, one, 2)
        for strategy in (FedAvg(**asked), FedProx(**asked, mu=0), FedProx(**asked, mu=5.0))
    )
    assert digests(plain) == digests(none)
    assert digests(plain) != digests(strong)


def test_an_optimiser_in_the_silo_and_one_at_the_orchestrator(one: Federation) -> None:
    strategy = FedAdam(optimizer="AdamW", lr=0.01, optimizer_state="kept")
    assert len(set(digests(run(LINEAR, strategy, one, 2)))) == 3


def test_feddyn_keeps_its_gradient_and_the_optimisers_state(one: Federation) -> None:
    finished = run(LINEAR, FedDyn(optimizer="Adam", lr=0.01, optimizer_state="kept"), one, 2)
    assert set(finished.memories(2)["a"].tensors) == {
        "gradient", "optimizer.step", "optimizer.exp_avg", "optimizer.exp_avg_sq"
    }  # fmt: skip


def resumed(folder: Path, asked: Job, federation: Federation) -> tuple[SimulatedRun, SimulatedRun]:
    """A whole run, and one that is stopped after its first round and resumed."""
    backend = InProcess(folder=folder)
    whole = backend.start(asked, federation).wait()
    run = backend.start(asked, federation).wait()
    for round in (2, 3):
        for file in (folder / run.id / f"round_{round:03d}").rglob("*"):
            if file.is_file():
                file.unlink()
    events = (folder / run.id / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / run.id / "events.jsonl").write_text("".join(events[:-1]), encoding="utf-8")
    return whole, backend.resume(run.id).wait()


@pytest.mark.parametrize("drawn", [None, 1])
def test_what_is_kept_survives_a_resume(tmp_path: Path, drawn: int | None) -> None:
    federation = silos(tmp_path / "silos", a=random_rows(20, 4, 1), b=random_rows(10, 4, 2))
    asked = job(BATCHNORM, FedAvg(optimizer="AdamW", lr=0.01, optimizer_state="kept"), 3, per_round=drawn)
    whole, again = resumed(tmp_path / "runs", asked, federation)
    assert digests(whole) == digests(again)
    assert {s.id for s in asked.plan(federation).steps if s.outputs.get("memory") == "private"}


def test_it_survives_json_and_is_one_and_the_same_job() -> None:
    strategy = FedAvg(optimizer="AdamW", optimizer_settings={"betas": [0.9, 0.99], "amsgrad": True}, lr=0.01)
    asked = job(LINEAR, strategy, 2)
    again = Job.from_json(asked.to_json(), asked.task.source)
    assert again == asked
    assert again.strategy.optimizer_settings == {"betas": (0.9, 0.99), "amsgrad": True}  # type: ignore[attr-defined]
    assert hash(again.strategy) == hash(strategy)


def test_the_twins_have_the_same_optimiser(one: Federation) -> None:
    strategy = FedAvg(optimizer="Adam", optimizer_state="kept", server_momentum=0.5)
    twin = twin_job(job(LINEAR, strategy, 2), one).strategy
    assert isinstance(twin, FedAvg)
    assert (twin.optimizer, twin.optimizer_state, twin.server_momentum) == ("Adam", "kept", 0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "AdamV"}, r"FedAvg\(optimizer='AdamV'\): there is no such optimiser.*did you mean 'Adam'"),
        ({"optimizer": "LBFGS"}, "no such optimiser in a silo: it evaluates the loss several times a step"),
        ({"optimizer": "Optimizer"}, "no such optimiser"),
        ({"optimizer": 3}, "no such optimiser"),
        ({"optimizer": "Adam", "optimizer_settings": {"beta": 0.9}}, "unexpected keyword argument 'beta'"),
        ({"optimizer": "Adam", "optimizer_settings": {"betas": (0.9, 2.0)}}, "Invalid beta"),
        ({"optimizer": "Adam", "optimizer_settings": {"lr": 0.1}}, "leave out 'lr', it is the strategy's lr"),
        ({"optimizer": "Adam", "optimizer_settings": ["betas"]}, "must be a dict such as"),
        ({"optimizer": "Adam", "momentum": 0.9}, r"momentum=0.9\) is that of plain SGD; with optimizer='Adam'"),
        ({"optimizer": "AdamW", "weight_decay": 0.1}, "write it into optimizer_settings, once"),
        ({"momentum": 0.5, "optimizer_settings": {"momentum": 0.9}}, "write it into optimizer_settings, once"),
        ({"optimizer_state": "keep"}, "must be 'reset', afresh each round, or 'kept'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(IncompatibleError, match=message):
        FedAvg(**settings)


@pytest.mark.parametrize("kind", [Scaffold, FedNova, QFedAvg])
@pytest.mark.parametrize(
    "settings", [{"optimizer": "Adam"}, {"optimizer_settings": {"momentum": 0.9}}, {"optimizer_state": "kept"}]
)
def test_who_counts_on_plain_sgd_refuses_others(kind: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleError, match=f"{kind.__name__} counts on plain SGD in the silos"):
        kind(**settings)


def test_settings_that_are_not_plain_data_do_not_travel() -> None:
    with pytest.raises(IncompatibleError, match="settings must be numbers, text, or lists and dicts"):
        job(LINEAR, FedAvg(optimizer="Adam", optimizer_settings={"eps": torch.tensor(1e-8)}), 1)


def test_a_task_of_its_own_fit_has_no_state_to_keep(tmp_path: Path) -> None:
    task = write_task(tmp_path, LINEAR.read_text(encoding="utf-8") + "\ndef fit(model, data, context):\n    pass\n")
    with pytest.raises(IncompatibleError, match=r"optimizer_state='kept'.*its own fit\(\)"):
        job(task, FedAvg(optimizer_state="kept"), 1)


def test_a_model_that_the_optimiser_does_not_take_is_named(one: Federation) -> None:
    with pytest.raises(StepFailed, match="Muon does not take this model's parameters"):
        run(LINEAR, FedAvg(optimizer="Muon"), one, 1)


def test_plain_sgd_does_not_pay_for_torchs_optimisers(tmp_path: Path) -> None:
    """The first one made loads torch._dynamo: a second and more of every start."""
    federation = silos(tmp_path / "silos", a=random_rows(4, 4, 1))
    program = (
        "import sys; from fl_kit import FedAvg, Job, Federation, Silo; from sim import InProcess\n"
        f"federation = Federation(silos=(Silo(name='a', data={federation['a'].data!r}),))\n"
        f"job = Job(task={str(LINEAR)!r}, strategy=FedAvg(), rounds=1, device='cpu')\n"
        "job.run(federation, on=InProcess(folder=None)).wait()\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_parameter_that_takes_no_part_keeps_no_state(tmp_path: Path) -> None:
    source = LINEAR.read_text(encoding="utf-8") + (
        "\nclass Two(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.used = nn.Linear(WIDTH, 1, dtype=torch.float64)\n"
        "        self.idle = nn.Linear(WIDTH, 1, dtype=torch.float64)\n"
        "    def forward(self, x):\n"
        "        return self.used(x)\n"
        "def model():\n    return Two()\n"
    )
    federation = Federation(silos=(Silo(name="a", data=silos(tmp_path, a=random_rows(5, 4, 1))["a"].data),))
    finished = run(write_task(tmp_path, source), FedAvg(optimizer="Adam", optimizer_state="kept"), federation, 2)
    assert set(finished.memories(2)["a"].tensors["optimizer.exp_avg"]) == {"used.weight", "used.bias"}
    assert torch.equal(finished.state(2).params["idle.weight"], finished.state(0).params["idle.weight"])
