"""Federated algorithms: one file a paper, the silo's half and the orchestrator's half together.

When to reach for which:

    FedAvg      first, always: the yardstick. With server_momentum (FedAvgM) where rounds zigzag or are few
    FedProx     silos differ, and long local training pulls them apart; one setting more, and no memory
    Scaffold    silos differ a lot and all take part often: removes client drift, at twice the bytes
    FedDyn      the same at FedAvg's bytes: rests at the exact minimum; more lively in its first rounds
    FedNova     silos take unequal numbers of steps, as with epochs over unequal rows
    FedAdam     parameters need step sizes of their own: text, embeddings, sparse features
    FedYogi     the same, steadier where the deltas of a parameter come in bursts
    FedAdagrad  the same, where steps should only ever shrink
    QFedAvg     the worst served silo counts: makes the silos' losses more even
    FedBN       silos' inputs differ (scanners, sensors), and the model has batch normalisation: each keeps its own
    FedPer      silos want different answers: they share all but the last layers
    Ditto       each silo wants a model of its own beside the shared one, and may say how far from it
    FedSGD      an exchange for each step is no matter: exactly gradient descent on the pooled rows
    Cyclic      nothing may be averaged: the weights pass from silo to silo; forgets where silos differ much
    Moon        images, with much label skew: holds the features together rather than the weights

FedNova, Scaffold, FedDyn and QFedAvg add up exact sums at the orchestrator and go with Mean alone; so does Cyclic,
with one update a round.
"""

from fl_kit.strategies.cyclic import Cyclic
from fl_kit.strategies.ditto import Ditto
from fl_kit.strategies.fedadagrad import FedAdagrad
from fl_kit.strategies.fedadam import FedAdam
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.strategies.fedbn import FedBN
from fl_kit.strategies.feddyn import FedDyn
from fl_kit.strategies.fednova import FedNova
from fl_kit.strategies.fedper import FedPer
from fl_kit.strategies.fedprox import FedProx
from fl_kit.strategies.fedsgd import FedSGD
from fl_kit.strategies.fedyogi import FedYogi
from fl_kit.strategies.moon import Moon
from fl_kit.strategies.qfedavg import QFedAvg
from fl_kit.strategies.scaffold import Scaffold

__all__ = [
    "Cyclic",
    "Ditto",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedBN",
    "FedDyn",
    "FedNova",
    "FedPer",
    "FedProx",
    "FedSGD",
    "FedYogi",
    "Moon",
    "QFedAvg",
    "Scaffold",
]
