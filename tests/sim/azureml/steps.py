"""A workspace without its web server, in which tests run jobs: two silos, an orchestrator, one code snapshot."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sim.azureml import runs
from sim.azureml.executor import Executor
from sim.azureml.graph import graph_of
from sim.azureml.launcher import Launcher
from sim.azureml.state import Body, WorkspaceState

CODE = {
    # Writes its second argument into its first, a folder.
    "write.py": (
        "import pathlib, sys\npathlib.Path(sys.argv[1], 'x').write_text(sys.argv[2])\nprint('wrote', sys.argv[2])\n"
    ),
    # Joins what the folders after the first hold, into the first.
    "join.py": (
        "import pathlib, sys\n"
        "text = '+'.join(pathlib.Path(folder, 'x').read_text() for folder in sys.argv[2:])\n"
        "pathlib.Path(sys.argv[1], 'x').write_text(text)\n"
    ),
    "fail.py": "print('before')\nraise ValueError('the rows are gone')\n",
    # Runs what the environment says, and writes its `result` as JSON to the path in the first argument.
    "do.py": (
        "import json, os, pathlib, sys\n"
        "found = {}\nexec(os.environ['DO'], found)\n"
        "pathlib.Path(sys.argv[1], 'x').write_text(json.dumps(found.get('result')))\n"
    ),
}
FOLDER = {"type": "uri_folder"}
ID = "azureml:/w/codes/c/versions/1"


def make_workspace(root: Path) -> WorkspaceState:
    """A workspace with what jobs need."""
    state = WorkspaceState.open(root, port=1)
    for name in ("orchestrator", "alpha", "bravo"):
        tags = {"silo": name}
        store = name if name == "orchestrator" else f"{name}_store"
        state.documents.put("computes", name, body={"name": name, "tags": tags, "properties": {}})
        state.documents.put(
            "datastores", store, body={"name": store, "properties": {"tags": tags, "isDefault": name == "orchestrator"}}
        )
        folder = state.storage(store)
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "x").write_text(f"rows of {name}")
    code = state.storage("orchestrator") / "code"
    code.mkdir()
    for name, text in CODE.items():
        (code / name).write_text(text)
    uri = state.settings.container_url("orchestrator") + "/code"
    state.documents.put("codes", "c", "1", body={"properties": {"codeUri": uri}})
    return state


@contextmanager
def executing(
    state: WorkspaceState, *, isolation: Any = None, warm: tuple[str, ...] = (), at_once: int = 4
) -> Iterator[Executor]:
    """An executor of the workspace, whose process server imports nothing unless told to."""
    executor = Executor(state, Launcher(isolation, warm), at_once)
    try:
        yield executor
    finally:
        state.close()


def node(command: str, *, inputs: Mapping[str, Any] | None = None, outputs: Any = ("o",), **more: Any) -> Body:
    """A node with a component of its own. An input is an address, `<node>.<output>`, or begins with `?` if optional."""
    given: dict[str, str] = dict(inputs or {})
    spec = {
        "command": command,
        "code": ID,
        "inputs": {name: {**FOLDER, "optional": text.startswith("?")} for name, text in given.items()},
        "outputs": outputs if isinstance(outputs, dict) else dict.fromkeys(outputs, FOLDER),
    }
    entries = {name: entry(text.removeprefix("?")) for name, text in given.items()}
    return {"type": "command", "componentId": json.dumps(spec), "inputs": entries, **more}


def entry(text: str) -> Body:
    if text.startswith("azureml:"):
        return {"job_input_type": "uri_folder", "uri": text}
    name, _, output = text.partition(".")
    return {"job_input_type": "literal", "value": f"${{{{parent.jobs.{name}.outputs.{output}}}}}"}


def write(text: str, **more: Any) -> Body:
    """A node that writes a text."""
    return node(f"python write.py ${{{{outputs.o}}}} {text}", **more)


def do(source: str, **more: Any) -> Body:
    """A node that runs Python and writes its `result`."""
    return node("python do.py ${{outputs.o}}", environment_variables={"DO": source}, **more)


def pipeline(nodes: Mapping[str, Body], **more: Any) -> Body:
    settings = {"default_compute": "orchestrator", **more.pop("settings", {})}
    return {"jobType": "Pipeline", "jobs": dict(nodes), "settings": settings, **more}


def submit(executor: Executor, name: str, job: Body) -> None:
    runs.begin(executor.state, name, root=name)
    executor.submit(name, graph_of(job, json.loads), "exp")


def run(executor: Executor, name: str, job: Body) -> str:
    """Run a job to its end; gives its status."""
    submit(executor, name, job)
    return executor.wait(name, 120)


def records(state: WorkspaceState, job: str) -> dict[str, Body]:
    """Path of a node → its record."""
    found = (body for _, body in state.documents.list("runs") if body["rootRunId"] == job)
    return {body["node"]: body for body in found}


def text(state: WorkspaceState, job: str, path: str, output: str = "o") -> str:
    """What a step wrote."""
    uri = records(state, job)[path]["places"][output]
    datastore, _, rest = uri.removeprefix("azureml://datastores/").partition("/paths/")
    return (state.storage(datastore) / rest / "x").read_text()


def result(state: WorkspaceState, job: str, path: str) -> Any:
    """The result of a node made by `do`."""
    return json.loads(text(state, job, path))


def log(state: WorkspaceState, job: str, path: str, name: str = runs.LOG) -> str:
    return (state.job_folder(job) / records(state, job)[path]["runId"] / name).read_text()


def complaint(record: Body) -> tuple[str, str]:
    """Code and message of a record's error."""
    error = record["error"]["error"]
    return error["code"], error["message"]
