"""Random numbers of a partition: a fresh generator per seed, purpose and silo."""

import hashlib
import json

import numpy as np


def generator(seed: int, purpose: str, silo: str = "") -> np.random.Generator:
    """A PCG64 generator seeded by the sha256 of (seed, purpose, silo).

    So a silo's draw depends neither on the other silos nor on the order in which they are split,
    and the same seed gives the same split on every machine.
    """
    digest = hashlib.sha256(json.dumps([seed, purpose, silo]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
