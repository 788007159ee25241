"""Public data that do not come with fl-kit: read from a given file, or downloaded once from where it is published.

A file counts only if its sha256 or md5 is the published one. Where there is no network, the error says where to get it.
"""

import hashlib
import io
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fl_kit.errors import DataError
from sim.image_sample import ImageSample

if TYPE_CHECKING:
    import pandas as pd

PATIENCE = 30.0
"""Seconds without an answer after which a download is given up."""


@dataclass(frozen=True, kw_only=True)
class PublicFile:
    """A file as its publisher has it.

    name    how it is called on disk
    url     where it is published
    digests the md5 (32 digits) or sha256 (64) of each content that is known to be right
    """

    name: str
    url: str
    digests: tuple[str, ...]

    def is_right(self, content: bytes) -> bool:
        found = {hashlib.sha256(content).hexdigest(), hashlib.md5(content, usedforsecurity=False).hexdigest()}
        return bool(found & set(self.digests))

    def read(self, path: str | Path | None = None) -> bytes:
        """The content: of the file or folder `path`, else of an earlier download, else downloaded now and kept.

        Raises DataError for a file that is missing or another one, and where nothing can be downloaded.
        """
        if path is not None:
            place = Path(path).expanduser()
            return self.checked(place / self.name if place.is_dir() else place)
        place = downloads() / self.name
        return self.checked(place) if place.is_file() else self.download(place)

    def checked(self, place: Path) -> bytes:
        try:
            content = place.read_bytes()
        except OSError as error:
            raise DataError(f"{place} cannot be read: {error.strerror}; {self.how()}") from error
        if not self.is_right(content):
            raise DataError(f"{place} is not the published {self.name}: its checksum differs; {self.how()}")
        return content

    def download(self, place: Path) -> bytes:
        try:
            with urllib.request.urlopen(self.url, timeout=PATIENCE) as answer:
                content: bytes = answer.read()
        except (urllib.error.URLError, OSError) as error:
            raise DataError(f"{self.name} could not be downloaded ({error}); {self.how()}") from error
        if not self.is_right(content):
            raise DataError(f"what {self.url} sent is not the published {self.name}: its checksum differs")
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(place)
        return content

    def how(self) -> str:
        return f"get {self.name} from {self.url} and give its place as path=…, or put it into {downloads()}"


def downloads() -> Path:
    """Where downloads are kept: `$FL_KIT_CACHE/downloads`, else `.fl_kit/downloads` in the working directory."""
    return (Path(os.environ.get("FL_KIT_CACHE") or ".fl_kit").expanduser() / "downloads").resolve()


PNEUMONIA = PublicFile(
    name="pneumoniamnist.npz",
    url="https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",
    # MedMNIST's own file; the same pictures in another order
    digests=(
        "28209eda62fecd6e6a2d98b1501bb15f",
        "20568c3c8f7ddebe016ab049006f1eb241ab4249e8eff13c3a5d09d11900d8b0",
    ),
)
PARTS = ("train", "val", "test")
PNEUMONIA_MANIFEST = {
    "name": "pneumoniamnist",
    "title": "PneumoniaMNIST, paediatric chest X-rays",
    "source": "MedMNIST v2, https://medmnist.com; pictures of Kermany et al. 2018",
    "attribution": "Yang J. et al. (2023). MedMNIST v2. Scientific Data 10, 41. Kermany D. et al. (2018). Cell 172.",
    "licence": "CC BY 4.0",
    "target": {"column": "y", "classes": {"0": "normal", "1": "pneumonia"}},
}


def pneumoniamnist(path: str | Path | None = None) -> ImageSample:
    """5856 real chest X-rays of children, 28 × 28: label 1 is pneumonia. Not part of fl-kit: read or downloaded.

    path  pneumoniamnist.npz, or a folder that holds it; None: an earlier download, else from Zenodo

    MedMNIST's train, val and test parts in this order. Raises DataError where the file is missing or another one,
    saying where to get it.
    """
    with np.load(io.BytesIO(PNEUMONIA.read(path)), allow_pickle=False) as found:
        images = np.concatenate([found[f"{part}_images"] for part in PARTS])
        labels = np.concatenate([found[f"{part}_labels"].reshape(-1) for part in PARTS])
    return ImageSample(
        name="pneumoniamnist",
        images=images.astype(np.uint8),
        labels=labels.astype(np.uint8),
        manifest=PNEUMONIA_MANIFEST,
    )


WNUT_FOLDER = "https://raw.githubusercontent.com/leondz/emerging_entities_17/master"
WNUT = {
    "train": ("wnut17train.conll", "731820e13f71af324c6b55a1575ec2ce59fbaa2a0806f8f0400b98d56cd6a7a5"),
    "dev": ("emerging.dev.conll", "e053b752b8155113ca66e7db08af5f2f5f43ab993694e4774f1ec5bad42312d8"),
    "test": ("emerging.test.annotated", "2aa79b764e56ec9264a1b30fdd9b70195bd00ff400b62edd8f399d5f13c178f0"),
}
WNUT_PLATFORM = {"train": "twitter", "dev": "youtube", "test": "mixed"}


def wnut17(folder: str | Path | None = None) -> "pd.DataFrame":
    """5690 sentences of WNUT 2017 with their named entities. Not part of fl-kit: read or downloaded.

    folder  that holds wnut17train.conll, emerging.dev.conll and emerging.test.annotated; None: earlier downloads, else
            from the authors' repository on GitHub

    Columns: platform ("twitter" for the train part, "youtube" for dev, "mixed" for test, which is of Stack Overflow,
    Reddit and Twitter), tokens and tags, lists of one length; tags are B-, I- and O. CC BY 4.0, Derczynski et al. 2017.
    Raises DataError where a file is missing or another one, saying where to get it.
    """
    import pandas as pd

    rows = []
    for part, (name, digest) in WNUT.items():
        file = PublicFile(name=name, url=f"{WNUT_FOLDER}/{name}", digests=(digest,))
        rows += [(WNUT_PLATFORM[part], *sentence) for sentence in sentences(file.read(folder).decode("utf-8"))]
    return pd.DataFrame(rows, columns=["platform", "tokens", "tags"])


def sentences(text: str) -> list[tuple[list[str], list[str]]]:
    """The sentences of a file with a token and its tag a line, an empty line between sentences."""
    found: list[tuple[list[str], list[str]]] = [([], [])]
    for line in text.split("\n"):
        token, _, tag = line.rstrip("\r").partition("\t")
        if tag:
            found[-1][0].append(token)
            found[-1][1].append(tag.strip())
        elif found[-1][0]:
            found.append(([], []))
    return [sentence for sentence in found if sentence[0]]
