"""A kernel that is killed at any moment of a submission to AzureML: the next one has the run there once, and whole."""

import json
import sys
from typing import Any

import pytest
from hypothesis import settings

from fl_kit.azureml.backend import AzureML
from fl_kit.azureml.following import Follower
from fl_kit.azureml.nodes import BUNDLE
from fl_kit.bundle import verify
from fl_kit.errors import FlKitError, RunNotFound
from tests.fl_kit.azureml.killed_kernel import OnDisk, in_their_own_process

MORE = settings.get_current_profile_name() == "explore"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and sends POSIX signals")


class Followed(Exception):
    """A run that comes to follow its pipeline."""


def follow(self: Follower, submission: Any) -> None:
    raise Followed(submission.job)


def test_whatever_a_killed_kernel_had_done_the_next_one_submits_the_run_once(tmp_path, monkeypatch):
    last = in_their_own_process(tmp_path / "jobs", tmp_path / "runs", [0, -1])[-1]  # the first makes the folder of runs
    moments = [*range(1, last - 1, 1 if MORE else 4), last - 1, last]
    assert in_their_own_process(tmp_path / "jobs", tmp_path / "runs", moments) == []
    monkeypatch.setattr(Follower, "follow", follow)
    ends = []
    for moment in moments:
        jobs, runs = tmp_path / "jobs" / str(moment), tmp_path / "runs" / str(moment)
        OnDisk(jobs).stand_in(monkeypatch.setattr)
        before = jobs.exists()
        backend = AzureML(Client(), folder=runs)
        folders = [path for path in runs.glob("*") if path.is_dir()]
        try:
            run = backend.resume(folders[0].name if folders else "none")
        except RunNotFound:
            ends.append("never begun")
            assert not before
            continue
        with pytest.raises(FlKitError, match="Followed"):
            run.wait(timeout=60)
        assert [path.stem for path in jobs.iterdir()] == [run.id]
        assert verify(run.folder / "code" / BUNDLE).digest == run._legs[-1].digest
        ends.append("taken" if before else "submitted by the next one")
    assert last > 20
    assert set(ends) == {"never begun", "submitted by the next one", "taken"}
    assert json.loads(next(jobs.iterdir()).read_text())["fl_kit.run"] == run.id


class Client:
    """What a run asks of a client that is never called."""

    workspace_name = "ws"
