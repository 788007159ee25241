"""What may go wrong in a silo, on purpose. Simulation only.

A **fault** befalls an honest silo, to see that a run bears it; an **attack** is a silo that lies, to see what a robust
aggregator is worth.

    from sim.faults import Crash, Drop, LabelFlip, SignFlip
    job.run(federation, on=InProcess(faults={"silo-01": SignFlip(), "silo-04": LabelFlip(classes=10)}))
    job.run(federation, on=Processes(faults={"silo-01": Crash(rounds=(2,)), "*": Drop(probability=0.05)}))

`*` and `?` in a silo's name stand for any letters. A silo may have several: (LabelFlip(classes=10), Scaled(factor=10)).
Faults work in every backend, on the local AzureML workspace as `workspace.disturb({…})`; attacks only InProcess.
"""

from sim.faults.a_little_is_enough import ALittleIsEnough
from sim.faults.blind import Gaussian, Scaled, SignFlip, SilentConstant
from sim.faults.inner_product import InnerProduct
from sim.faults.label_flip import LabelFlip
from sim.faults.machine import ClockSkew, Crash, Hang, Slow
from sim.faults.min_max import MinMax
from sim.faults.on_the_way import Corrupt, Drop, Duplicate, NaN, Stale, Truncated, WrongShape

__all__ = [
    "ALittleIsEnough",
    "ClockSkew",
    "Corrupt",
    "Crash",
    "Drop",
    "Duplicate",
    "Gaussian",
    "Hang",
    "InnerProduct",
    "LabelFlip",
    "MinMax",
    "NaN",
    "Scaled",
    "SignFlip",
    "SilentConstant",
    "Slow",
    "Stale",
    "Truncated",
    "WrongShape",
]
