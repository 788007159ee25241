"""fl-kit's own source as it travels: each file's name and bytes, the same on every system."""

from collections.abc import Iterator
from pathlib import Path

from fl_kit.errors import BundleError
from fl_kit.source import canonical

PACKAGE = "fl_kit"


def own_source() -> Iterator[tuple[str, bytes]]:
    """`fl_kit/…` → bytes of every file that a silo needs; raises BundleError where fl-kit runs from an archive."""
    package = Path(__file__).parent
    if not package.is_dir():
        raise BundleError(f"{package} is in an archive: an fl-kit that runs from a bundle writes no other bundle")
    for path in package.rglob("*"):
        place = path.relative_to(package)
        hidden = any(part.startswith((".", "__pycache__")) for part in place.parts)  # an editor's, or Python's own
        if path.suffix in (".py", ".txt") and not hidden:
            yield f"{PACKAGE}/{place.as_posix()}", canonical(path.read_bytes())
