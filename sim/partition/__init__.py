"""Partitioners: one table of rows becomes a federation of local folders.

ByColumn    one silo per value of a column: the split that the data come with
IID         every silo the same mix, sizes equal: the easy case
Dirichlet   label skew of adjustable strength: the literature's standard hard case
"""

from sim.partition.by_column import ByColumn
from sim.partition.dirichlet import Dirichlet
from sim.partition.iid import IID
from sim.partition.partitioner import Partitioner

__all__ = ["IID", "ByColumn", "Dirichlet", "Partitioner"]
