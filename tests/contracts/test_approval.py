"""A silo's own policy holds in every backend: who asks for what did not come is left out, and none of the task runs."""

from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Job, approve, write_bundle
from fl_kit import step as command
from fl_kit.azureml import AzureML
from fl_kit.bundle import Bundle
from fl_kit.errors import StepFailed
from fl_kit.signing import make_key
from sim.azureml import LocalWorkspace
from sim.in_process import InProcess
from sim.processes import Processes
from tests.tasks import QUADRATIC, digests, job, run, silos, write_task


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return silos(tmp_path / "silos", ash=[[1.0, 2.0], [1.0, 4.0]], birch=[[1.0, -3.0]])


def asked(**settings: Any) -> Job:
    return job(QUADRATIC, FedAvg(lr=0.1), 1, **settings)


def signed(place: Path, name: str, made: Job, federation: Federation) -> tuple[str, Bundle]:
    """The public key of an approver, who has signed for the job's bundle."""
    public = make_key(place / f"{name}.pem")
    bundle = write_bundle(made, made.plan(federation), place / "bundle")
    approve(bundle, key=place / f"{name}.pem", name=name)
    return public, bundle


def wants(federation: Federation, silo: str, name: str, public: str) -> Path:
    file = Path(federation[silo].data) / "policy.toml"
    file.write_text(f'[approvers]\n{name} = "{public}"\n')
    return file


def one_of_two(tmp_path: Path, federation: Federation, made: Job) -> Bundle:
    """Alice has signed, for whom ash asks; bob has not, for whom birch asks."""
    public, bundle = signed(tmp_path, "alice", made, federation)
    wants(federation, "ash", "alice", public)
    wants(federation, "birch", "bob", make_key(tmp_path / "bob.pem"))
    return bundle


def refused(run: Any, bundle: Bundle) -> None:
    """Birch alone failed, and says what it lacks."""
    failures = run.failures.to_dict("records")
    assert {row["silo"] for row in failures} == {"birch"}
    for row in failures:
        assert f"silo birch refuses bundle {bundle.digest}: 0 of 1 needed approvals are valid" in row["message"]
        assert "missing: bob. not counted: alice is no approver here. So says" in row["message"]
        assert "policy.toml" in row["message"]


@pytest.mark.parametrize("folder", ["runs", None])
def test_a_silo_whose_policy_lacks_an_approval_is_left_out_and_the_others_go_on(
    federation: Federation, tmp_path: Path, folder: str | None
) -> None:
    made = asked(min_silos=1)
    alone = run(QUADRATIC, FedAvg(lr=0.1), federation.select(["ash"]), 1)  # before there is any policy
    bundle = one_of_two(tmp_path, federation, made)
    place = InProcess(folder=tmp_path / folder if folder else None, approvals=tmp_path / "approvals")
    finished = place.start(made, federation).wait()
    assert finished.digest(1) == digests(alone)[1]
    refused(finished, bundle)


def test_a_step_in_a_process_of_its_own_asks_its_silos_policy(federation: Federation, tmp_path: Path) -> None:
    made = asked()
    bundle = one_of_two(tmp_path, federation, made)
    found = Processes(folder=tmp_path / "runs", approvals=tmp_path / "approvals").start(made, federation)
    with pytest.raises(StepFailed, match="silo birch refuses bundle") as raised:
        found.wait()
    assert raised.value.kind == "PolicyError"
    refused(found, bundle)  # ash's step came first, and ran


def test_approvals_travel_to_azureml(federation: Federation, tmp_path: Path) -> None:
    made = asked()
    bundle = one_of_two(tmp_path, federation, made)
    with LocalWorkspace.for_federation(federation, root=tmp_path / "workspace").start() as workspace:
        place = AzureML(workspace.client(), folder=tmp_path / "runs", approvals=tmp_path / "approvals")
        found = place.start(made, workspace.federation.select(federation.names))
        with pytest.raises(StepFailed, match="silo birch refuses bundle"):
            found.wait()
        refused(found, bundle)


def test_a_run_that_was_refused_goes_on_once_the_approval_is_there(federation: Federation, tmp_path: Path) -> None:
    made = asked()
    expected = digests(run(QUADRATIC, FedAvg(lr=0.1), federation, 1))  # before there is any policy
    public = make_key(tmp_path / "alice.pem")
    wants(federation, "birch", "alice", public)
    first = InProcess(folder=tmp_path / "runs").start(made, federation)
    with pytest.raises(StepFailed, match="silo birch refuses bundle") as raised:
        first.wait()
    assert raised.value.kind == "PolicyError"
    approve(write_bundle(made, made.plan(federation), tmp_path / "bundle"), key=tmp_path / "alice.pem", name="alice")
    again = InProcess(folder=tmp_path / "runs", approvals=tmp_path / "approvals").resume(first.id).wait()
    assert digests(again) == expected


MARKING = """
from pathlib import Path
from tests.tasks.quadratic import Weight, data, loss, model  # noqa: F401

Path(MARKER).write_text("the task was imported")
"""


def test_where_the_policy_refuses_the_task_is_never_imported(
    federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "marker"
    made = job(write_task(tmp_path, MARKING.replace("MARKER", repr(str(marker))), "marking"), FedAvg(lr=0.1), 1)
    public, bundle = signed(tmp_path, "alice", made, federation)
    marker.unlink()

    def step(name: str, *more: str) -> int:
        party, op = name.split("/")[1:]
        data = [] if party == "orchestrator" else ["--data", federation[party].data]
        given = [f"--output={output}={tmp_path / op / output}" for output in ("state" if op == "init" else "update",)]
        given += [] if op == "init" else [f"--input=state={tmp_path / 'init' / 'state'}"]
        return command.main(["--bundle", str(bundle.folder), "--step", name, *data, *given, *more])

    assert step("round_000/orchestrator/init") == 0
    marker.unlink()
    wants(federation, "ash", "alice", public)
    capsys.readouterr()
    assert step("round_001/ash/fit") == 1
    assert not marker.exists()
    assert not (tmp_path / "fit").exists()
    assert capsys.readouterr().err.startswith(f"PolicyError: silo ash refuses bundle {bundle.digest}: 0 of 1 needed")
    assert step("round_001/ash/fit", "--approvals", str(tmp_path / "approvals")) == 0
    assert marker.exists()
