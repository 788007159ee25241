"""LocalWorkspace from start to stop: what clients find, what is kept, and what is as before afterwards."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fl_kit import Federation, Orchestrator, Silo
from fl_kit.errors import FederationError
from sim.azureml import LocalWorkspace
from sim.azureml.errors import WorkspaceError
from sim.azureml.lock import Lock
from sim.azureml.pointing import CONFIG, HIDDEN, WRITTEN_BY, Pointing
from tests.sim.azureml.conftest import two_silos


def computes(client: Any) -> list[str]:
    return sorted(compute.name for compute in client.compute.list())


def files(folder: Path) -> dict[str, str]:
    """Path below a folder → text, for every file in it."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


# Pointing clients at it.


def test_code_written_for_azure_finds_it_and_calls_nobody_else(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    called: set[Any] = set()
    connect = socket.socket.connect

    def note(self: socket.socket, address: Any) -> None:
        called.add(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", note)
    with LocalWorkspace.for_federation(two_silos(in_tmp), "root") as workspace:
        client = MLClient.from_config(DefaultAzureCredential(), enable_telemetry=False)
        assert computes(client) == ["alpha", "arc-1", "orchestrator"]
        assert called == {("127.0.0.1", workspace.state.settings.port)}


def test_the_environment_is_as_before_afterwards(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HIDDEN:
        monkeypatch.setenv(name, "the user's own")
    monkeypatch.setenv("MSI_SECRET", "another")
    monkeypatch.delenv("ARM_CLOUD_METADATA_URL", raising=False)
    before = dict(os.environ)
    with LocalWorkspace("root") as workspace:
        for name, value in workspace.environment().items():
            assert os.environ[name] == value
        assert not set(HIDDEN) & set(os.environ)
        # The SDK sets it by itself, and would keep to it.
        os.environ["AZUREML_CURRENT_CLOUD"] = "changed meanwhile"
    assert dict(os.environ) == before


def test_an_error_in_the_block_restores_the_environment_too(in_tmp: Path) -> None:
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), LocalWorkspace("root"):
        1 / 0  # noqa: B018
    assert dict(os.environ) == before
    assert Lock(in_tmp / "root").holder() is None


def test_a_proxy_is_not_asked_for_loopback(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "intranet.example")
    with LocalWorkspace("root") as workspace:
        assert os.environ["no_proxy"] == "intranet.example,127.0.0.1"
        assert computes(workspace.client()) == []


def test_config_json_is_written_and_taken_away(in_tmp: Path) -> None:
    with LocalWorkspace("root", name="mine"):
        assert json.loads(CONFIG.read_text())["workspace_name"] == "mine"
    assert not CONFIG.parent.exists()


def test_somebody_elses_config_json_is_left_alone(in_tmp: Path) -> None:
    CONFIG.parent.mkdir()
    CONFIG.write_text('{"workspace_name": "the real one"}')
    workspace = LocalWorkspace("root")
    with pytest.warns(UserWarning, match="names another workspace and was left alone"):
        workspace.start()
    workspace.stop()
    assert CONFIG.read_text() == '{"workspace_name": "the real one"}'


def test_two_workspaces_at_once(in_tmp: Path) -> None:
    from azure.ai.ml.entities import Data

    (in_tmp / "rows.csv").write_text("x\n1\n")
    with LocalWorkspace.for_federation(two_silos(in_tmp), "one", name="one") as one:
        first = one.client()
        with LocalWorkspace("two", name="two") as two:
            second = two.client()
            for client in (first, second):
                client.data.create_or_update(Data(name=client.workspace_name, path="rows.csv", type="uri_file"))
            assert [computes(first), computes(second)] == [["alpha", "arc-1", "orchestrator"], []]
            assert [[data.name for data in client.data.list()] for client in (first, second)] == [["one"], ["two"]]
        # The outer one is the current one again.
        assert os.environ["ARM_CLOUD_METADATA_URL"].startswith(one.url)
        assert json.loads(CONFIG.read_text())["workspace_name"] == "one"
        assert computes(one.client()) == ["alpha", "arc-1", "orchestrator"]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("names", [("one", "two", "three"), ("same", "same", "same")])
def test_workspaces_that_overlap_end_in_any_order(in_tmp: Path, order: tuple[int, ...], names: tuple[str, ...]) -> None:
    """The one that was begun last of those that are left is in force, and in the end all is as before."""
    before = dict(os.environ)
    entered = [
        Pointing({"ARM_CLOUD_METADATA_URL": f"url {n}", "NO_PROXY": f"{n}"}, json.dumps([WRITTEN_BY, name]))
        for n, name in enumerate(names)
    ]
    for pointing in entered:
        pointing.enter()
    left = list(range(3))
    for number in order:
        entered[number].leave()
        entered[number].leave()
        left.remove(number)
        if left:
            assert os.environ["ARM_CLOUD_METADATA_URL"] == f"url {left[-1]}"
            assert json.loads(CONFIG.read_text()) == [WRITTEN_BY, names[left[-1]]]
    assert dict(os.environ) == before
    assert not CONFIG.exists()


# The federation.


def test_parties_have_computes_and_datastores(in_tmp: Path) -> None:
    with LocalWorkspace.for_federation(two_silos(in_tmp), "root") as workspace:
        federation = workspace.federation
        assert federation is not None
        alpha, bravo, hub = federation["alpha"], federation["bravo"], federation.orchestrator
        assert (alpha.compute, alpha.datastore) == ("alpha", "alpha_store")
        assert (bravo.compute, bravo.datastore, bravo.instance_type) == ("arc-1", "bravo_store", "gpu-small")
        assert (hub.compute, hub.datastore) == ("orchestrator", "orchestrator_store")
        assert alpha.data == "azureml://datastores/alpha_store/paths/data/"
        assert files(workspace.storage("alpha_store") / "data") == files(in_tmp / "alpha")
        shown = repr(workspace)
        assert all(word in shown for word in (workspace.url, "arc-1", "bravo_store", f"steps: {workspace.isolation}"))
    assert Federation.load(in_tmp / "root" / "federation.yaml").to_dict() == federation.to_dict()
    assert "not running" in repr(workspace)


def test_a_name_that_azure_would_not_take_for_a_datastore_is_changed(in_tmp: Path) -> None:
    (in_tmp / "rows").mkdir()
    (in_tmp / "rows" / "x.csv").write_text("1")
    federation = Federation(silos=(Silo(name="san-jose", data="rows"),))
    with LocalWorkspace.for_federation(federation, "root") as workspace:
        assert workspace.federation is not None
        assert workspace.federation["san-jose"].datastore == "san_jose_store"


@pytest.mark.parametrize("data", ["azureml://datastores/north/paths/heart/", "heart:3"])
def test_data_that_are_elsewhere_stay_there(in_tmp: Path, data: str) -> None:
    with LocalWorkspace.for_federation(Federation(silos=(Silo(name="north", data=data),)), "root") as workspace:
        assert workspace.federation is not None
        assert workspace.federation["north"].data == data


def test_a_silos_data_follow_its_folder_and_never_the_other_way(in_tmp: Path) -> None:
    federation = two_silos(in_tmp)
    with LocalWorkspace.for_federation(federation, "root") as workspace:
        copy = workspace.storage("alpha_store") / "data"
        untouched = (copy / "deep" / "more.csv").stat()
        (copy / "rows.csv").write_text("a step wrote this")
        (copy / "new.csv").write_text("and this")
        assert (in_tmp / "alpha" / "rows.csv").read_text() == "x,y\n1,alpha\n"
    (in_tmp / "alpha" / "late.csv").write_text("x,y\n3,3\n")
    with LocalWorkspace.for_federation(federation, "root"):
        assert files(copy) == files(in_tmp / "alpha")
        assert len(files(copy)) == 3
        assert (copy / "deep" / "more.csv").stat().st_ino == untouched.st_ino
    (in_tmp / "alpha" / "deep" / "more.csv").unlink()
    (in_tmp / "alpha" / "deep").rmdir()
    with LocalWorkspace.for_federation(federation, "root"):
        assert files(copy) == files(in_tmp / "alpha")
        assert not (copy / "deep").exists()


def test_links_are_followed_where_the_user_made_them_and_nowhere_else(in_tmp: Path) -> None:
    federation = two_silos(in_tmp)
    (in_tmp / "far").mkdir()
    (in_tmp / "far" / "linked.csv").write_text("x,y\n4,4\n")
    (in_tmp / "alpha" / "near").symlink_to(in_tmp / "far")
    (in_tmp / "victim").mkdir()
    with LocalWorkspace.for_federation(federation, "root") as workspace:
        copy = workspace.storage("alpha_store") / "data"
        assert files(copy)["near/linked.csv"] == "x,y\n4,4\n"
        assert not (copy / "near").is_symlink()
        # What a hostile step could leave behind.
        (copy / "deep" / "more.csv").unlink()
        (copy / "deep").rmdir()
        (copy / "deep").symlink_to(in_tmp / "victim")
        (copy / "rows.csv").unlink()
        (copy / "rows.csv").symlink_to(in_tmp / "victim" / "rows.csv")
    with LocalWorkspace.for_federation(federation, "root"):
        assert list((in_tmp / "victim").iterdir()) == []
        assert sorted(files(copy)) == ["deep/more.csv", "near/linked.csv", "rows.csv"]
    (in_tmp / "alpha" / "loop").symlink_to(in_tmp / "alpha")
    with pytest.raises(FederationError, match="is a link to a folder that it lies in"):
        LocalWorkspace.for_federation(federation, "root").start()


SHARED = {
    "two silos, one compute": ({"compute": "same"}, {"compute": "same"}, {}, "2 parties share the compute 'same'"),
    "two silos, one datastore": ({"datastore": "s"}, {"datastore": "s"}, {}, "2 parties share the datastore 's'"),
    "the orchestrator's compute": ({"compute": "hub"}, {}, {"compute": "hub"}, "share the compute 'hub'"),
    "a default is another's name": ({"compute": "bravo"}, {}, {}, "share the compute 'bravo'"),
    "a silo without data": ({"data": "nowhere"}, {}, {}, "alpha: there is no folder nowhere"),
}


@pytest.mark.parametrize(("alpha", "bravo", "hub", "message"), SHARED.values(), ids=SHARED)
def test_a_federation_that_cannot_be_is_refused(
    in_tmp: Path, alpha: dict[str, str], bravo: dict[str, str], hub: dict[str, str], message: str
) -> None:
    two_silos(in_tmp)
    silos = (Silo(**{"name": "alpha", "data": "alpha", **alpha}), Silo(**{"name": "bravo", "data": "bravo", **bravo}))
    before = dict(os.environ)
    with pytest.raises(FederationError, match=message):
        LocalWorkspace.for_federation(Federation(silos=silos, orchestrator=Orchestrator(**hub)), "root").start()
    assert Lock(in_tmp / "root").holder() is None
    assert dict(os.environ) == before


# What is kept.


def test_a_restarted_workspace_is_where_it_was(in_tmp: Path) -> None:
    from azure.ai.ml.entities import Environment, Model

    workspace = LocalWorkspace("root").start()
    client, url = workspace.client(), workspace.url
    client.environments.create_or_update(Environment(name="base", version="7", image="python:3.11"))
    (in_tmp / "weights.bin").write_bytes(b"w" * 1000)
    client.models.create_or_update(Model(name="net", path="weights.bin", type="custom_model", tags={"run": "a"}))
    workspace.stop()

    with LocalWorkspace("root") as again:
        assert again.url == url
        # The client from before goes on, with its old token.
        for each in (client, again.client()):
            assert each.environments.get("base", version="7").image == "python:3.11"
            assert each.models.get("net", version="1").tags == {"run": "a"}
    (blob,) = (in_tmp / "root" / "storage").rglob("weights.bin")
    assert blob.read_bytes() == b"w" * 1000


def test_a_port_that_is_taken_meanwhile_loses_nothing(in_tmp: Path) -> None:
    from azure.ai.ml import command
    from azure.ai.ml.entities import Environment

    (in_tmp / "code").mkdir()
    (in_tmp / "code" / "main.py").write_text("x = 1\n")
    with LocalWorkspace("root") as workspace:
        client, port = workspace.client(), workspace.state.settings.port
        client.environments.create_or_update(Environment(name="base", version="1", image="python:3.11"))
        built = command(command="python main.py", code="code", environment="base:1", name="fit").component
        code = client.components.create_or_update(built).code
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with LocalWorkspace("root") as again:
            assert again.state.settings.port != port
            assert again.client().components.get("fit").code.endswith(code)
            name, _, version = code.split("/codes/")[1].partition("/versions/")
            kept = again.state.documents.get("codes", name, version)
            assert kept is not None
            assert str(port) not in kept["properties"]["codeUri"]


def test_a_second_process_does_not_serve_the_same_folder(in_tmp: Path) -> None:
    with LocalWorkspace("root"), pytest.raises(WorkspaceError, match=f"running in process {os.getpid()}"):
        LocalWorkspace("root").start()
    LocalWorkspace("root").start().stop()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"nam": "x"}, "a workspace has no 'nam'; it has name, subscription"),
        ({"name": "a b"}, "name 'a b' will not do"),
        ({"resource_group": "../x"}, "resource_group '../x' will not do"),
    ],
)
def test_names_that_cannot_be_are_refused(in_tmp: Path, names: dict[str, str], message: str) -> None:
    with pytest.raises(WorkspaceError, match=message):
        LocalWorkspace("root", **names)


def test_a_kept_workspace_keeps_its_names(in_tmp: Path) -> None:
    with LocalWorkspace("root", name="first", subscription="s-1") as workspace:
        assert workspace.client().workspaces.get("first").name == "first"
    with pytest.raises(WorkspaceError, match="has name 'first', not 'second'"):
        LocalWorkspace("root", name="second").start()
    with LocalWorkspace("root") as workspace:
        assert workspace.client().subscription_id == "s-1"


def test_a_start_that_was_cut_short_is_made_up_for(in_tmp: Path) -> None:
    (in_tmp / "root").mkdir()
    (in_tmp / "root" / "settings.json").touch()
    with LocalWorkspace("root") as workspace:
        assert computes(workspace.client()) == []


def test_only_the_owner_reads_what_is_kept(in_tmp: Path) -> None:
    with LocalWorkspace("root") as workspace:
        assert workspace.root.stat().st_mode & 0o077 == 0
        assert (workspace.root / "settings.json").stat().st_mode & 0o077 == 0


def test_it_can_be_stopped_twice_and_says_when_it_does_not_run(in_tmp: Path) -> None:
    workspace = LocalWorkspace("root")
    for _ in range(2):
        for use in (workspace.client, workspace.environment, lambda: workspace.url, lambda: workspace.storage("x")):
            with pytest.raises(WorkspaceError, match="is not running: use it inside `with`"):
                use()
        assert workspace.start() is workspace
        assert workspace.start() is workspace
        workspace.stop()
        workspace.stop()


def test_it_listens_on_loopback_only(in_tmp: Path) -> None:
    with LocalWorkspace("root") as workspace:
        assert workspace._listener is not None
        assert workspace._listener._socket.getsockname()[0] == "127.0.0.1"


# The command.

CLIENT = """
from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential
client = MLClient.from_config(DefaultAzureCredential())
print(sorted(compute.name for compute in client.compute.list()))
"""


def run(root: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python <words>` in the working folder, as a shell would run it."""
    path = {"PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "ignore", *words]
    return subprocess.run(
        command, env={**os.environ, **path, **variables}, capture_output=True, text=True, timeout=120, check=False
    )


def exported(text: str) -> dict[str, str]:
    """The variables that a shell would have after these commands."""
    told = subprocess.run(["sh", "-c", f"{text}\nenv -0"], capture_output=True, text=True, check=True, env={})
    return dict(line.split("=", 1) for line in told.stdout.split("\0") if line)


def test_up_status_down(in_tmp: Path, root: Path) -> None:
    two_silos(in_tmp).save("federation.yaml")
    command = ("-m", "sim.azureml")
    try:
        up = run(root, *command, "up", "--federation", "federation.yaml")
        assert up.returncode == 0, up.stderr
        variables = {k: v for k, v in exported(up.stdout).items() if k not in ("PWD", "_", "SHLVL")}
        assert run(root, "-c", CLIENT, **variables).stdout.splitlines()[-1] == "['alpha', 'arc-1', 'orchestrator']"

        status = run(root, *command, "status")
        assert status.returncode == 0
        assert "3 computes, 5 datastores, 0 jobs" in status.stdout
        again = exported(run(root, *command, "up").stdout)
        assert again["MSI_ENDPOINT"] == variables["MSI_ENDPOINT"]

        # Killed, it leaves nothing that a new one would stumble over.
        holder = Lock(in_tmp / ".fl_kit/azureml").holder()
        assert holder is not None
        os.kill(holder, signal.SIGKILL)
        third = exported(run(root, *command, "up").stdout)
        assert third["MSI_ENDPOINT"] == variables["MSI_ENDPOINT"]
    finally:
        down = run(root, *command, "down")
    assert down.stdout.endswith("has stopped\n")
    assert run(root, *command, "status").returncode == 1
    assert not CONFIG.exists()


def test_down_ends_nothing_that_up_did_not_start(in_tmp: Path, root: Path) -> None:
    with LocalWorkspace("root") as workspace:
        down = run(root, "-m", "sim.azureml", "down", "--root", "root")
        assert down.returncode == 1
        assert f"runs inside process {os.getpid()}, which `up` did not start" in down.stderr
        assert computes(workspace.client()) == []


def test_up_says_why_it_cannot(in_tmp: Path, root: Path) -> None:
    Path("federation.yaml").write_text("silos:\n- name: a\n  data: nowhere\n")
    up = run(root, "-m", "sim.azureml", "up", "--federation", "federation.yaml")
    assert up.returncode == 1
    assert up.stdout == ""
    assert "there is no folder nowhere" in up.stderr
