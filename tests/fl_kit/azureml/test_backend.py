"""The backend without a workspace: settings, what is refused before anything is sent, what a run is called there."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from fl_kit import Federation, Orchestrator, Scaffold, Silo
from fl_kit.azureml.backend import AzureML
from fl_kit.azureml.following import Follower
from fl_kit.azureml.nodes import BUNDLE
from fl_kit.azureml.pipeline import Pipeline
from fl_kit.azureml.submission import Submission, job_name
from fl_kit.azureml.submissions import Submissions
from fl_kit.azureml.workspace import Workspace
from fl_kit.bundle import verify, write_bundle
from fl_kit.errors import FederationError, FlKitError, IncompatibleError, RunNotFound, StoreError
from fl_kit.run_ids import new_id
from fl_kit.store import FolderStore
from sim.azureml.forge import python_call
from tests.sim.small import job


@dataclass
class Job:
    name: str
    tags: dict[str, str] | None


@dataclass
class Client:
    """What submissions ask of a client, and the pipelines that were submitted."""

    workspace_name: str = "ws"
    sent: list[Pipeline] = field(default_factory=list)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    made = Client()

    def submit(client: Client, pipeline: Pipeline, folder: Path) -> None:
        client.sent.append(pipeline)

    def find(self: Workspace, name: str) -> Any:
        return next((Job(p.job["name"], dict(p.job["tags"])) for p in made.sent if p.job["name"] == name), None)

    monkeypatch.setattr("fl_kit.azureml.submissions.submit", submit)
    monkeypatch.setattr(Workspace, "job", find)
    return made


@pytest.fixture
def silos() -> Federation:
    two = (Silo(name=name, data=f"azureml://datastores/{name}/paths/d/", compute=name, datastore=name) for name in "ab")
    return Federation(silos=tuple(two), orchestrator=Orchestrator(compute="o", datastore="o"))


def submissions(client: Client, silos: Federation, folder: Path, **settings: Any) -> Submissions:
    asked = job(rounds=5)
    environment = {"threads": 1, "grace": 60, "rounds_per_pipeline": None, **settings}
    store = FolderStore.create(folder / "r", asked, asked.plan(silos), silos, environment)
    return Submissions(Workspace(client), "r", store, "")


@pytest.mark.parametrize("setting", [{"threads": 0}, {"margin": 0}, {"margin": 1.5}, {"rounds_per_pipeline": -1}])
def test_settings_out_of_their_range(setting):
    (name,) = setting
    with pytest.raises(IncompatibleError, match=rf"AzureML\({name}="):
        AzureML(None, **setting)


def test_a_federation_without_places_is_refused_before_anything_is_written(tmp_path, silos):
    bare = Federation(silos=tuple(Silo(name=name, data="x") for name in "ab"))
    with pytest.raises(FederationError, match="orchestrator, a, b: it has no compute"):
        AzureML(Client(), folder=tmp_path / "runs").start(job(), bare)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"compute": "b"}, "a, b: both use the compute 'b'"),
        ({"datastore": "o"}, "both use the datastore 'o'"),
        ({"data": "azureml://datastores/b/paths/d/"}, "  a: "),
        ({"data": "azureml://subscriptions/1/resourcegroups/2/workspaces/3/datastores/b/paths/d/"}, "  a: "),
    ],
)
def test_a_place_or_path_of_another_party_is_refused_before_anything_is_written(tmp_path, silos, changes, words):
    mixed = Federation(silos=(replace(silos["a"], **changes), silos["b"]), orchestrator=silos.orchestrator)
    with pytest.raises(FederationError, match=words):
        AzureML(Client(), folder=tmp_path / "runs").start(job(), mixed)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["a/b", "azureml://datastores/a", "my store", "../x"])
def test_a_malformed_datastore_is_named_once(tmp_path, silos, name):
    odd = Federation(silos=(replace(silos["a"], datastore=name), silos["b"]), orchestrator=silos.orchestrator)
    with pytest.raises(FederationError) as raised:
        AzureML(Client(), folder=tmp_path / "runs").start(job(rounds=4, strategy=Scaffold()), odd)
    (line,) = str(raised.value).splitlines()[1:]
    assert line.startswith(f"  a: {name!r} is no name of a datastore")


@pytest.mark.parametrize("there", [False, True, None], ids=["refused", "taken", "silent"])
def test_a_submission_that_fails_leaves_no_run_folder_unless_the_workspace_may_have_the_run(
    monkeypatch, tmp_path, silos, there
):
    def refuse(*of: Any) -> None:
        raise ZeroDivisionError("the SDK said no")

    def find(self: Workspace, name: str) -> Any:
        if there is None:
            raise OSError("unplugged")
        return Job(name, {}) if there else None

    monkeypatch.setattr("fl_kit.azureml.submissions.submit", refuse)
    monkeypatch.setattr(Workspace, "job", find)
    with pytest.raises(ZeroDivisionError, match="the SDK said no") as raised:
        AzureML(Client(), folder=tmp_path / "runs").start(job(), silos)
    left = [path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    notes = getattr(raised.value, "__notes__", [])
    if there is False:
        assert (left, notes) == ([], [])
    else:
        (run,) = left
        assert f"AzureML.attach({run!r})" in notes[0]


def test_all_rounds_are_one_pipeline_named_as_the_run(client, silos, tmp_path):
    found = submissions(client, silos, tmp_path)
    found.submit(0)
    (pipeline,) = client.sent
    assert pipeline.job["name"] == "r"
    assert len(pipeline.job["jobs"]) == 7
    assert verify(found.store.folder / "code" / BUNDLE).job().rounds == 5


@pytest.mark.parametrize(
    ("limit", "sizes"), [(1, [2, 1, 1, 1, 2]), (2, [3, 2, 2]), (4, [5, 2]), (5, [7]), (9, [7]), (None, [7])]
)
def test_chunks_hold_so_many_rounds_and_the_report_goes_along_with_the_last(client, silos, tmp_path, limit, sizes):
    found = submissions(client, silos, tmp_path, rounds_per_pipeline=limit)
    first = 0
    while first < len(found.phases):
        first = found.submit(first).last
    assert [len(pipeline.job["jobs"]) for pipeline in client.sent] == sizes
    names = [name for pipeline in client.sent for name in pipeline.job["jobs"]]
    assert names == [phase.name for phase in found.phases]


def paths(pipeline: Pipeline) -> set[str]:
    return {out["path"] for call in pipeline.job["jobs"].values() for out in call["outputs"].values()}


def test_what_is_submitted_again_has_places_of_its_own_and_begins_with_the_newest_state(client, silos, tmp_path):
    found = submissions(client, silos, tmp_path)
    found.submit(0)
    found.submit(3, resumed=True)
    found.submit(5, resumed=True)
    assert [made.attempt for made in found.made] == [0, 2, 3]
    first, second, third = client.sent
    assert not paths(first) & paths(second) | paths(second) & paths(third)
    begins = [next(iter(pipeline.job["jobs"].values()))["inputs"]["state"]["path"] for pipeline in (second, third)]
    assert "/round_002/orchestrator/state/" in begins[0]
    assert "/round_004-2/orchestrator/state/" in begins[1]


def test_another_kernel_finds_every_submission_by_the_id_alone(client, silos, tmp_path):
    found = submissions(client, silos, tmp_path)
    found.submit(0)
    found.submit(3, resumed=True)
    again = Submissions(Workspace(client), "r", found.store, "").find()
    assert again.made == found.made
    assert again.places("round_003/orchestrator/aggregate:state") == found.places(
        "round_003/orchestrator/aggregate:state"
    )
    assert [job_name("r", number) for number in (1, 2, 3)] == ["r", "r-2", "r-3"]


@pytest.mark.parametrize("tags", [None, {}, {"fl_kit.phases": "a-b"}, {"fl_kit.phases": "1-2"}])
def test_a_job_that_fl_kit_did_not_make(tags):
    with pytest.raises(StoreError, match="job x is no run of fl-kit"):
        Submission.of_job(1, Job("x", tags))


@pytest.mark.parametrize(
    ("begun", "words"),
    [
        ({}, "run r was not begun on AzureML: resume it with the backend that began it"),
        ({"backend": "azureml", "workspace": "other"}, "run r was begun in workspace other, and this is ws"),
    ],
)
def test_a_run_that_was_begun_elsewhere(client, silos, tmp_path, begun, words):
    submissions(client, silos, tmp_path / "runs", **begun)
    for find in (AzureML(client, folder=tmp_path / "runs").attach, AzureML(client, folder=tmp_path / "runs").resume):
        with pytest.raises(RunNotFound, match=words):
            find("r")
    assert client.sent == []


class Followed(Exception):
    """A run that comes to follow its pipeline."""


@pytest.fixture
def following(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is followed: what is looked at here is what was submitted."""

    def follow(self: Follower, submission: Submission) -> Any:
        raise Followed(submission.job)

    monkeypatch.setattr(Workspace, "tracking", lambda self: None)
    monkeypatch.setattr(Follower, "follow", follow)


@pytest.mark.parametrize("way", ["resume", "attach and step"])
def test_a_run_whose_kernel_ended_before_it_was_submitted_is_submitted_by_the_next_one(
    client, silos, tmp_path, following, way
):
    submissions(client, silos, tmp_path / "runs", backend="azureml", workspace="ws")
    backend = AzureML(client, folder=tmp_path / "runs")
    if way == "resume":
        run = backend.resume("r")
    else:
        run = backend.attach("r").wait(timeout=60)
        assert (run.status, run.jobs, client.sent) == ("paused", (), [])
        run.step(wait=False)
    with pytest.raises(FlKitError, match="Followed"):
        run.wait(timeout=60)
    assert run.jobs == ("r",)
    (pipeline,) = client.sent
    assert len(pipeline.job["jobs"]) == (7 if way == "resume" else 2)  # all rounds and the report, or the first


def test_two_kernels_that_find_a_run_that_was_never_submitted_submit_it_once(client, silos, tmp_path, following):
    submissions(client, silos, tmp_path / "runs", backend="azureml", workspace="ws")
    backend = AzureML(client, folder=tmp_path / "runs")
    runs = [backend.attach("r").wait(timeout=60) for _ in range(2)]
    for run in runs:
        with pytest.raises(FlKitError, match="Followed"):
            run.resume().wait(timeout=60)
    assert [run.jobs for run in runs] == [("r",), ("r",)]
    assert len(client.sent) == 1


def test_a_run_that_the_workspace_has_and_whose_folder_is_elsewhere(client, silos, tmp_path):
    submissions(client, silos, tmp_path).submit(0)
    with pytest.raises(RunNotFound, match="workspace ws has run r, but its folder is not in"):
        AzureML(client, folder=tmp_path / "elsewhere").attach("r")
    with pytest.raises(RunNotFound, match="there is no run 's' in"):
        AzureML(client, folder=tmp_path / "elsewhere").attach("s")


def test_a_bundle_that_was_changed_is_not_sent_again(client, silos, tmp_path):
    found = submissions(client, silos, tmp_path)
    found.submit(0)
    source = next((found.store.folder / "code" / BUNDLE / "task").iterdir())
    source.write_text(source.read_text() + "\n# changed\n")
    with pytest.raises(Exception, match=f"{source.name} was changed"):
        found.submit(3)


@pytest.mark.parametrize("packed", [True, False])
def test_a_run_is_gone_on_with_whichever_way_its_bundle_was_written(client, silos, tmp_path, packed):
    """Before fl-kit's source travelled in an archive, it was a folder; the digest is that of its files in both."""
    found = submissions(client, silos, tmp_path)
    folder = found.store.folder / "code" / BUNDLE
    made = write_bundle(found.job, found.plan, folder, packed=packed)
    found.submit(0)
    assert verify(folder) == made
    commands = {n["component"]["command"] for c in client.sent[0].components.values() for n in c["jobs"].values()}
    assert commands
    for command in commands:  # what is not there on a PYTHONPATH is passed over; the folder is found first
        assert command.startswith("cd bundle && PYTHONPATH=$PWD/fl_kit.zip:$PYTHONPATH ")
        assert f"--digest {made.digest} " in command
        assert python_call(command.partition(" --step")[0]) is not None  # a warm process takes it


def test_what_is_sent_is_a_few_files_to_read_and_one_archive(client, silos, tmp_path):
    found = submissions(client, silos, tmp_path)
    found.submit(0)
    code = found.store.folder / "code"
    files = {path.relative_to(code).as_posix() for path in code.rglob("*") if path.is_file()}
    names = ("job.json", "plan.json", "task/logistic.py", "manifest.json", "fl_kit.zip")
    assert files == {f"{BUNDLE}/{name}" for name in names}


def test_ids_sort_by_time_and_are_names_that_azureml_takes():
    found = new_id("my task: größe/…")
    assert found.replace("-", "").isalnum()
    assert found.isascii()
    assert new_id("a") != new_id("a")
