"""Ray on a cluster of two nodes: the rules of all backends, the bits of InProcess, and what a cluster may do."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Scaffold
from fl_kit.errors import IncompatibleError, StepFailed
from sim.faults import Drop, SignFlip
from sim.in_process import InProcess
from sim.ray_cluster import engine
from sim.ray_cluster.backend import Ray
from sim.ray_cluster.connection import connection, imported
from sim.ray_cluster.errors import ClusterError
from tests.contracts import test_backends, test_faults
from tests.contracts.test_backends import SLOW
from tests.contracts.test_control import led
from tests.sim.ray_cluster import PATIENCE, TwoNodes, silently, two_nodes
from tests.sim.small import digests, federation, job, undisturbed, variant
from tests.tasks import silos as quadratic_silos

pytestmark = pytest.mark.slow

# Ray is held to the rules of all backends: they are collected here once more, with the `kind` below.
ran, silos = test_backends.ran, test_backends.silos
OF_THE_LIST = "test_backends_are_found"
globals().update({n: rule for n, rule in vars(test_backends).items() if n.startswith("test_") and n != OF_THE_LIST})

DROPOUT = """
def model():
    return nn.Sequential(nn.Linear(3, 8, dtype=torch.float64), nn.Dropout(0.5), nn.Linear(8, 1, dtype=torch.float64))
"""
SAYS_WHERE = """
_read = data
def data(folder, split):
    import ray
    if split == "train":
        with open(folder + "/nodes.txt", "a") as file:
            print(ray.get_runtime_context().get_node_id(), file=file)
    return _read(folder, split)
"""
"""Each silo's folder gets the ids of the nodes that have read it."""
FAILS = """
_read = data
def data(folder, split):
    assert "south" not in folder, folder[-5:]
    return _read(folder, split)
"""
SAYS_EACH_BATCH = """
_loss = loss
def loss(outputs, targets):
    with open(MARK, "a") as file:
        file.write("batch ")
    return _loss(outputs, targets)
"""
DIES = """
import os
_read = data
def data(folder, split):
    if folder.endswith("south") and not os.path.exists(MARK):
        open(MARK, "w").close()
        os._exit(1)
    return _read(folder, split)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """The nodes, and a connection that stays from run to run, so that the nodes' processes do too."""
    pytest.importorskip("ray", reason="the package ray is not installed: pip install 'fl-kit[ray]'")
    with two_nodes() as made:
        connection.hold(made.address)
        try:
            yield made
        finally:
            with silently():
                connection.release()
            assert not imported().is_initialized()


@pytest.fixture(scope="module")
def kind(cluster: TwoNodes) -> type:
    @dataclass(frozen=True, kw_only=True, repr=False)
    class Here(Ray):
        address: str = cluster.address

    return Here


def where(silos: Federation, name: str) -> list[str]:
    """The nodes that have read a silo's rows."""
    file = Path(silos[name].data) / "nodes.txt"
    return file.read_text().split() if file.exists() else []


def wait_until(true: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("strategy", [FedAvg(epochs=2, batch_size=8, lr=0.2), Scaffold(batch_size=8, lr=0.2)])
def test_dropout_draws_the_same_masks(kind: Any, silos: Any, tmp_path: Path, strategy: Any) -> None:
    asked = job(variant(tmp_path, DROPOUT), strategy=strategy)
    run = asked.run(silos, on=kind(folder=None, keep="all")).wait()
    assert digests(run, range(4)) == digests(undisturbed(asked, silos), range(4))


def test_a_silo_is_placed_by_its_resource(kind: Any, cluster: TwoNodes, tmp_path: Path) -> None:
    placed = federation(tmp_path / "silos", {"north": 20, "south": 13, "south-west": 9})
    backend = kind(folder=None, resources={"north": {"here": 1}, "south*": {"there": 0.001}})
    run = job(variant(tmp_path, SAYS_WHERE)).run(placed, on=backend).wait()
    assert run.status == "completed"
    assert set(where(placed, "north")) == {cluster.here.node_id}
    assert set(where(placed, "south")) == set(where(placed, "south-west")) == {cluster.there.node_id}


def test_a_resource_that_no_node_has_is_named_before_anything_runs(kind: Any, silos: Any, tmp_path: Path) -> None:
    backend = kind(folder=tmp_path, resources={"south": {"gpu_farm": 2}})
    with pytest.raises(ClusterError, match=r"silo south asks for gpu_farm 2, .* have: CPU 1, here 1; CPU 1, there 1"):
        job().run(silos, on=backend)
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_is_lost_in_the_midst_of_a_round_changes_no_bit(
    kind: Any, cluster: TwoNodes, tmp_path: Path
) -> None:
    """Ash runs on one of two nodes that have the resource `spare`; that one is lost."""
    nodes = {node.node_id: node for node in (cluster.add("spare"), cluster.add("spare"))}
    silos = federation(tmp_path / "silos", {"ash": 24, "birch": 24, "cedar": 24})
    asked = job(variant(tmp_path, SLOW + SAYS_WHERE), strategy=Scaffold(epochs=20, batch_size=8, lr=0.2), rounds=2)
    run = asked.run(silos, on=kind(folder=tmp_path / "runs", resources={"ash": {"spare": 0.001}}))
    wait_until(lambda: where(silos, "ash"))
    assert run.status == "running"
    (first,) = where(silos, "ash")
    cluster.kill(nodes.pop(first))
    assert run.wait().status == "completed"
    assert set(where(silos, "ash")) == {first, *nodes}, "its step was begun anew on the other node"
    assert len(run.failures) == 0
    plain = job(variant(tmp_path, "", "plain"), strategy=asked.strategy, rounds=2)
    assert digests(run, range(3)) == digests(undisturbed(plain, silos), range(3))


def test_a_process_that_dies_is_begun_anew(kind: Any, silos: Any, tmp_path: Path) -> None:
    asked = job(variant(tmp_path, DIES.replace("MARK", repr(str(tmp_path / "mark")))), rounds=1)
    run = asked.run(silos, on=kind(folder=tmp_path / "runs")).wait()
    assert (tmp_path / "mark").exists()
    assert digests(run, range(2)) == digests(undisturbed(asked, silos), range(2))


def test_one_that_always_dies_has_failed(kind: Any, silos: Any, tmp_path: Path) -> None:
    always = DIES.replace("not os.path.exists(MARK)", "True").replace("MARK", repr(str(tmp_path / "mark")))
    asked = job(variant(tmp_path, always), rounds=1)
    run = asked.run(silos, on=kind(folder=None, tries=0))
    with pytest.raises(StepFailed, match=r"south, round 1, step 'fit': its process or its node was lost, begun 1 time"):
        run.wait()


def test_a_failing_task_has_the_failures_of_in_process(kind: Any, silos: Any, tmp_path: Path) -> None:
    asked = job(variant(tmp_path, FAILS), rounds=1, retries=1)
    tables = []
    for backend in (kind(folder=None), InProcess(folder=None)):
        run = asked.run(silos, on=backend)
        with pytest.raises(StepFailed, match="AssertionError: south"):
            run.wait()
        tables.append(run.failures.drop(columns=["time", "detail"], errors="ignore").to_dict("records"))
        assert "Traceback" in run.failures.detail[0]
        assert 'assert "south" not in folder' in run.failures.detail[0]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 2


def test_a_step_that_hangs_is_ended(kind: Any, silos: Any, tmp_path: Path) -> None:
    source = "def data(folder, split):\n    import time\n    time.sleep(3600)"
    asked = job(variant(tmp_path, source), rounds=1, deadline=0.5)
    run = asked.run(silos, on=kind(folder=None, margin=0.5))
    with pytest.raises(StepFailed, match="it did not end within 1 s") as raised:
        run.wait()
    assert raised.value.kind == "DeadlineExceeded"


def test_the_steps_of_a_run_that_was_stopped_end_too(kind: Any, tmp_path: Path) -> None:
    """Both are slow, and only one is waited for; they write a line for each batch."""
    parties = federation(tmp_path / "silos", {"north": 16, "south": 16})
    mark = tmp_path / "batches"
    asked = job(
        variant(tmp_path, SLOW + SAYS_EACH_BATCH.replace("MARK", repr(str(mark)))),
        strategy=FedAvg(epochs=9999, batch_size=8),
    )
    run = asked.run(parties, on=kind(folder=None))
    wait_until(lambda: mark.exists() and mark.stat().st_size > 60)
    run.stop()
    assert run.wait().status == "stopped"
    before = -1
    while before != (before := mark.stat().st_size):
        time.sleep(2.0)
    assert before < 2 * 9999 * len("batch ")


def test_a_run_that_began_in_process_goes_on_with_the_same_bits(kind: Any, silos: Any, tmp_path: Path) -> None:
    asked = job(strategy=Scaffold(batch_size=8, lr=0.2), rounds=3)
    begun = asked.run(silos, on=InProcess(folder=tmp_path), paused=True)
    begun.step()
    begun.stop()
    begun.wait()
    assert begun.rounds_done == 1
    run = kind(folder=tmp_path).resume(begun.id).wait()
    assert digests(run, range(4)) == digests(undisturbed(asked, silos), range(4))
    assert InProcess(folder=tmp_path).resume(run.id).wait().digest(3) == run.digest(3)


def test_a_run_that_is_led_by_hand(kind: Any, tmp_path: Path) -> None:
    parties = quadratic_silos(tmp_path / "silos", ash=[[1, 0]], birch=[[1, 2]], cedar=[[1, 5]])
    story = led(parties, kind(folder=tmp_path / "runs", keep_updates=True))
    expected = led(parties, InProcess(folder=tmp_path / "expected"))
    assert [story.run.digest(r) for r in range(5)] == [expected.run.digest(r) for r in range(5)]
    assert [story.branch.digest(r) for r in range(4)] == [expected.branch.digest(r) for r in range(4)]
    assert [update.silo for update in story.run.updates(3)] == ["ash", "birch"]


def test_a_silos_policy_is_asked_on_its_node(kind: Any, tmp_path: Path) -> None:
    guarded = federation(tmp_path / "silos", {"north": 20, "south": 13})
    (Path(guarded["south"].data) / "policy.toml").write_text(f'allow = ["{"0" * 64}"]\n')
    run = job(rounds=1, min_silos=1).run(guarded, on=kind(folder=tmp_path / "runs")).wait()
    assert set(run.failures.silo) == {"south"}
    assert set(run.failures.kind) == {"PolicyError"}
    assert "silo south refuses bundle" in run.failures.message[0]


def test_a_round_puts_its_state_there_once_and_few_steps_are_under_way(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parties = federation(tmp_path / "silos", {f"silo{n}": 9 for n in range(7)})
    put: list[bytes] = []
    under_way: list[int] = []
    ray = imported()
    real_put, real_task = ray.put, engine.OnRay._task

    def task(self: Any, *arguments: Any) -> Any:
        under_way.append(len(self._handed) + 1)
        return real_task(self, *arguments)

    monkeypatch.setattr(ray, "put", lambda data: put.append(data) or real_put(data))
    monkeypatch.setattr(engine.OnRay, "_task", task)
    job(rounds=2).run(parties, on=kind(folder=None, in_flight=3)).wait()
    assert len(under_way) == 3 * 7  # two rounds, and the evaluation of the last model
    assert max(under_way) == 3
    assert all(type(data) is bytes for data in put)
    assert len(put) == 1 + 3  # the bundle, and states 0, 1 and 2


def test_every_fault_has_the_words_and_bits_of_in_process(kind: Any, tmp_path: Path) -> None:
    four = federation(tmp_path, {**test_faults.SIZES, "delta": 17})
    cells = test_faults.EACH_ROUND
    here, there = (
        test_faults.over(cells).run(four, on=on(folder=None, keep="all", faults=test_faults.at_once(cells))).wait()
        for on in (InProcess, kind)
    )
    test_faults.check_cells(there, cells)
    assert digests(there, range(4)) == digests(here, range(4))


def test_faults_go_on_with_a_run_that_is_resumed_and_attacks_cannot(kind: Any, silos: Any, tmp_path: Path) -> None:
    begun = job(min_silos=1).run(silos, on=InProcess(folder=tmp_path, faults={"south": Drop()}), paused=True)
    begun.stop()
    begun.wait()
    run = kind(folder=tmp_path).resume(begun.id).wait()
    assert set(run.failures.silo) == {"south"}
    lying = job(min_silos=1).run(silos, on=InProcess(folder=tmp_path, faults={"south": SignFlip()}), paused=True)
    lying.stop()
    lying.wait()
    with pytest.raises(IncompatibleError, match="is an attack, which Ray has none of"):
        kind(folder=tmp_path).resume(lying.id)


def test_one_process_is_connected_to_one_cluster(cluster: TwoNodes, silos: Any, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="can be to one at a time"):
        job().run(silos, on=Ray(address="localhost:1", folder=tmp_path))
