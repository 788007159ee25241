"""Jobs run as processes: order, failures, limits, cancel, environment, restart."""

import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.azureml import runs
from sim.azureml.executor import Executor
from sim.azureml.isolation import NotIsolated
from sim.azureml.runs import CANCELED, COMPLETED, FAILED
from sim.azureml.state import WorkspaceState
from tests.sim.azureml.steps import (
    complaint,
    do,
    executing,
    log,
    make_workspace,
    node,
    pipeline,
    records,
    result,
    run,
    submit,
    text,
    write,
)


@pytest.fixture(autouse=True, scope="module")
def brisk() -> Iterator[None]:
    """Jobs need not last until a client has looked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "SHORTEST", 0.0)
        yield


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    with executing(make_workspace(tmp_path_factory.mktemp("jobs") / "root")) as executor:
        yield executor


def join(*names: str, optional: bool = False) -> dict[str, object]:
    """A node that joins the outputs of others."""
    parts = [f"${{{{inputs.i{i}}}}}" for i in range(len(names))]
    shown = " ".join(f"$[[{part}]]" if optional else part for part in parts)
    mark = "?" if optional else ""
    return node(f"python join.py ${{{{outputs.o}}}} {shown}", inputs={f"i{i}": mark + n for i, n in enumerate(names)})


def running(marker: str) -> bool:
    """Whether any process of this machine has a word in its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


def until(true: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def test_a_step_reads_what_the_one_before_it_wrote(executor):
    job = pipeline({"second": join("first.o", "first.o"), "first": write("abc")})
    assert run(executor, "pair", job) == COMPLETED
    assert text(executor.state, "pair", "second") == "abc+abc"
    assert log(executor.state, "pair", "first") == "wrote abc\n"
    found = records(executor.state, "pair")
    assert found["first"]["status"] == found["second"]["status"] == COMPLETED
    assert found["first"]["endTimeUtc"] <= found["second"]["startTimeUtc"]
    assert found["first"]["parentRunId"] == "pair"
    lines = log(executor.state, "pair", "", runs.PIPELINE_LOG).splitlines()
    assert lines[-1].endswith("[second] Completed")


def test_steps_that_do_not_wait_for_one_another_run_at_the_same_time(executor):
    nap = node("sleep 0.6")
    assert run(executor, "naps", pipeline(dict.fromkeys("abc", nap))) == COMPLETED
    found = records(executor.state, "naps")
    starts = [found[name]["startTimeUtc"] for name in "abc"]
    ends = [found[name]["endTimeUtc"] for name in "abc"]
    assert max(starts) < min(ends)


def test_a_failed_step_fails_the_job_with_the_users_own_error(executor):
    job = pipeline({"bad": node("python fail.py"), "next": join("bad.o"), "long": node("sleep 31.4159")})
    assert run(executor, "bad", job) == FAILED
    found = records(executor.state, "bad")
    assert (found["bad"]["status"], found["long"]["status"]) == (FAILED, CANCELED)
    assert "next" not in found
    code, message = complaint(found["bad"])
    assert code == "UserError"
    assert message.startswith("Execution failed. User process exited with status code 1.")
    assert "before\nTraceback" in message
    assert message.endswith("ValueError: the rows are gone")
    assert complaint(found[""])[1].startswith("Pipeline step bad failed: Execution failed.")
    assert not running("31.4159")


def test_with_continue_on_step_failure_an_optional_input_is_left_out_and_a_required_one_skips(executor):
    nodes = {
        "bad": node("python fail.py"),
        "good": write("g"),
        "some": join("bad.o", "good.o", optional=True),
        "all": join("bad.o", "good.o"),
        "after": join("all.o", "good.o", optional=True),
    }
    job = pipeline(nodes, settings={"continue_on_step_failure": True})
    assert run(executor, "quorum", job) == FAILED
    assert text(executor.state, "quorum", "some") == "g"
    assert text(executor.state, "quorum", "after") == "g"
    assert "all" not in records(executor.state, "quorum")
    assert complaint(records(executor.state, "quorum")[""])[1].startswith("Pipeline step bad failed: ")


def test_a_step_past_its_time_limit_is_ended_with_all_that_it_started(executor):
    command = "sleep 27.1828 & sleep 27.1828; wait"
    job = pipeline({"slow": node(command, limits={"timeout": 0.4})})
    began = time.monotonic()
    assert run(executor, "slow", job) == FAILED
    assert time.monotonic() - began < 10
    code, message = complaint(records(executor.state, "slow")["slow"])
    assert (code, message) == ("JobTimeout", "the step took longer than its limit of 0.4 s and was ended")
    until(lambda: not running("27.1828"))


def test_cancel_ends_what_runs_and_starts_nothing_more(executor):
    job = pipeline(
        {"done": write("kept"), "long": node("sleep 16.1803", inputs={"i": "done.o"}), "never": join("long.o")}
    )
    submit(executor, "cancel", job)
    until(lambda: running("16.1803"))
    executor.cancel("cancel")
    assert executor.wait("cancel", 20) == CANCELED
    found = records(executor.state, "cancel")
    assert (found["done"]["status"], found["long"]["status"]) == (COMPLETED, CANCELED)
    assert "never" not in found
    assert text(executor.state, "cancel", "done") == "kept"
    assert not running("16.1803")
    executor.cancel("cancel")
    assert executor.wait("cancel") == CANCELED


def test_the_environment_is_azuremls_and_nothing_of_the_workspaces_own(executor, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    job = pipeline(
        {
            "first": write("a"),
            "look": do(
                "import os; result = dict(os.environ)",
                inputs={"folder": "first.o"},
                compute="orchestrator",
                outputs=("o",),
            ),
        }
    )
    assert run(executor, "env", job) == COMPLETED
    found = result(executor.state, "env", "look")
    own = records(executor.state, "env")["look"]["runId"]
    assert found["AZUREML_RUN_ID"] == found["MLFLOW_RUN_ID"] == own
    assert found["AZUREML_ROOT_RUN_ID"] == "env"
    assert found["AZUREML_ARM_WORKSPACE_NAME"] == "local"
    assert found["MLFLOW_TRACKING_URI"].endswith("/mlflow/v2.0" + executor.state.settings.scope)
    assert found["MLFLOW_EXPERIMENT_NAME"] == "exp"
    assert Path(found["AZURE_ML_INPUT_folder"]).is_relative_to(executor.state.root)
    assert Path(found["AZURE_ML_OUTPUT_o"]).is_dir()
    assert "SECRET_OF_THE_HOST" not in found
    assert not any(name.startswith("PYTEST") for name in found)


def test_each_step_has_code_of_its_own(executor):
    spoil = do("import pathlib; pathlib.Path('write.py').write_text('1/0'); result = 0")
    job = pipeline({"spoil": spoil, "write": node("python write.py ${{outputs.o}} b", inputs={"i": "spoil.o"})})
    assert run(executor, "spoil", job) == COMPLETED
    assert text(executor.state, "spoil", "write") == "b"


def test_what_python_does_at_its_end_is_done_in_a_warm_process_too(executor):
    nodes = {
        "text": do("import sys; sys.exit('so it is')"),
        "number": do("import atexit, sys; atexit.register(print, 'at exit'); sys.exit(3)"),
        "none": do("import sys; result = 1; print('no newline', end=''); sys.stdout.flush()"),
        "thread": do(
            "import threading, time\nresult = 1\n"
            "def late():\n time.sleep(0.2); print('late')\nthreading.Thread(target=late).start()"
        ),
        "main": do("import sys; result = [sys.modules['__main__'].__name__, sys.argv[0], sys.path[0] == '']"),
    }
    assert run(executor, "ends", pipeline(nodes, settings={"continue_on_step_failure": True})) == FAILED
    found = records(executor.state, "ends")
    assert "status code 1" in complaint(found["text"])[1]
    assert complaint(found["text"])[1].endswith("so it is")
    assert "status code 3" in complaint(found["number"])[1]
    assert log(executor.state, "ends", "number") == "at exit\n"
    assert log(executor.state, "ends", "none") == "no newline"
    assert log(executor.state, "ends", "thread") == "late\n"
    assert result(executor.state, "ends", "main") == ["__main__", "do.py", False]


def test_two_warm_processes_do_not_draw_the_same_numbers(executor):
    draw = do("import random; result = random.random()")
    assert run(executor, "draws", pipeline({"a": draw, "b": draw})) == COMPLETED
    assert result(executor.state, "draws", "a") != result(executor.state, "draws", "b")


def archive(folder: Path, name: str, text: str, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(folder / name, "w", compression) as made:
        made.writestr("kit/__init__.py", "")
        made.writestr("kit/facts.py", text)


FACTS = "import os\nhere, cached, path = __file__, __cached__, os.environ['PYTHONPATH']\n"


def facts(executor: Executor, code: Path, job: str, prefix: str = "", **more: object) -> list[str]:
    """Where a module in an archive of the code was imported from, its byte code, and the PYTHONPATH."""
    (code / "show.py").write_text(
        "import json, sys\nfrom kit import facts\n"
        "text = json.dumps([facts.here, getattr(facts, 'cached', ''), facts.path])\n"
        "open(sys.argv[1] + '/x', 'w').write(text)\n"
    )
    command = f"{prefix}PYTHONPATH=$PWD/kit.zip:$PYTHONPATH python show.py ${{{{outputs.o}}}}"
    assert run(executor, job, pipeline({"a": node(command, **more)})) == COMPLETED
    found: list[str] = result(executor.state, job, "a")
    return found


@pytest.mark.parametrize("isolation", [None, "none"])
def test_modules_in_an_archive_are_compiled_once_for_all_steps_and_jobs(tmp_path, isolation):
    """Python itself would compile them in each step."""
    state = make_workspace(tmp_path / "root")
    code = state.storage("orchestrator") / "code"
    archive(code, "kit.zip", FACTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotIsolated)
        with executing(state, isolation=isolation) as executor:
            warm, again = facts(executor, code, "warm"), facts(executor, code, "again")
            cold = facts(executor, code, "cold", environment_variables={"PYTHONPATH": "/more"})
            shell = facts(executor, code, "shell", prefix="true && ")
    home = state.root / "jobs" / ".archives"
    (unpacked,) = home.iterdir()
    assert warm[:2] == again[:2] == [str(unpacked / "kit" / "facts.py"), warm[1]]
    assert Path(warm[1]).is_relative_to(unpacked / "kit" / "__pycache__")
    assert Path(warm[1]).is_file()
    for found, more in ((warm, ""), (cold, "/more"), (shell, "")):
        assert found[2].endswith(f"/kit.zip:{more}")
    for found in (cold, shell):
        assert found[0].endswith("/kit.zip/kit/facts.py")


def test_an_archive_that_may_grow_or_is_damaged_is_left_as_it_is(tmp_path):
    state = make_workspace(tmp_path / "root")
    code = state.storage("orchestrator") / "code"
    archive(code, "kit.zip", FACTS, zipfile.ZIP_DEFLATED)
    archive(code, "damaged.zip", FACTS)
    damaged = (code / "damaged.zip").read_bytes()
    (code / "damaged.zip").write_bytes(damaged.replace(b"import", b"export"))
    (code / "none.zip").write_text("no archive")
    with executing(state) as executor:
        assert facts(executor, code, "warm")[0].endswith("/kit.zip/kit/facts.py")
    assert not (state.root / "jobs" / ".archives").exists()


def test_a_missing_input_is_named(executor):
    job = pipeline({"n": node("true", inputs={"i": "azureml://datastores/orchestrator/paths/nowhere"})})
    assert run(executor, "missing", job) == FAILED
    code, message = complaint(records(executor.state, "missing")["n"])
    assert code == "DataAccessError"
    assert "input 'i': there is nothing at azureml://datastores/orchestrator/paths/nowhere" in message


def test_outputs_go_where_the_job_says(executor):
    place = "azureml://datastores/alpha_store/paths/runs/${{name}}/here"
    nodes = {
        "own": write("own", computeId="alpha", outputs=("o",)) | {"outputs": {"o": {"uri": place}}},
        "up": write("up") | {"outputs": {"o": {"value": "${{parent.outputs.final}}"}}},
        "file": node("echo text > ${{outputs.f}}", outputs={"f": {"type": "uri_file"}}),
    }
    final = {"final": {"jobOutputType": "uri_folder", "uri": "azureml://datastores/orchestrator/paths/${{name}}/final"}}
    assert run(executor, "places", pipeline(nodes, outputs=final)) == COMPLETED
    found = records(executor.state, "places")
    storage = executor.state.root / "storage"
    assert (storage / "alpha_store" / "runs" / found["own"]["runId"] / "here" / "x").read_text() == "own"
    assert (storage / "orchestrator" / "places" / "final" / "x").read_text() == "up"
    assert (storage / "orchestrator" / "azureml" / found["file"]["runId"] / "f").read_text() == "text\n"
    assert found[""]["places"] == {"final": "azureml://datastores/orchestrator/paths/places/final"}
    assert found[""]["outputs"]["final"]["type"] == "UriFolder"


def test_distributed_processes_know_their_rank(executor):
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")
    line = f"import os; print(*[os.environ[name] for name in {names}])"
    job = pipeline({"n": do(line, resources={"instance_count": 2}, distribution={"process_count_per_instance": 2})})
    assert run(executor, "ranks", job) == COMPLETED
    logs = [log(executor.state, "ranks", "n", f"user_logs/std_log_process_{rank:02d}.txt") for rank in range(4)]
    assert logs == ["0 0 0 4\n", "1 1 0 4\n", "2 0 1 4\n", "3 1 1 4\n"]


def test_one_rank_that_fails_ends_the_others(executor):
    line = "import os, time\nif os.environ['RANK'] == '1': raise SystemExit(5)\ntime.sleep(60)"
    job = pipeline({"n": do(line, distribution={"process_count_per_instance": 2})})
    began = time.monotonic()
    assert run(executor, "rank", job) == FAILED
    assert time.monotonic() - began < 30
    assert "status code 5" in complaint(records(executor.state, "rank")["n"])[1]


def test_a_command_job_is_its_own_step(executor):
    job = {
        "jobType": "Command",
        "command": "echo hello && test -f write.py",
        "computeId": "orchestrator",
        "codeId": "azureml:/w/codes/c/versions/1",
    }
    assert run(executor, "alone", job) == COMPLETED
    assert list(records(executor.state, "alone")) == [""]
    assert log(executor.state, "alone", "") == "hello\n"


def test_a_step_may_be_torch_from_a_server_that_has_it(tmp_path):
    look = do("import sys; warm = 'json.tool' in sys.modules; import os; result = warm")
    cold = do("import sys; result = 'json.tool' in sys.modules")
    cold["environment_variables"]["OMP_NUM_THREADS"] = "3"
    with executing(make_workspace(tmp_path / "root"), warm=("json.tool", "no_such_module")) as executor:
        assert run(executor, "warm", pipeline({"warm": look, "cold": cold})) == COMPLETED
        assert result(executor.state, "warm", "warm") is True
        assert result(executor.state, "warm", "cold") is False


def test_closing_the_workspace_ends_jobs_and_says_so(tmp_path):
    state = make_workspace(tmp_path / "root")
    with executing(state) as executor:
        submit(executor, "open", pipeline({"long": node("sleep 57.7215")}))
        until(lambda: running("57.7215"))
    until(lambda: not running("57.7215"))
    found = records(state, "open")
    assert found[""]["status"] == FAILED
    assert complaint(found[""]) == ("WorkspaceStopped", "the workspace was stopped while this ran")
    assert found["long"]["status"] == CANCELED


def test_what_a_killed_workspace_left_is_failed_at_the_next_start_and_outputs_are_kept(tmp_path):
    state = make_workspace(tmp_path / "root")
    with executing(state) as executor:
        assert run(executor, "first", pipeline({"w": write("kept")})) == COMPLETED
    runs.begin(state, "killed", root="killed")
    runs.begin(state, "step", root="killed", parent="killed", node="s", status=runs.RUNNING)
    with executing(state) as executor:
        assert runs.status_of(state, "killed") == runs.status_of(state, "step") == FAILED
        assert runs.status_of(state, "first") == COMPLETED
        assert text(state, "first", "w") == "kept"
        assert run(executor, "second", pipeline({"w": write("more")})) == COMPLETED


KILLED = """
import sys, time
from pathlib import Path
from tests.sim.azureml.steps import executing, make_workspace, node, pipeline, submit
with executing(make_workspace(Path(sys.argv[1]))) as executor:
    submit(executor, "job", pipeline({"long": node("sleep 17.3205")}))
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere steps may outlive a workspace that is killed")
def test_a_workspace_that_is_killed_takes_its_steps_along(tmp_path):
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "root")], cwd=root)
    try:
        until(lambda: running("17.3205"), 60)
    finally:
        process.kill()
        process.wait()
    until(lambda: not running("17.3205"))
    with executing(WorkspaceState.open(tmp_path / "root")) as executor:
        assert executor.wait("job") == FAILED
        code, message = complaint(records(executor.state, "job")[""])
    assert (code, message) == ("WorkspaceStopped", "the workspace was stopped while this ran")


def test_a_lost_process_server_fails_its_steps_and_the_next_job_has_a_new_one(tmp_path):
    state = make_workspace(tmp_path / "root")
    with executing(state) as executor:
        submit(executor, "lost", pipeline({"long": node("sleep 14.1421")}))
        until(lambda: running("14.1421"))
        forge = executor.launcher._forge
        if forge is None or forge._server is None:
            pytest.skip("this machine has no warm process server")
        forge._server.kill()
        assert executor.wait("lost", 20) == FAILED
        assert "was ended by signal 9" in complaint(records(state, "lost")["long"])[1]
        assert run(executor, "next", pipeline({"w": write("a")})) == COMPLETED
        until(lambda: not running("14.1421"))


def test_a_cancel_that_comes_as_a_job_ends_leaves_it_as_it_ended(executor):
    submit(executor, "race", pipeline({"w": write("a")}))
    thread = threading.Thread(target=lambda: [executor.cancel("race") or time.sleep(0.01) for _ in range(50)])
    thread.start()
    status = executor.wait("race", 20)
    thread.join()
    assert status in (COMPLETED, CANCELED)
    assert runs.status_of(executor.state, "race") == status


def test_working_folders_are_gone_when_a_step_has_ended(executor):
    assert run(executor, "tidy", pipeline({"w": write("a")})) == COMPLETED
    folder = executor.state.job_folder("tidy") / records(executor.state, "tidy")["w"]["runId"]
    assert [path.name for path in folder.iterdir()] == ["user_logs"]
