"""The tests of an actual workspace are right themselves: through the same variables, on a local one."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sim import samples
from sim.azureml import LocalWorkspace
from sim.azureml.pointing import HIDDEN, config

NAMES = ("FL_KIT_REAL_WORKSPACE", "FL_KIT_REAL_FEDERATION", "FL_KIT_REAL_DATA")


def pytest_real(root: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """What `pytest tests/real/test_azureml.py` says with these variables, and no others that lead to a workspace."""
    inherited = {name: value for name, value in os.environ.items() if name not in {*NAMES, *HIDDEN}}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/real/test_azureml.py"]
    environment = {**inherited, **variables}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.sample
def test_they_pass_on_a_local_workspace_and_fail_on_other_data(root: Path, in_tmp: Path) -> None:
    hospitals = samples.load("heart_disease").federation(seed=0, folder=in_tmp / "hospitals")
    with LocalWorkspace.for_federation(hospitals, in_tmp / "workspace") as made:
        (in_tmp / "config.json").write_text(config(made.state.settings))
        assert made.federation is not None
        made.federation.save(in_tmp / "federation.yaml")
        data = Path(hospitals.silos[0].data).parent
        places = (in_tmp / "config.json", in_tmp / "federation.yaml", data)
        where = {name: str(place) for name, place in zip(NAMES, places, strict=True)}
        passed = pytest_real(root, {**made.environment(), **where})
        assert passed.returncode == 0, passed.stdout
        assert "1 passed" in passed.stdout
        changed = data / hospitals.names[0] / "train.csv"
        changed.write_text("".join(changed.read_text().splitlines(keepends=True)[:-1]))  # one row less here than there
        failed = pytest_real(root, {**made.environment(), **where})
        assert failed.returncode == 1, failed.stdout
        assert "assert found == digests" in failed.stdout


def test_they_are_skipped_with_a_line_that_names_what_is_missing(root: Path) -> None:
    skipped = pytest_real(root, {"FL_KIT_REAL_DATA": "somewhere"})
    assert skipped.returncode == 0
    (line,) = [line for line in skipped.stdout.splitlines() if line.startswith("SKIPPED")]
    assert line.endswith("runs on an AzureML workspace: set FL_KIT_REAL_WORKSPACE, FL_KIT_REAL_FEDERATION")
