"""Simulation: sample data, partitions and backends that stay at home and never travel to a silo.

The names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.baselines import Comparison as Comparison
    from sim.baselines import compare as compare
    from sim.evaluation.contribution import Contribution as Contribution
    from sim.evaluation.contribution import contribution as contribution
    from sim.evaluation.race import Race as Race
    from sim.evaluation.race import race as race
    from sim.faults.resilience import Resilience as Resilience
    from sim.faults.resilience import under_attack as under_attack
    from sim.in_process import InProcess as InProcess
    from sim.known_silos import silo_facts as silo_facts
    from sim.partition import IID as IID
    from sim.partition import ByColumn as ByColumn
    from sim.partition import ConceptShift as ConceptShift
    from sim.partition import Continuous as Continuous
    from sim.partition import Dirichlet as Dirichlet
    from sim.partition import DirichletQuantity as DirichletQuantity
    from sim.partition import FeatureShift as FeatureShift
    from sim.partition import Grouped as Grouped
    from sim.partition import InnerDirichlet as InnerDirichlet
    from sim.partition import LabelFlip as LabelFlip
    from sim.partition import Pathological as Pathological
    from sim.partition import QuantitySkew as QuantitySkew
    from sim.partition import Shards as Shards
    from sim.partition import Temporal as Temporal
    from sim.partition import Vertical as Vertical
    from sim.processes import Processes as Processes
    from sim.ray_cluster.backend import Ray as Ray

HOMES = {
    "ByColumn": "sim.partition",
    "Comparison": "sim.baselines",
    "ConceptShift": "sim.partition",
    "Continuous": "sim.partition",
    "Contribution": "sim.evaluation.contribution",
    "Dirichlet": "sim.partition",
    "DirichletQuantity": "sim.partition",
    "FeatureShift": "sim.partition",
    "Grouped": "sim.partition",
    "IID": "sim.partition",
    "InProcess": "sim.in_process",
    "InnerDirichlet": "sim.partition",
    "LabelFlip": "sim.partition",
    "Pathological": "sim.partition",
    "Processes": "sim.processes",
    "QuantitySkew": "sim.partition",
    "Race": "sim.evaluation.race",
    "Ray": "sim.ray_cluster.backend",
    "Resilience": "sim.faults.resilience",
    "Shards": "sim.partition",
    "Temporal": "sim.partition",
    "Vertical": "sim.partition",
    "compare": "sim.baselines",
    "contribution": "sim.evaluation.contribution",
    "race": "sim.evaluation.race",
    "silo_facts": "sim.known_silos",
    "under_attack": "sim.faults.resilience",
}

__all__ = [*HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    value = getattr(import_module(HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*HOMES])
