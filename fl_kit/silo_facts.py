"""What is known of silos beyond their description: rows, labels, and whether they can take part now."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fl_kit.silo import Federation, Silo


@dataclass(frozen=True, kw_only=True)
class SiloFacts:
    """What is known of one silo, for choosing it.

    rows    training rows, or None where unknown
    labels  class → training rows of it; empty where unknown
    status  a word or two: "ready", "compute stopped"; empty where unknown
    reason  why it cannot take part, in words; empty if it can
    seen    when it last answered, as text; empty where unknown
    price   what one round in it costs, in the currency of whoever gives it, or None

    >>> picker = SiloPicker(federation, facts={"alpha": SiloFacts(rows=1200), "bravo": SiloFacts(reason="no data yet")})
    >>> picker.names
    ('alpha', 'charlie', 'delta')
    """

    rows: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    status: str = ""
    reason: str = ""
    seen: str = ""
    price: float | None = None


Known = Mapping[str, SiloFacts]
"""Silo → what is known of it."""


def from_tags(federation: Federation) -> dict[str, SiloFacts]:
    """What the silos' own tags say: `rows`, `status`, `seen`, `price`; others are left alone."""
    return {silo.name: of_tags(silo) for silo in federation.silos}


def of_tags(silo: Silo) -> SiloFacts:
    tags = silo.tags
    rows, price = tags.get("rows", ""), tags.get("price", "")
    return SiloFacts(
        rows=int(rows) if rows.isdecimal() else None,
        price=float(price) if price.replace(".", "", 1).isdecimal() else None,
        status=tags.get("status", ""),
        seen=tags.get("seen", ""),
    )
