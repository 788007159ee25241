"""What a simulation knows of its silos: it may open every silo's data, so it reads them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from fl_kit.batches import Rows
from fl_kit.errors import FlKitError
from fl_kit.job import Job
from fl_kit.silo import Federation, Silo, folder_fault
from fl_kit.silo_facts import SiloFacts, of_tags
from fl_kit.workbench import Workbench

MOST_CLASSES = 20
"""A target with more values than this is a quantity, whose mix would say nothing."""
LOOKED_AT = 4096
"""Rows at a time."""


def silo_facts(federation: Federation, job: Job, *, names: Mapping[str, str] | None = None) -> dict[str, SiloFacts]:
    """Rows, label mix, and why a silo cannot take part, for `SiloPicker(federation, facts=…)`.

    job    whose task reads the rows, as a run would
    names  what label values mean, such as a sample's `classes`

    A silo without a folder, or whose rows the task cannot read, gets the reason in place of rows: nothing that is
    wrong with a silo is raised.

    >>> facts = silo_facts(federation, job)
    >>> facts["alpha"].rows, facts["alpha"].status
    (20, 'ready')
    >>> picker = SiloPicker(federation, facts=facts)
    """
    bench = Workbench(job.task, seed=job.seed, device="cpu")
    return {silo.name: of_silo(silo, bench, names or {}) for silo in federation.silos}


def of_silo(silo: Silo, bench: Workbench, names: Mapping[str, str]) -> SiloFacts:
    known = of_tags(silo)
    if fault := folder_fault(silo):
        return replace(known, reason=fault.removeprefix(f"{silo.name}: "))
    try:
        rows = bench.rows(silo.name, silo.data, "train")
    except FlKitError as error:
        return replace(known, reason=str(error))
    except Exception as error:  # noqa: BLE001 - the task's own, told as the reason
        return replace(known, reason=f"data() failed: {type(error).__name__}: {error}")
    return replace(known, rows=len(rows), labels=label_mix(rows, names), status=known.status or "ready")


def label_mix(rows: Rows, names: Mapping[str, str]) -> dict[str, int]:
    """Class → rows, in order of value; empty where the target is a quantity or more than one number a row."""
    counts: Counter[float] = Counter()
    for _, targets in rows.batches(LOOKED_AT):
        if targets.numel() != len(targets):
            return {}
        counts.update(targets.reshape(-1).tolist())
        if len(counts) > MOST_CLASSES:
            return {}
    return {names.get(text(value), text(value)): count for value, count in sorted(counts.items())}


def text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
