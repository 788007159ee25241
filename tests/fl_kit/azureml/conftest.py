"""One local workspace for all tests of fl_kit.azureml; the SDK takes seconds to import."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.azureml import LocalWorkspace
from tests.tasks import random_rows, silos


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWorkspace]:
    """A running workspace for the silos a and b, whose rows fit tests.tasks.LINEAR; the environment is left alone."""
    folder = tmp_path_factory.mktemp("local")
    federation = silos(folder / "data", a=random_rows(6, 4, seed=1), b=random_rows(9, 4, seed=2))
    made = LocalWorkspace.for_federation(federation, folder / "workspace").start(point=False)
    yield made
    made.stop()


@pytest.fixture
def client(workspace: LocalWorkspace, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The SDK's own client of it; the environment points to the workspace for the test."""
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    return workspace.client()
