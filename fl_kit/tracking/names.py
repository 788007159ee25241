"""A run in MLflow's words: its parameters, its tags and the names of its metrics."""

import re
from typing import Any

from fl_kit.secret_scan import masked
from fl_kit.tracking.record import Record

LONGEST_VALUE = 500
"""Characters of a parameter that every server takes."""
LONGEST_NAME = 250


def params(record: Record) -> dict[str, str]:
    """The job's settings, flat: `strategy`, `strategy.lr`, `rounds`, `seed`, `silos` and so on."""
    settings = dict(record.settings)
    found: dict[str, Any] = {"task": settings.pop("task")["name"], "silos": len(record.federation)}
    settings.pop("format")
    for role in ("strategy", "aggregator"):
        found |= component(role, settings.pop(role))
    transforms = settings.pop("transforms")
    found["transforms"] = ", ".join(class_name(entry) for entry in transforms)
    for entry in transforms:
        found |= component(class_name(entry), entry)
    return {name: short(value) for name, value in {**found, **settings}.items() if value not in (None, "", {})}


def tags(record: Record) -> dict[str, str]:
    """What the MLflow run is found by."""
    settings = record.settings
    return {
        "fl_kit.run_id": record.id,
        "fl_kit.task_sha256": settings["task"]["sha256"],
        "fl_kit.strategy": class_name(settings["strategy"]),
    }


def component(role: str, described: dict[str, Any]) -> dict[str, Any]:
    settings = {f"{role}.{name}": value for name, value in described["settings"].items()}
    return {role: class_name(described), **settings}


def class_name(described: dict[str, Any]) -> str:
    return str(described["class"].rpartition(".")[2])


def short(value: Any) -> str:
    text = masked(str(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def metric_key(name: str) -> str:
    """The name as MLflow takes it.

    >>> metric_key("global/recall@5")
    'global/recall_5'
    """
    return re.sub(r"[^\w./ -]", "_", name)[:LONGEST_NAME]
