"""Where silos' steps may run: what each asks for, and what the nodes of a cluster have."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fl_kit.errors import IncompatibleError
from fl_kit.silo import Federation, matching
from sim.ray_cluster.errors import ClusterError

Amounts = Mapping[str, float]
"""Name of a resource → how much of it."""

OWN = {"CPU": "cpus", "GPU": "gpus"}
"""Ray's own resources, which are settings here."""
MOST_SHOWN = 8
A_LITTLE = 0.001
"""Of a resource: enough to be where it is, and next to nothing of it."""


def demands(
    federation: Federation, *, cpus: float, gpus: float, resources: Mapping[str, Amounts]
) -> dict[str, dict[str, float]]:
    """Silo → what one step of it asks for, by Ray's names.

    Raises FederationError for a pattern that no silo matches, IncompatibleError for what is no amount.
    """
    for name, amount in (("cpus", cpus), ("gpus", gpus)):
        check_amount(name, amount, least=0.0)
    found: dict[str, dict[str, float]] = {name: {"CPU": cpus, "GPU": gpus} for name in federation.names}
    for pattern, amounts in resources.items():
        for name, amount in amounts.items():
            if name in OWN:
                raise IncompatibleError(f"Ray(resources=…): {name} is set by {OWN[name]}=…, for all silos alike")
            check_amount(f"resources[{pattern!r}][{name!r}]", amount, least=A_LITTLE / 10)
        for silo in matching(pattern, federation.names, "silo"):
            found[silo].update(amounts)
    return {silo: {name: float(amount) for name, amount in asked.items() if amount} for silo, asked in found.items()}


def check_amount(name: str, amount: Any, *, least: float) -> None:
    if type(amount) not in (int, float) or not least <= amount < float("inf"):
        raise IncompatibleError(f"Ray({name}={amount!r}) is no amount: give a number from {least:g} on")


def check_placed(demands: Mapping[str, Amounts], nodes: Sequence[Amounts]) -> None:
    """Raise ClusterError for a silo whose steps would wait for ever, since no node has what they ask for."""
    seen: set[tuple[tuple[str, float], ...]] = set()
    for silo, asked in demands.items():
        key = tuple(sorted(asked.items()))
        if key not in seen and not fits(asked, nodes):
            raise ClusterError(nowhere(silo, asked, nodes))
        seen.add(key)


def fits(asked: Amounts, nodes: Iterable[Amounts]) -> bool:
    """Whether one node at least has all of it."""
    return any(all(node.get(name, 0.0) >= amount for name, amount in asked.items()) for node in nodes)


def nowhere(silo: str, asked: Amounts, nodes: Sequence[Amounts]) -> str:
    """That a silo's steps can run on no node, and what would help."""
    lacking = [name for name in asked if not fits({name: asked[name]}, nodes)]
    what = in_words({name: asked[name] for name in lacking or asked})
    have = "; ".join(sorted({in_words(own_names(node)) or "nothing" for node in nodes})[:MOST_SHOWN]) or "none"
    return (
        f"silo {silo} asks for {what}, and no node of the cluster has {'that' if lacking else 'all of that'}: a "
        f"step of it would wait for ever. The {len(nodes)} nodes have: {have}. Start a node with it, such as `ray "
        "start --address=… --resources='{\"name\": 1}'`, or change cpus=, gpus= or resources= of sim.Ray"
    )


def own_names(node: Amounts) -> dict[str, float]:
    """What is worth telling of a node: not its addresses, nor bytes of memory."""
    return {
        name: amount
        for name, amount in node.items()
        if not name.startswith(("node:", "accelerator_type:")) and name not in ("memory", "object_store_memory")
    }


def in_words(amounts: Amounts) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(amounts.items()))


def at_once(asked: Amounts, nodes: Iterable[Amounts]) -> int:
    """How many such steps the nodes can run at the same time; at least one."""
    return max(1, sum(room(asked, node) for node in nodes))


def room(asked: Amounts, node: Amounts) -> int:
    return int(min((node.get(name, 0.0) / amount for name, amount in asked.items()), default=node.get("CPU", 1.0)))
