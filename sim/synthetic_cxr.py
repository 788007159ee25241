"""SYNTHETIC chest pictures: thoraxes drawn from ellipses, some with soft shadows in a lung. No patient, no X-ray.

A stand-in for PneumoniaMNIST where nothing can be downloaded: the same size, two classes, and about as hard for a small
network (AUC near 0.90). What a model learns of them says nothing of medicine.
"""

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from sim.image_sample import ImageSample
from sim.partition.columns import is_whole_number
from sim.partition.randomness import generator

Values = NDArray[np.float64]
SIDE = 28
NAME = "synthetic_cxr"
LUNGS = ((-0.40, -0.02), (0.40, -0.02))
"""Centres of the two lungs, in a picture that reaches from −1 to 1."""
MANIFEST = {
    "name": NAME,
    "title": "SYNTHETIC chest pictures, drawn from ellipses",
    "source": "made by fl-kit's own code, sim/synthetic_cxr.py",
    "attribution": "SYNTHETIC: drawn by fl-kit from a seed; no patient and no X-ray.",
    "licence": "MIT",
    "target": {"column": "y", "classes": {"0": "clear", "1": "shadow"}},
    "notes": ["SYNTHETIC. What a model learns of them says nothing of medicine."],
}


def synthetic_cxr(rows: int = 2400, *, prevalence: float = 0.5, seed: int = 0) -> ImageSample:
    """SYNTHETIC pictures of 28 × 28 grey levels; label 1 has one to three soft shadows in a lung.

    rows        how many, at least 2
    prevalence  share of label 1, in (0, 1)

    The same arguments give the same pictures. Raises DataError for arguments out of range.

    >>> synthetic_cxr(rows=40).images.shape
    (40, 28, 28)
    """
    if not is_whole_number(rows) or rows < 2:
        raise DataError(f"rows must be a whole number from 2, not {rows!r}")
    if not is_whole_number(seed):
        raise DataError(f"seed must be a whole number, not {seed!r}")
    if not 0 < prevalence < 1:
        raise DataError(f"prevalence must lie between 0 and 1, not {prevalence!r}")
    random = generator(seed, NAME)
    labels = random.permutation(np.arange(rows) < min(max(round(prevalence * rows), 1), rows - 1))
    x, y = poses(rows, random)
    pictures = thorax(x, y, random)
    pictures += shadows(x, y, labels, random)
    contrast, brightness = random.normal(1, 0.10, (rows, 1, 1)), random.normal(0, 0.05, (rows, 1, 1))
    pictures = contrast * pictures + brightness + 0.03 * random.standard_normal(pictures.shape)
    grey = np.rint(255 * np.clip(pictures, 0, 1)).astype(np.uint8)
    return ImageSample(name=NAME, images=grey, labels=labels.astype(np.uint8), manifest=MANIFEST)


def poses(rows: int, random: np.random.Generator) -> tuple[Values, Values]:
    """Every pixel's x and y as seen by a body that is shifted, turned and larger or smaller; each (rows, 28, 28)."""
    line = np.linspace(-1, 1, SIDE)
    y, x = np.meshgrid(line, line, indexing="ij")
    angle, size = random.normal(0, 0.06, (rows, 1, 1)), random.normal(1, 0.06, (rows, 1, 1))
    x, y = x - random.normal(0, 0.05, (rows, 1, 1)), y - random.normal(0, 0.05, (rows, 1, 1))
    return (x * np.cos(angle) + y * np.sin(angle)) / size, (y * np.cos(angle) - x * np.sin(angle)) / size


def ellipse(
    x: Values, y: Values, center: tuple[float, float], radii: tuple[Values, Values], edge: float = 8.0
) -> Values:
    """1 inside, 0 outside, soft at the edge."""
    distance = np.hypot((x - center[0]) / radii[0], (y - center[1]) / radii[1])
    found: Values = 1 / (1 + np.exp(edge * (distance - 1)))
    return found


def thorax(x: Values, y: Values, random: np.random.Generator) -> Values:
    """Body, two lungs with ribs across them, spine and heart; every body of its own build."""
    rows = len(x)

    def about(value: float, spread: float) -> Values:
        return value * np.exp(random.normal(0, spread, (rows, 1, 1)))

    picture = 0.62 * ellipse(x, y, (0, 0.1), (about(0.95, 0.05), about(1.15, 0.05)))
    ribs = 0.5 + 0.5 * np.sin(y * about(17, 0.08) + 3 * x**2 + random.uniform(0, 6.3, (rows, 1, 1)))
    for center in LUNGS:
        lung = ellipse(x, y, center, (about(0.31, 0.08), about(0.62, 0.08)))
        picture += lung * (-0.42 + about(0.09, 0.3) * ribs)
    picture += 0.16 * np.exp(-((x / 0.09) ** 2))
    heart = ellipse(x, y, (0.14, 0.28), (about(0.30, 0.12), about(0.30, 0.12)), edge=6)
    return picture + about(0.22, 0.15) * heart


def shadows(x: Values, y: Values, labels: NDArray[np.bool_], random: np.random.Generator) -> Values:
    """What makes the task hard: everyone has faint marks anywhere; label 1 has one to three soft shadows in a lung."""
    rows, most = len(x), 3
    found = np.zeros_like(x)
    count = random.integers(1, most + 1, rows)
    for i in range(most):
        side = random.integers(0, 2, rows)
        center_x = np.array([c[0] for c in LUNGS])[side] + random.normal(0, 0.11, rows)
        center_y = random.normal(0.05, 0.28, rows)
        strength = np.where(labels & (i < count), random.gamma(STRENGTH[0], STRENGTH[1], rows), 0.0)
        found += blob(x, y, center_x, center_y, random.uniform(0.10, 0.28, rows), strength)
        mark_x, mark_y = random.uniform(-0.8, 0.8, (2, rows))
        found += blob(x, y, mark_x, mark_y, random.uniform(0.08, 0.2, rows), random.gamma(1.5, 0.04, rows))
    return found


STRENGTH = (2.0, 0.11)
"""Shape and scale of a shadow's contrast: set so that a small network reaches an AUC of about 0.90."""


def blob(x: Values, y: Values, center_x: Values, center_y: Values, radius: Values, strength: Values) -> Values:
    """A soft round shadow in each picture."""
    cx, cy, r, s = (value[:, None, None] for value in (center_x, center_y, radius, strength))
    found: Values = s * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * r**2))
    return found
