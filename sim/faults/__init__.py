"""What may go wrong in a silo, on purpose: attacks, to see what a robust aggregator is worth. Simulation only.

    from sim.faults import LabelFlip, SignFlip
    job.run(federation, on=InProcess(faults={"silo-01": SignFlip(), "silo-04": LabelFlip(classes=10)}))

A silo may have several, which then act one after the other: (LabelFlip(classes=10), Scaled(factor=10)).
"""

from sim.faults.a_little_is_enough import ALittleIsEnough
from sim.faults.blind import Gaussian, Scaled, SignFlip, SilentConstant
from sim.faults.inner_product import InnerProduct
from sim.faults.label_flip import LabelFlip
from sim.faults.min_max import MinMax

__all__ = [
    "ALittleIsEnough",
    "Gaussian",
    "InnerProduct",
    "LabelFlip",
    "MinMax",
    "Scaled",
    "SignFlip",
    "SilentConstant",
]
