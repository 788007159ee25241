"""Federated algorithms: one file a paper, the silo's half and the orchestrator's half together."""

from fl_kit.strategies.fedadagrad import FedAdagrad
from fl_kit.strategies.fedadam import FedAdam
from fl_kit.strategies.fedavg import FedAvg
from fl_kit.strategies.feddyn import FedDyn
from fl_kit.strategies.fednova import FedNova
from fl_kit.strategies.fedprox import FedProx
from fl_kit.strategies.fedyogi import FedYogi
from fl_kit.strategies.scaffold import Scaffold

__all__ = ["FedAdagrad", "FedAdam", "FedAvg", "FedDyn", "FedNova", "FedProx", "FedYogi", "Scaffold"]
