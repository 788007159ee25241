"""What every test stands on: one thread, no colours of the caller's environment, repeatable examples."""

import math
import os
from collections.abc import Iterator

# Before anything imports torch: the bits of a sum depend on the number of threads.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.pop("FL_KIT_DISPLAY", None)

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples at every run; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile(
    "explore", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def in_one_process() -> Iterator[None]:
    """Simulations stay in the test's own process, however slow the machine is; a test that wants workers says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.engines.workers.engine.PAYS", math.inf)
        yield


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working folder, for code that writes to where it stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
