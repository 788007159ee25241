"""Submits a large plan through the real SDK to a local workspace. `python -m bench.azureml 10 50`.

What each request is for stands in `fl_kit.azureml.submit`; one more asks where the workspace's MLflow is.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import requests

from bench.child import tell
from fl_kit import FedAvg, Federation, Job, Silo
from fl_kit.azureml.backend import AzureML
from sim.azureml import LocalWorkspace

SILOS, ROUNDS = 10, 50
TASK = """
import torch
from torch import nn

def model():
    return nn.Linear(4, 1)

def data(folder, split):
    rows = torch.linspace(0, 1, 32).reshape(8, 4)
    return rows, rows.sum(1, keepdim=True)

loss = nn.MSELoss()
"""


def submissions(silos: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds and requests of the same job submitted twice: the second time, all that it needs is registered.

    The seconds are those of `job.run`: plan, bundle, pipeline, upload, submission. The SDK is loaded before. A run is
    cancelled as soon as it is submitted. The workspace is in this process, so a request costs no way.
    """
    job = Job(task=task(folder), strategy=FedAvg(lr=0.1), rounds=rounds, device="cpu")
    with LocalWorkspace.for_federation(federation(silos, folder), folder / "workspace") as workspace:
        on = AzureML(workspace.client(), folder=folder / "runs")
        found = {}
        for time_ in ("first", "again"):
            with counted() as calls:
                began = time.perf_counter()
                run = job.run(workspace.federation, on=on)
                found[time_] = {
                    "seconds": time.perf_counter() - began,
                    "requests": len(calls),
                    "uploads": sum(count for kind, count in kinds(calls).items() if kind.endswith(" blobs")),
                    "kinds": kinds(calls),
                }
            run.stop()
            run.wait(timeout=120)
    return {"silos": silos, "rounds": rounds, "steps": len(job.plan(workspace.federation).steps), **found}


def task(folder: Path) -> Path:
    path = folder / "line.py"
    path.write_text(TASK, encoding="utf-8")
    return path


def federation(silos: int, folder: Path) -> Federation:
    """Silos with a file each: what is in it does not matter, for nothing trains."""
    found = [Silo(name=f"silo-{number:02d}", data=str(folder / f"silo-{number:02d}")) for number in range(silos)]
    for silo in found:
        Path(silo.data).mkdir()
        Path(silo.data, "rows.txt").write_text("1\n", encoding="utf-8")
    return Federation(silos=tuple(found))


@contextmanager
def counted() -> Iterator[list[str]]:
    """Every request that the SDK makes meanwhile, as `PUT https://…`."""
    calls: list[str] = []
    request = requests.Session.request

    def counting(self: requests.Session, method: str, url: str, *more: Any, **named: Any) -> requests.Response:
        calls.append(f"{method} {url}")
        return request(self, method, url, *more, **named)

    with patch.object(requests.Session, "request", counting):
        yield calls


def kinds(calls: Iterable[str]) -> dict[str, int]:
    """Method and what it is about, as in `PUT components`, → how many such requests; what is uploaded is `blobs`."""
    found: Counter[str] = Counter()
    for call in calls:
        method, _, address = call.partition(" ")
        path = address.partition("?")[0].split("/")
        place = path.index("workspaces") + 2 if "workspaces" in path else len(path)
        kind = "blobs" if "blob" in path else "".join(path[place : place + 1]) or "workspace"
        found[f"{method} {kind}"] += 1
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("silos", type=int)
    parser.add_argument("rounds", type=int)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tell(submissions(asked.silos, asked.rounds, Path(folder)))


if __name__ == "__main__":
    main()
