"""All silos' memories as one message: a simulation keeps them on one disk."""

from collections.abc import Mapping

from fl_kit.messages import Groups, Memory


def pack(memories: Mapping[str, Memory]) -> Memory:
    """All silos' memories as one message: group `<silo>.<group>`; a silo's name has no dot."""
    return Memory(
        tensors={f"{silo}.{group}": t for silo, memory in memories.items() for group, t in memory.tensors.items()}
    )


def unpack(packed: Memory) -> dict[str, Memory]:
    silos: dict[str, Groups] = {}
    for key, tensors in packed.tensors.items():
        silo, _, group = key.partition(".")
        silos.setdefault(silo, {})[group] = tensors
    return {silo: Memory(tensors=groups) for silo, groups in silos.items()}
