"""One local workspace for all tests here, and the client that each test sees it through."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fl_kit import Federation, Silo
from sim.azureml import LocalWorkspace
from sim.azureml.pointing import HIDDEN
from sim.azureml.state import WorkspaceState

if TYPE_CHECKING:
    from azure.ai.ml import MLClient


def two_silos(folder: Path) -> Federation:
    """A federation whose silos have two small files each."""
    for name in ("alpha", "bravo"):
        (folder / name / "deep").mkdir(parents=True)
        (folder / name / "rows.csv").write_text(f"x,y\n1,{name}\n")
        (folder / name / "deep" / "more.csv").write_text("x,y\n2,2\n")
    return Federation(
        silos=(
            Silo(name="alpha", data=str(folder / "alpha"), region="north"),
            Silo(name="bravo", data=str(folder / "bravo"), instance_type="gpu-small", compute="arc-1"),
        )
    )


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWorkspace]:
    """A running workspace of two silos; this process's environment does not point to it."""
    folder = tmp_path_factory.mktemp("workspace")
    workspace = LocalWorkspace.for_federation(two_silos(folder), folder / "root").start(point=False)
    yield workspace
    workspace.stop()


@pytest.fixture
def workspace(served: LocalWorkspace, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> LocalWorkspace:
    """The same workspace, pointed to by the environment during the test, in a fresh working folder."""
    for name in HIDDEN:
        monkeypatch.delenv(name, raising=False)
    for name, value in served.environment().items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture
def client(workspace: LocalWorkspace) -> "MLClient":
    """The unmodified SDK's client of the workspace."""
    return workspace.client()


@pytest.fixture
def state(tmp_path: Path) -> WorkspaceState:
    """A workspace that nobody serves yet."""
    return WorkspaceState.open(tmp_path / "root")
