"""FLTrust: each update counts as far as it points where a trusted one points.

Cao et al. 2021, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping", arXiv 2012.13995,
Algorithm 2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fl_kit.aggregators.blocks import groups_coordinate_wise, inner_products, median, weighted_sum
from fl_kit.aggregators.robust import Robust
from fl_kit.errors import IncompatibleError, QuorumLost
from fl_kit.messages import Update
from fl_kit.protocols import Context
from fl_kit.silo import nearest
from fl_kit.tensors import Tensors, norm


@dataclass(frozen=True, kw_only=True)
class FLTrust(Robust):
    """The mean of updates that are cut to the trusted one's length, weighted by their trust in it.

        trust_k = max(0, cos(delta_k, delta_0))          delta_0 the trusted silo's update, of trust 1
        delta   = Σ trust_k·delta_k·‖delta_0‖/‖delta_k‖ / Σ trust_k

    trusted  the silo whose honesty the orchestrator's owner vouches for; there is no default, since nobody else can
             know. In the paper the orchestrator trains on rows of its own; here it never reads data, so a silo does

    Extra groups (buffers) are combined by their coordinate-wise median.

    Breakdown: any number of the other silos may be bad, the result is no longer than delta_0 and never points against
    it; the trusted silo alone moves it anywhere. Raises IncompatibleError if there is no such silo, or if it might
    not be drawn for a round; QuorumLost in a round in which it does not deliver.

    >>> job = Job(task=heart, strategy=FedAvg(lr=0.1), aggregator=FLTrust(trusted="alpha"), rounds=20)
    """

    trusted: str

    def __post_init__(self) -> None:
        trusted: object = self.trusted  # from a file it may be anything
        if not (isinstance(trusted, str) and trusted):
            raise IncompatibleError(f"FLTrust(trusted={trusted!r}): must be a silo's name")

    def check(self, silos: Sequence[str], *, drawn: int, least: int) -> None:
        if self.trusted not in silos:
            raise IncompatibleError(f"{self}: there is no silo {self.trusted!r}{nearest(self.trusted, silos)}")
        if drawn < len(silos):
            raise IncompatibleError(
                f"{self} needs its trusted silo in each round, and only {drawn} of {len(silos)} silos are drawn for "
                "one: let all take part, or use Median"
            )

    def __call__(self, updates: Iterable[Update], ctx: Context) -> Update:
        found = self.gather(updates, ctx)
        reference = next((update.delta for update in found if update.silo == self.trusted), None)
        if reference is None:
            raise QuorumLost(
                f"round {ctx.step.round}: {self} needs the update of {self.trusted!r}, and it did not deliver one that "
                "counts. Mend it, then resume the run"
            )
        deltas = [update.delta for update in found]
        length, norms = length_of(reference), [length_of(delta) for delta in deltas]
        products: list[float] = inner_products(deltas, reference).tolist()
        trust = [
            1.0 if delta is reference else trust_in(product, own, length)
            for delta, product, own in zip(deltas, products, norms, strict=True)
        ]
        shares = [t * length / own / sum(trust) if own else 0.0 for t, own in zip(trust, norms, strict=True)]
        return Update(
            delta=weighted_sum(deltas, shares), weight=sum(trust), extra=groups_coordinate_wise(found, median)
        )


def trust_in(product: float, own: float, length: float) -> float:
    """The positive part of the cosine; none in an update of length 0."""
    return max(0.0, product / (own * length)) if own and length else 0.0


def length_of(delta: Tensors) -> float:
    """The norm of an update; by name, as files give names in another order."""
    return norm(delta[name] for name in sorted(delta))
