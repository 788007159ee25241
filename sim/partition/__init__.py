"""Partitioners: one table of rows, or arrays, or a torch Dataset becomes a federation of local folders.

As the data come
    ByColumn           one silo per value of a column
    Grouped            several values of a column to one silo
    Continuous         like values of a numeric column share a silo
    Temporal           silos are periods; or the latest rows of each silo are its test
    Vertical           parties know different columns of overlapping rows
Label skew
    Dirichlet          each class in random shares: the literature's standard hard case
    InnerDirichlet     each silo a random label mix, sizes as asked
    Pathological       k classes a silo
    Shards             sorted by label, cut, and some pieces to each silo
Size skew
    IID                every silo the same mix, sizes equal: the easy case
    QuantitySkew       given sizes, or linear, square, exponential
    DirichletQuantity  random sizes
On top of one that deals the rows
    FeatureShift       a transform per silo: gamma, noise, blur, scale
    LabelFlip          a share of wrong labels
    ConceptShift       the same inputs are called otherwise
"""

from sim.partition.by_column import ByColumn
from sim.partition.concept_shift import ConceptShift
from sim.partition.continuous import Continuous
from sim.partition.dirichlet import Dirichlet
from sim.partition.dirichlet_quantity import DirichletQuantity
from sim.partition.feature_shift import FeatureShift
from sim.partition.grouped import Grouped
from sim.partition.iid import IID
from sim.partition.inner_dirichlet import InnerDirichlet
from sim.partition.label_flip import LabelFlip
from sim.partition.partitioner import Partitioner
from sim.partition.pathological import Pathological
from sim.partition.quantity_skew import QuantitySkew
from sim.partition.shards import Shards
from sim.partition.temporal import Temporal
from sim.partition.vertical import Vertical

__all__ = [
    "IID",
    "ByColumn",
    "ConceptShift",
    "Continuous",
    "Dirichlet",
    "DirichletQuantity",
    "FeatureShift",
    "Grouped",
    "InnerDirichlet",
    "LabelFlip",
    "Partitioner",
    "Pathological",
    "QuantitySkew",
    "Shards",
    "Temporal",
    "Vertical",
]
