"""A sample of images: arrays in place of a table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from fl_kit.table import Shown, Table


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class ImageSample(Shown):
    """Images with their labels, and all that must be known of them.

    name      as in `images(name)`
    images    (n, height, width) uint8, 0 to 255
    labels    (n,) uint8
    manifest  source, attribution, licence and sha256, as in manifest.json

    >>> len(synthetic_cxr(rows=40).some(10))
    10
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    manifest: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> dict[str, str]:
        """What each label means."""
        return dict(self.manifest["target"]["classes"])

    def some(self, rows: int, *, seed: int = 0) -> "ImageSample":
        """So many of the images, every class in its share as far as that divides; for a quick try.

        Raises DataError for more than there are, or fewer than one of each class.
        """
        kinds, counts = np.unique(self.labels, return_counts=True)
        if not len(kinds) <= rows <= len(self):
            raise DataError(f"{self.name} has {len(self)} images of {len(kinds)} classes; {rows} cannot be taken")
        random = np.random.default_rng(seed)
        shares = np.maximum(np.floor(counts * rows / len(self)).astype(int), 1)
        order = np.argsort(-(counts * rows / len(self) - shares), kind="stable")
        shares[order[: max(rows - shares.sum(), 0)]] += 1
        taken = [
            random.permutation(np.flatnonzero(self.labels == kind))[:share]
            for kind, share in zip(kinds, shares, strict=True)
        ]
        rows_taken = np.sort(np.concatenate(taken))
        return replace(self, images=self.images[rows_taken], labels=self.labels[rows_taken])

    def table(self) -> Table:
        """One row for each class; the licence and the attribution stand below."""
        names = self.classes
        return Table(
            columns=["class", "images"],
            rows=[[names[str(k)], int(c)] for k, c in zip(*np.unique(self.labels, return_counts=True), strict=True)],
            title=f"{self.manifest['title']}: {len(self)} images of {' × '.join(map(str, self.images.shape[1:]))}",
            note=f"{self.manifest['licence']}. {self.manifest['attribution']}",
        )
