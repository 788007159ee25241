"""On an actual AzureML workspace: a job is checked, run, and gives the bits of the simulation.

    FL_KIT_REAL_WORKSPACE   the config.json that names the workspace, as the Azure portal gives it
    FL_KIT_REAL_FEDERATION  the federation.yaml of its silos
    FL_KIT_REAL_DATA        a folder with the same data as the silos have, in a sub-folder for each: the train.csv and
                            test.csv that `samples.load("heart_disease").federation(folder=...)` writes

Signing in is `DefaultAzureCredential`'s: `az login` does.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, Federation, Job
from fl_kit.azureml import AzureML, check
from tests.sim.small import digests, undisturbed
from tests.tasks import HEART

NAMES = ("FL_KIT_REAL_WORKSPACE", "FL_KIT_REAL_FEDERATION", "FL_KIT_REAL_DATA")
MISSING = [name for name in NAMES if not os.environ.get(name)]
HOURS = 3600.0
"""For a round, at most: a cluster may start from nothing, and build the image."""

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(8 * HOURS),
    pytest.mark.skipif(bool(MISSING), reason=f"runs on an AzureML workspace: set {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def places() -> tuple[Path, Path, Path]:
    """The three paths, wherever the tests stand."""
    workspace, federation, data = (Path(os.environ[name]).resolve() for name in NAMES)
    return workspace, federation, data


@pytest.fixture
def client(places: tuple[Path, Path, Path]) -> Any:
    from azure.ai.ml import MLClient
    from azure.identity import DefaultAzureCredential

    return MLClient.from_config(DefaultAzureCredential(), path=str(places[0]))


def test_a_job_is_ready_and_every_round_has_the_bits_of_the_simulation(
    places: tuple[Path, Path, Path], client: Any, tmp_path: Path
) -> None:
    there = Federation.load(places[1])
    here = Federation(silos=tuple(replace(silo, data=str(places[2] / silo.name)) for silo in there.silos))
    job = Job(task=HEART, strategy=FedAvg(lr=0.03), rounds=2, seed=7, device="cpu")
    assert check(job, there, client).require()
    run = job.run(there, on=AzureML(client, folder=tmp_path / "runs")).wait(timeout=3 * HOURS)
    found = digests(run, range(3))
    assert found == digests(undisturbed(job, here), range(3))
    assert len(set(found)) == 3
