"""Cyclic: the weights pass from silo to silo, and nothing is averaged.

Chang et al. 2018, "Distributed deep learning networks among institutions for medical imaging", JAMIA 25(8),
doi 10.1093/jamia/ocy017 (arXiv 1709.05929, "Institutionally Distributed Deep Learning Networks"): cyclical weight
transfer.
"""

from dataclasses import dataclass
from typing import ClassVar

from fl_kit.errors import IncompatibleError
from fl_kit.participation import Participants
from fl_kit.plan import Plan
from fl_kit.silo import Federation
from fl_kit.strategies.fedavg import FedAvg


@dataclass(frozen=True, kw_only=True)
class Cyclic(FedAvg):
    """In each round one silo trains from the weights that the last one left, in silo order, again and again.

        round r, silo k = 1 + (r − 1) mod (number of silos):   w ← w_k     after `epochs` (or `steps`) of SGD from w

    A cycle is as many rounds as there are silos; one cycle alone is the paper's single weight transfer. It found
    cyclical transfer close to pooled training, the closer the shorter a silo trains at a time: prefer few steps and
    many cycles. Where silos differ much, the model forgets the first ones while the last ones train.

    The weights pass through the orchestrator, which keeps each round's. A round is measured by the silo that trains
    next, and the last one by all.

    server_lr and server_momentum are fixed: weights are handed on as they are.

    >>> job = Job(task=heart, strategy=Cyclic(lr=0.1, steps=10), rounds=20)
    """

    needs_mean: ClassVar[bool] = True
    FIXED: ClassVar[frozenset[str]] = frozenset({"server_lr", "server_momentum"})

    def plan(
        self, federation: Federation, rounds: int, *, measure: bool, participants: Participants | None = None
    ) -> Plan:
        """One silo a round; raises IncompatibleError for a job that draws silos."""
        if participants is not None:
            raise IncompatibleError(
                "Cyclic has one silo train in each round: remove fraction and per_round from the job"
            )
        names = federation.names

        def turn(round: int) -> tuple[str, ...]:
            return (names[(round - 1) % len(names)],)

        return super().plan(federation, rounds, measure=measure, participants=turn)
