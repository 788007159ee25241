"""One of each public result, small and finished, with texts that would break out of a page if they were let.

A new result joins `every` below: the tests of its reprs take it from here, and so does the notebook that a real
browser draws.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from fl_kit import FedProx, Orchestrator, RunPanel, Silo, SiloPicker, Target, verify_audit, write_bundle
from fl_kit.azureml.findings import Check, doubt, fault
from fl_kit.events import STEP_FAILED, Event
from fl_kit.history import failures, history
from fl_kit.messages import Memory, Update
from fl_kit.regression.trend import Point, Trend
from fl_kit.tracking import Tracker
from sim import Comparison, Contribution, InProcess, Race, Resilience
from sim.azureml import LocalWorkspace
from sim.evaluation.race import Lane
from sim.evaluation.silo_gains import SiloGains
from sim.samples import load, synthetic_cxr
from sim.skew import skew
from tests.sim import small

HOSTILE = "<script>alert('x')</script>"
ON = {
    "federated": {"ash": (0.81, 0.79), HOSTILE: (0.7, 0.72)},
    "centralised": {"ash": (0.82, 0.8), HOSTILE: (0.74, 0.73)},
    "ash": {"ash": (0.75, 0.74), HOSTILE: (0.6, 0.61)},
    HOSTILE: {"ash": (0.58, 0.6), HOSTILE: (0.69, 0.7)},
}
TASK = """a model of hearts

A second paragraph that no repr shows.
"""


def every(folder: Path) -> dict[str, Any]:
    """The name of a class → one of it."""
    silos = small.federation(folder / "silos")
    federation = replace(
        silos,
        silos=tuple(replace(s, region="<b>west</b>", datastore=f"{s.name}_store") for s in silos.silos),
        orchestrator=Orchestrator(compute="hub", variables={"TOKEN": "secret-value"}),
    )
    source = small.LOGISTIC.read_text(encoding="utf-8")
    (folder / "heart.py").write_text(f'"""{HOSTILE} {TASK}"""\n{source}', encoding="utf-8")
    job = small.job(
        folder / "heart.py",
        strategy=FedProx(mu=0.1, lr=(0.2, 0.2, 0.1), epochs=2, batch_size=8),
        min_silos=2,
        stop=Target(metric="accuracy", value=0.99),
    )
    run = job.run(federation, on=InProcess(folder=folder / "runs")).wait()
    events = [*run.events(), failed("alpha", HOSTILE), failed("delta", "CUDA is out of memory. " * 12)]
    comparison = Comparison(
        metric="auc",
        better="higher",
        values={
            "federated": (0.8, 0.79),
            "centralised": (0.82, 0.8),
            "silo-only": (0.7, 0.71),
            "ash": (0.74, 0.74),
            HOSTILE: (0.66, 0.68),
        },
        curves={"federated": (0.5, 0.8)},
        seeds=(0, 1),
        on=ON,
    )
    found = [
        federation,
        Silo(name="ash", data="azureml://datastores/ash/paths/heart/", compute=HOSTILE, tags={"ward": "<i>A</i>"}),
        federation.orchestrator,
        job,
        job.task,
        job.plan(federation),
        job.review(federation),
        replace(job, rounds=2)
        .review(federation, since=write_bundle(job, job.plan(federation), folder / "approved" / "bundle"))
        .changes,
        run,
        verify_audit(folder / "runs"),
        history(events),
        failures(events),
        run.state(),
        Update(delta={"<b>": torch.ones(2, 3)}, weight=12.0, silo="ash"),
        Memory(tensors={"control": {"bias": torch.tensor(0.5)}}),
        Tracker(run, "http://<u>:secret-value@127.0.0.1:1", "fl-kit"),  # no secret
        SiloPicker(federation, silos=["alpha", "bravo"]),
        RunPanel(run),
        comparison,
        SiloGains(metric="auc", better="higher", seeds=(0, 1), on=ON),
        Contribution(metric="auc", rounds=(1, 2), values={"ash": (0.1, 0.02), HOSTILE: (0.05, float("nan"))}),
        Race(metric="auc", sign=1.0, target=0.7, lanes={"FedAvg": lane(0.8), HOSTILE: lane(0.6)}),
        Resilience(
            metric="auc",
            better="higher",
            silos=5,
            bad=(0, 1, 2),
            values={"SignFlip": {"Mean": (0.8, 0.5, 0.2), HOSTILE: (0.79, 0.78, 0.7)}},
            digest="0" * 64,
        ),
        skew(federation, "ill", names={"0": "well", "1": HOSTILE}),
        load("penguins"),
        synthetic_cxr(rows=20),
        Check(
            findings=(
                fault("ash", f"its compute {HOSTILE} is not there", "create it, or give the silo another"),
                doubt("birch, cedar", "the package 'scikit-learn>=1' has no exact version", "pin it with ==" * 9),
            ),
            looked_at="Looked at 3 computes and 3 datastores of 'ward'",
        ),
        Trend(notebook=HOSTILE, figure="auc", points=(Point(time=NOON, commit="5f" * 20, value=0.8, passed=True),)),
        LocalWorkspace.for_federation(federation, folder / "workspace"),
        run.history().table(),
    ]
    return {type(each).__name__: each for each in found}


NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def failed(silo: str, message: str) -> Event:
    value = {"step": "fit", "kind": "OSError", "message": message, "detail": "Traceback …"}
    return Event(time=0.0, round=1, party=silo, name=STEP_FAILED, value=value)


def lane(last: float) -> Lane:
    return Lane(curve=(0.5, last), moved=(0, 12_345), drift=(0.25,), digest="0" * 64)
