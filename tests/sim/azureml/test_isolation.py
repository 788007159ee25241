"""A step sees its own inputs, outputs and code, and nothing else: attacked with each kind of isolation there is."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sim.azureml import isolation, namespaces, runs
from sim.azureml.executor import Executor
from sim.azureml.isolation import NotIsolated, available, bubblewrap, choose, interpreter, succeeds
from sim.azureml.launcher import Launcher
from sim.azureml.processes import View
from sim.azureml.runs import COMPLETED, FAILED
from tests.sim.azureml.steps import complaint, do, executing, make_workspace, node, pipeline, records, result, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")

KINDS = [
    pytest.param(
        "namespaces",
        marks=pytest.mark.skipif(available() != "namespaces", reason="no user namespaces on this machine"),
    ),
    pytest.param(
        "bubblewrap",
        marks=pytest.mark.skipif(
            not succeeds([*bubblewrap(View(readable=interpreter())), sys.executable, "-c", ""]),
            reason="no bubblewrap on this machine",
        ),
    ),
]

HEAD = """
import os, pathlib
def attempt(what):
    try:
        return what()
    except OSError as error:
        return type(error).__name__
"""


@pytest.fixture(autouse=True, scope="module")
def brisk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "SHORTEST", 0.0)
        yield


@pytest.fixture(scope="module", params=KINDS)
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    state = make_workspace(tmp_path_factory.mktemp(request.param) / "root")
    with executing(state, isolation=request.param) as executor:
        yield executor


def look(executor: Executor, name: str, expression: str, **variables: str) -> object:
    """What a step at silo alpha, with its own data as input, finds."""
    step = do(
        HEAD + f"result = {expression}", inputs={"data": "azureml://datastores/alpha_store/paths/data"}, compute="alpha"
    )
    step["environment_variables"].update(variables)
    assert run(executor, name, pipeline({"look": step})) == COMPLETED, complaint(records(executor.state, name)["look"])
    assert records(executor.state, name)["look"]["properties"]["azureml.isolation"] == executor.launcher.isolation
    return result(executor.state, name, "look")


READ = "attempt(lambda: pathlib.Path(os.environ['TARGET']).read_text())"


def test_a_step_reads_its_own_data(executor):
    own = "attempt(lambda: pathlib.Path(os.environ['AZURE_ML_INPUT_data'], 'x').read_text())"
    assert look(executor, "own", own) == "rows of alpha"


@pytest.mark.parametrize(
    "place",
    [
        "storage/bravo_store/data/x",
        "storage/orchestrator/data/x",
        "storage/orchestrator/code/do.py",
        "settings.json",
        "documents/computes/alpha.json",
    ],
)
def test_a_step_reads_nothing_of_another_silo_nor_of_the_workspace(executor, place):
    target = executor.state.root / place
    assert target.read_text()
    assert look(executor, place.replace("/", "."), READ, TARGET=str(target)) == "FileNotFoundError"


def test_a_step_reads_nothing_of_the_users(executor, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    assert look(executor, "home", READ, TARGET=str(secret)) == "FileNotFoundError"
    assert look(executor, "shadow", READ, TARGET="/etc/shadow") == "FileNotFoundError"


def test_a_step_sees_only_its_own_datastore_and_not_the_other_jobs(executor):
    names = "sorted(os.listdir(os.environ['TARGET']))"
    assert look(executor, "names", names, TARGET=str(executor.state.root / "storage")) == [
        "alpha_store",
        "orchestrator",
    ]
    assert look(executor, "jobs", names, TARGET=str(executor.state.root / "jobs")) == ["jobs"]


OPEN_TO_WRITE = "attempt(lambda: open(os.environ['TARGET'], 'a').close())"
"""Opens for writing, and writes nothing: where isolation fails, the test does no harm."""


def test_inputs_interpreter_and_kernel_settings_are_read_only(executor):
    data = executor.state.storage("alpha_store") / "data" / "x"
    assert look(executor, "input", OPEN_TO_WRITE, TARGET=str(data)) == "OSError"
    assert look(executor, "library", OPEN_TO_WRITE, TARGET=os.__file__) == "OSError"
    for number, name in enumerate(("sys/kernel/core_pattern", "sysrq-trigger")):
        if Path("/proc", name).exists():
            found = look(executor, f"kernel{number}", OPEN_TO_WRITE, TARGET=f"/proc/{name}")
            assert found in ("OSError", "PermissionError"), name


def test_a_step_sees_no_other_process_and_cannot_end_one(executor):
    assert look(executor, "kill", f"attempt(lambda: os.kill({os.getpid()}, 0))") == "ProcessLookupError"
    seen = look(executor, "seen", "len([name for name in os.listdir('/proc') if name.isdigit()])")
    assert isinstance(seen, int)
    assert seen <= 3


def test_a_step_has_no_capabilities_and_cannot_get_any(executor):
    status = (
        "[line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapPrm', 'CapBnd'))]"
    )
    assert look(executor, "capabilities", status) == ["0" * 16] * 3
    root = "os.system('mount -o remount,rw /usr 2>/dev/null') != 0"
    assert look(executor, "remount", root) is True


def test_a_link_in_a_silos_data_leads_nowhere(executor):
    target = executor.state.storage("bravo_store") / "data" / "x"
    link = executor.state.storage("alpha_store") / "data" / "link"
    link.symlink_to(target)
    try:
        read = "attempt(lambda: pathlib.Path(os.environ['AZURE_ML_INPUT_data'], 'link').read_text())"
        assert look(executor, "link", read) == "FileNotFoundError"
    finally:
        link.unlink()


def test_an_output_that_is_a_link_to_another_silo_is_refused(executor):
    """A silo's step that plants a link in its own datastore does not lead a later step out of it."""
    link = executor.state.storage("alpha_store") / "planted"
    link.symlink_to(executor.state.storage("bravo_store") / "data")
    try:
        step = node("cat ${{inputs.data}}/x", inputs={"data": "azureml://datastores/alpha_store/paths/planted"})
        assert run(executor, "planted", pipeline({"n": step | {"computeId": "alpha"}})) == FAILED
        assert "is no path in datastore 'alpha_store'" in complaint(records(executor.state, "planted")["n"])[1]
    finally:
        link.unlink()


def test_without_isolation_the_same_attack_succeeds_and_the_workspace_says_so(tmp_path):
    """So the tests above are not blind: what they find missing is there."""
    state = make_workspace(tmp_path / "root")
    target = state.root / "storage" / "bravo_store" / "data" / "x"
    with pytest.warns(NotIsolated, match="steps are NOT isolated"):
        executor = Executor(state, Launcher("none", warm=()))
    with closing(state):
        assert look(executor, "attack", READ, TARGET=str(target)) == "rows of bravo"
    assert state.documents.get("workspace", "isolation") == {"isolation": "none"}


def test_a_machine_that_offers_nothing_is_warned_about(monkeypatch):
    monkeypatch.setattr(isolation, "succeeds", lambda command: False)
    available.cache_clear()
    try:
        with pytest.warns(NotIsolated, match="wiring, not privacy"):
            assert choose() == "none"
    finally:
        available.cache_clear()


def test_bubblewrap_is_taken_where_namespaces_are_forbidden(monkeypatch):
    monkeypatch.setattr(isolation, "succeeds", lambda command: command[0] == "bwrap")
    monkeypatch.setattr(isolation.shutil, "which", lambda name: f"/usr/bin/{name}")
    available.cache_clear()
    try:
        assert choose() == "bubblewrap"
    finally:
        available.cache_clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run without privileges already")
@pytest.mark.skipif(available() != "namespaces", reason="no user namespaces on this machine")
def test_namespaces_need_no_privileges():
    script = Path(namespaces.__file__).read_bytes()
    command = ["/usr/bin/env", "python3", "-I", "-S", "-"]
    if subprocess.run([*command[:-1], "-c", ""], user=65534, cwd="/", check=False, capture_output=True).returncode:
        pytest.skip("another user has no Python here")
    done = subprocess.run(
        command, input=script, user=65534, group=65534, extra_groups=[], cwd="/", check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr


WITHOUT = """
import importlib.util, json, os, pathlib, sys
spec = importlib.util.spec_from_file_location("namespaces", sys.argv[1])
namespaces = importlib.util.module_from_spec(spec)
spec.loader.exec_module(namespaces)
mount = namespaces.mount

def reluctant(source, target, kind="", *rest, **more):
    if kind == sys.argv[2]:
        raise OSError(1, "not here")
    return mount(source, target, kind, *rest, **more)

def look():
    code = pathlib.Path("work/code.py")
    before = code.read_text()
    code.write_text("changed")
    found = [before, code.read_text(), sorted(os.listdir("/proc"))]
    pathlib.Path("out/found").write_text(json.dumps(found))
    return 0

namespaces.mount = reluctant
here = os.getcwd()
readable = json.loads(sys.argv[3])
sys.exit(namespaces.run_apart({
    "readable": readable, "writable": [f"{here}/out", f"{here}/work"],
    "code": [f"{here}/source", f"{here}/work", f"{here}/changes"],
}, look))
"""


@pytest.mark.skipif(available() != "namespaces", reason="no user namespaces on this machine")
@pytest.mark.parametrize("kind", ["overlay", "proc", "nothing"])
def test_what_a_kernel_does_not_offer_is_made_up_for(tmp_path, kind):
    for name in ("out", "work", "source", "changes"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "code.py").write_text("original")
    paths = json.dumps([str(path) for path in interpreter()])
    command = [sys.executable, "-c", WITHOUT, namespaces.__file__, kind, paths]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after, processes = json.loads((tmp_path / "out" / "found").read_text())
    assert (before, after) == ("original", "changed")
    assert (tmp_path / "source" / "code.py").read_text() == "original"
    assert set(processes) <= set(namespaces.PROCESS_FILES) if kind == "proc" else "1" in processes
