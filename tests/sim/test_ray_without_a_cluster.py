"""What Ray says before there is any cluster, and what is handed to one."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fl_kit import Federation, Silo
from fl_kit.errors import FederationError, IncompatibleError, MessageError, StepFailed, Stopped
from fl_kit.messages import Memory, Origin, State, Update
from fl_kit.tensors import digest
from sim.ray_cluster import connection as module
from sim.ray_cluster import engine
from sim.ray_cluster.backend import Ray
from sim.ray_cluster.connection import Connection
from sim.ray_cluster.errors import ClusterError
from sim.ray_cluster.placement import at_once, check_placed, demands, fits, nowhere
from sim.ray_cluster.sealed import from_message, sealed, to_message, unsealed
from tests.sim.small import federation, job

NODES = [{"CPU": 4.0, "here": 1.0, "memory": 1e9, "node:10.0.0.1": 1.0}, {"CPU": 2.0, "GPU": 1.0}]


def parties(*names: str) -> Federation:
    return Federation(silos=tuple(Silo(name=name, data=f"data/{name}") for name in names))


def test_ray_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, sim; sim.Ray(address='localhost:6379'); print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(IncompatibleError, match=r"pip install 'fl-kit\[ray\]'"):
        job().run(federation(tmp_path), on=Ray(folder=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_an_address_where_nothing_listens_is_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed: pip install 'fl-kit[ray]'")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for given in (address, f"ray://{address}"):
            with pytest.raises(ClusterError, match=f"no Ray cluster answers at {given} .*refused"):
                job().run(federation(tmp_path), on=Ray(address=given, folder=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "address", ["", "localhost", "10.0.0.4:port", "http://10.0.0.4:6379", "ray://", "10.0.0.4:6379/"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ClusterError, match="is no address: give 'host:port'"):
        Ray(address=address)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"in_flight": 0}, r"in_flight=0\) must be a whole number from 1 on"),
        ({"threads": 1.5}, r"threads=1.5\) must be a whole number"),
        ({"tries": -1}, r"tries=-1\) must be a whole number from 0 on"),
        ({"margin": -1.0}, r"margin=-1.0\) must be"),
        ({"patience": float("nan")}, r"patience=nan\) must be"),
    ],
)
def test_settings_that_make_no_sense(settings: Any, says: str) -> None:
    with pytest.raises(IncompatibleError, match=says):
        Ray(**settings)


def test_a_device_that_no_step_would_have(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="give each step a GPU, such as gpus=1"):
        Ray(folder=tmp_path / "runs").start(job(device="cuda"), federation(tmp_path))


def test_a_step_asks_for_what_all_patterns_of_its_silo_say() -> None:
    asked = demands(
        parties("ash", "ashen", "birch"),
        cpus=2,
        gpus=0,
        resources={"ash*": {"wood": 0.5}, "ashen": {"grey": 1, "wood": 0.25}},
    )
    assert asked == {
        "ash": {"CPU": 2.0, "wood": 0.5},
        "ashen": {"CPU": 2.0, "grey": 1.0, "wood": 0.25},
        "birch": {"CPU": 2.0},
    }


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"resources": {"ahs": {"wood": 1}}}, FederationError, "there is no silo 'ahs'; did you mean 'ash'"),
        ({"resources": {"ash": {"CPU": 1}}}, IncompatibleError, "CPU is set by cpus=…"),
        ({"resources": {"ash": {"wood": 0}}}, IncompatibleError, "'wood'.*=0\\) is no amount"),
        ({"cpus": -1}, IncompatibleError, r"cpus=-1\) is no amount"),
        ({"gpus": float("nan")}, IncompatibleError, r"gpus=nan\) is no amount"),
    ],
)
def test_what_cannot_be_asked_for(settings: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        demands(parties("ash"), **{"cpus": 1, "gpus": 0, "resources": {}, **settings})


def test_one_node_must_have_all_that_a_step_asks_for() -> None:
    assert fits({"CPU": 4.0, "here": 1.0}, NODES)
    assert not fits({"CPU": 1.0, "GPU": 1.0, "here": 1.0}, NODES)
    check_placed({"ash": {"CPU": 2.0, "GPU": 1.0}}, NODES)
    with pytest.raises(ClusterError) as raised:
        check_placed({"ash": {"CPU": 1.0}, "birch": {"CPU": 1.0, "there": 2.0}}, NODES)
    assert "silo birch asks for there 2, and no node of the cluster has that" in str(raised.value)
    assert "have: CPU 2, GPU 1; CPU 4, here 1." in str(raised.value)
    assert "has all of that" in nowhere("ash", {"GPU": 1.0, "here": 1.0}, NODES)


@pytest.mark.parametrize(
    ("asked", "steps"),
    [({"CPU": 1.0}, 6), ({"CPU": 3.0}, 1), ({"CPU": 1.0, "GPU": 0.5}, 2), ({"CPU": 1.0, "here": 0.25}, 4), ({}, 6)],
)
def test_how_many_steps_run_at_once(asked: Any, steps: int) -> None:
    """Of the two nodes, the first has 4 CPUs and 1 `here`, the second 2 CPUs and 1 GPU."""
    assert at_once(asked, NODES) == steps


def test_what_is_sealed_comes_out_as_it_went_in() -> None:
    assert unsealed(sealed({"a": [1, "ü"]}, b"", b"\0\1", b"x" * 9)) == ({"a": [1, "ü"]}, [b"", b"\0\1", b"x" * 9])


def test_messages_keep_every_bit() -> None:
    values = {"w": torch.tensor([1.5, float("nan"), -0.0]), "n": torch.tensor(7), "e": torch.empty(0, 2).double()}
    state = State(round=3, params=values, memory={"m": {"w": values["w"]}}, counted={"ash": 3}, watched=(float("inf"),))
    back = to_message(State, from_message(state))
    assert back.sha256 == state.sha256
    assert (back.round, back.counted, back.watched) == (3, {"ash": 3}, (float("inf"),))
    update = Update(delta=values, weight=2.0, silo="ash", origin=Origin(step="round_004/ash/fit", start=state))
    again = to_message(Update, from_message(update))
    assert digest(again.delta) == digest(values)
    assert again.origin is not None
    assert again.origin.began_with(state)
    assert to_message(Memory, from_message(Memory())).tensors == {}


def test_a_tensor_keeps_its_order_of_memory() -> None:
    """As a convolution's lies, by channels: a sum over it goes in another order, and ends in other bits."""
    weight = torch.arange(48.0).reshape(2, 4, 3, 2).to(memory_format=torch.channels_last)
    update = Update(delta={"conv": weight, "t": torch.arange(6.0).reshape(2, 3).t()}, weight=1.0)
    back = to_message(Update, from_message(update)).delta
    for name, value in update.delta.items():
        assert back[name].stride() == value.stride()
        assert torch.equal(back[name], value)
    meta, (part,) = unsealed(from_message(update))
    for strides in ([1, 1, 1, 1], [10**9, 1, 1, 1], [-1, 1, 1, 1], [1, 1]):
        with pytest.raises(MessageError):
            to_message(Update, sealed({**meta, "strides": {"delta/conv": strides}}, part))


def test_a_message_that_was_damaged_is_refused() -> None:
    origin = Origin(step="round_001/ash/fit", start=None)
    data = from_message(Update(delta={"w": torch.zeros(4)}, weight=1.0, silo="ash", origin=origin))
    with pytest.raises(MessageError, match="damaged on its way"):
        to_message(Update, data[:-1] + b"\1")
    with pytest.raises(MessageError, match="expected a message of the kind 'memory', found 'update'"):
        to_message(Memory, data)
    for cut in (0, 5, 40, len(data) - 1):
        with pytest.raises(MessageError):
            to_message(Update, data[:cut])


class FakeRay:
    """Counts what is asked of it; its tasks never end."""

    def __init__(self, *, connected: bool, refuses: str = "") -> None:
        self.connected = connected
        self.refuses = refuses
        self.calls: list[str] = []

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, *, address: str, **settings: Any) -> None:
        self.calls.append(f"init {address}")
        if self.refuses:
            raise ConnectionError(self.refuses)
        self.connected = True

    def wait(self, references: list[str], *, timeout: float) -> tuple[list[str], list[str]]:
        return [], references

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        self.connected = False


def test_runs_share_a_connection_and_the_last_one_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, connection = FakeRay(connected=False), Connection()
    monkeypatch.setattr(module, "imported", lambda: ray)
    connection.hold("local")
    connection.hold("local")
    connection.release()
    assert ray.calls == ["init local"]
    with pytest.raises(ClusterError, match="connected to the cluster 'local', and can be to one at a time"):
        connection.hold("10.0.0.4:6379")
    connection.release()
    assert ray.calls == ["init local", "shutdown"]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("auto", r"this machine belongs to no Ray cluster \(Could not find any\): start one with `ray start --head`"),
        ("local", "no Ray could be started on this machine: Could not find any"),
    ],
)
def test_a_cluster_that_is_not_there(address: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ray, connection = FakeRay(connected=False, refuses="Could not find any\nrunning instance"), Connection()
    monkeypatch.setattr(module, "imported", lambda: ray)
    with pytest.raises(ClusterError, match=says):
        connection.hold(address)
    assert ray.calls == [f"init {address}", "shutdown"]
    ray.refuses = ""
    connection.hold(address)  # a later one finds it
    assert connection.made == address


def test_a_silo_whose_last_node_was_lost_waits_no_longer_than_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, silos = FakeRay(connected=True), federation(tmp_path, {"ash": 9})
    monkeypatch.setattr(engine, "imported", lambda: ray)
    monkeypatch.setattr(engine, "nodes_now", lambda: NODES)
    monkeypatch.setattr(engine, "LOOK_AT_NODES", 0.0)
    backend = Ray(resources={"ash": {"here": 2}}, patience=0.05)
    waiting, step = backend._engine(job(), silos, 1), job().plan(silos).by_id["round_001/ash/fit"]
    waiting._handed[step.id] = "the step"
    with pytest.raises(StepFailed, match=r"ash, round 1, step 'fit': silo ash asks for here 2, and no node"):
        waiting._wait_for(step, lambda: None)
    assert waiting._handed == {}

    def stopped() -> None:
        raise Stopped("asked to")

    waiting._handed[step.id] = "the step"
    with pytest.raises(Stopped):
        waiting._wait_for(step, stopped)
    assert step.id in waiting._handed, "close() has to cancel it"


def test_the_notebooks_own_connection_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, connection = FakeRay(connected=True), Connection()
    monkeypatch.setattr(module, "imported", lambda: ray)
    connection.hold("10.0.0.4:6379")
    connection.release()
    assert ray.calls == []


def test_it_shows_itself_as_it_was_made() -> None:
    assert repr(Ray(address="auto", cpus=2)) == "Ray(cpus=2)"
