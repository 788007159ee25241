"""Many silos and rounds, and the real sample data, through the real MLClient to a local workspace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import requests

from bench.azureml import kinds
from fl_kit import FedAvg, Federation, FedProx, Job, Scaffold
from fl_kit.azureml.backend import AzureML
from fl_kit.reporting import NAMES, crowded
from sim import samples
from sim.azureml import LocalWorkspace
from tests.sim.small import digests, federation, undisturbed
from tests.sim.small import job as asked
from tests.tasks import HEART

pytestmark = pytest.mark.slow


@contextmanager
def workspace(silos: Federation, folder: Path) -> Iterator[LocalWorkspace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with LocalWorkspace.for_federation(silos, folder / "workspace") as made:
            yield made


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, LocalWorkspace]]:
    folder = tmp_path_factory.mktemp("ten")
    silos = federation(folder / "silos", {f"silo-{i}": 10 + i for i in range(10)})
    with workspace(silos, folder) as made:
        yield silos, made


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that the SDK makes while a test runs."""
    calls: list[str] = []
    real = requests.Session.request

    def counting(self: requests.Session, method: str, url: str, *more: object, **named: object) -> requests.Response:
        calls.append(f"{method} {url}")
        return real(self, method, url, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "request", counting)
    return calls


def test_ten_silos_and_fifty_rounds_are_submitted_in_seconds_with_a_handful_of_requests(ten, count, tmp_path):
    """Every request that is left has its line in fl_kit.azureml.submit."""
    _, made = ten
    backend = AzureML(made.client(), folder=tmp_path / "runs")
    job = asked(rounds=50)
    new = {
        "GET components": 1,
        "GET codes": 1,
        "POST codes": 1,
        "HEAD blobs": 1,
        "PUT blobs": 6,
        "PUT codes": 1,
        "PUT environments": 1,
        "GET workspace": 1,
        "PUT components": 8,
        "PUT jobs": 1,
    }
    for expected in (new, {"GET components": 1, "PUT jobs": 1}):  # what travels is uploaded and registered once
        count.clear()
        began = time.process_time()  # a busy machine does not count; bench --azureml says what a clock says
        run = job.run(made.federation, on=backend)
        assert time.process_time() - began < 15
        run.stop()
        run.wait(timeout=60)
        submitted = next(number for number, call in enumerate(count, 1) if call.startswith("PUT") and "/jobs/" in call)
        assert kinds(count[:submitted]) == expected


def test_the_figures_of_many_silos_are_all_there_and_the_root_has_few_names(ten, tmp_path):
    silos, made = ten
    job = asked(strategy=FedAvg(batch_size=8), rounds=2)
    assert crowded(job, len(silos))
    backend = AzureML(made.client(), folder=tmp_path / "runs")
    run = job.run(made.federation, on=backend).wait(timeout=240)
    expected = undisturbed(job, silos)
    order = ["round", "party", "metric"]
    found, whole = (frame.history().sort_values(order, ignore_index=True) for frame in (run, expected))
    pd.testing.assert_frame_equal(found, whole, check_exact=True)
    assert digests(run, range(3)) == digests(expected, range(3))
    root = run._follower._server.get("runs/get", run_id=run.id)["run"]["data"]["metrics"]
    assert 0 < len(root) < NAMES
    assert {entry["key"].split("/")[0] for entry in root} == {"global", "orchestrator"}
    assert backend.attach(run.id).wait(timeout=60).events() == run.events()


@pytest.mark.sample
def test_four_hospitals_give_the_same_bits_in_process_and_through_the_workspace(tmp_path):
    sample = samples.load("heart_disease")
    hospitals = sample.federation(seed=0, folder=tmp_path / "hospitals")
    with workspace(hospitals, tmp_path) as made:
        backend = AzureML(made.client(), folder=tmp_path / "runs")
        for strategy in (FedAvg(lr=0.03), FedProx(lr=0.03, mu=0.1), Scaffold(lr=0.03)):
            job = Job(task=HEART, strategy=strategy, rounds=3, seed=7)
            run = job.run(made.federation, on=backend).wait(timeout=240)
            found = digests(run, range(4))
            assert found == digests(undisturbed(job, hospitals), range(4))
            assert len(set(found)) == 4
