"""Two kernels that follow one run on AzureML, and come to submit its next pipeline at once: it is submitted once."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fl_kit.amending import changed
from fl_kit.azureml import submissions
from fl_kit.azureml.submissions import Submissions
from fl_kit.errors import RunLocked, StoreError
from fl_kit.run_lock import FILE, RunLock
from fl_kit.store import FolderStore
from tests.sim.small import federation, job


class Jobs:
    """What a workspace has, as far as submissions ask; it takes a while to take a job."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.sent: list[str] = []
        self.client = None

    def job(self, name: str) -> Any:
        return self.found.get(name)

    def submit(self, client: Any, pipeline: Any, folder: Path) -> None:
        self.sent.append(pipeline.name)
        time.sleep(0.05)
        self.found[pipeline.name] = pipeline


def pipeline(*given: Any, name: str, tags: dict[str, str], **more: Any) -> Any:
    return SimpleNamespace(name=name, tags=tags)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    made = Jobs()
    monkeypatch.setattr(submissions, "submit", made.submit)
    monkeypatch.setattr(
        submissions, "compile_pipeline", lambda *given, name, tags, **more: SimpleNamespace(name=name, tags=tags)
    )
    monkeypatch.setattr(Submissions, "_terms", lambda self: SimpleNamespace(digest="0" * 64))
    return made


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    silos, asked = federation(tmp_path / "silos", {"north": 9}), job(rounds=4)
    return FolderStore.create(
        tmp_path / "run", asked, asked.plan(silos), silos, {"threads": 1, "rounds_per_pipeline": 2}
    )


def kernel(store: FolderStore, jobs: Jobs) -> Submissions:
    return Submissions(jobs, "run", FolderStore.open(store.folder.parent, "run"), "").find()  # type: ignore[arg-type]


def test_the_next_pipeline_is_submitted_once_and_both_follow_it(jobs, store, monkeypatch):
    monkeypatch.setattr("fl_kit.run_lock.LOOK", 0.01)
    first = kernel(store, jobs)
    first.submit(0, 3)
    second = kernel(store, jobs)
    gate, made = threading.Barrier(2), []

    def follow(one: Submissions) -> None:
        gate.wait()
        made.append(one.submit(3, 6))

    threads = [threading.Thread(target=follow, args=(one,)) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert jobs.sent == ["run", "run-2"]
    assert made[0] == made[1]
    assert not (store.folder / FILE).exists()


def test_who_takes_too_long_to_submit_is_named(jobs, store, monkeypatch):
    monkeypatch.setattr(submissions, "SENDING", 0.0)
    with RunLock.take(store.folder), pytest.raises(RunLocked, match="run run is held by process"):
        kernel(store, jobs).submit(0, 3)
    assert jobs.sent == []


def test_what_another_kernel_has_changed_holds_for_what_this_one_submits(jobs, store):
    first = kernel(store, jobs)
    first.submit(0, 3)
    second = kernel(store, jobs)
    first.change(1, changed(first.legs[-1], first.federation, 2, {"lr": 0.1}))
    assert second.submit(3, 5) is None
    assert [leg.words for leg in second.legs] == ["", "from round 3 on: lr 0.2 → 0.1"]
    made = second.submit(3, 5)
    assert made is not None
    assert (made.leg, jobs.sent) == (1, ["run", "run-2"])


def test_a_run_that_another_kernel_has_gone_on_with_is_not_changed_behind_its_back(jobs, store):
    first = kernel(store, jobs)
    first.submit(0, 3)
    second = kernel(store, jobs)
    first.submit(3, 5)
    leg = changed(second.legs[-1], second.federation, 2, {"lr": 0.1})
    with pytest.raises(StoreError, match="was gone on with by another kernel: attach to it anew"):
        second.change(1, leg)
    assert len(store.legs()) == 1
