"""What passes between this process and a worker: JSON, each piece after its length. No pickle."""

import json
import threading
from typing import IO, Any

from fl_kit.bounded import parse_json
from fl_kit.errors import MessageError

LENGTH = 4
"""Bytes that tell the length of what follows."""
LIMIT = 256 << 20
"""Bytes of one piece: the layout of a hundred thousand tensors."""


class Wire:
    """Both directions; any thread may send, one listens."""

    def __init__(self, reads: IO[bytes], writes: IO[bytes]) -> None:
        self._reads, self._writes = reads, writes
        self._lock = threading.Lock()

    def send(self, kind: str, **fields: Any) -> None:
        """Send a message; raises OSError if nobody is at the other end."""
        data = json.dumps({"kind": kind, **fields}, ensure_ascii=False).encode("utf-8", "replace")
        with self._lock:
            self._writes.write(len(data).to_bytes(LENGTH, "little") + data)
            self._writes.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next message, or None when the other end is closed; raises MessageError for anything else."""
        head = self._reads.read(LENGTH)
        if not head:
            return None
        length = int.from_bytes(head, "little")
        if len(head) < LENGTH or length > LIMIT:
            raise MessageError(f"what came over the wire is no message: it would have {length:,} bytes")
        data = self._reads.read(length)
        if len(data) < length:
            return None  # whoever wrote it was ended meanwhile
        try:
            found = parse_json(data, infinite=True)
        except ValueError as error:
            raise MessageError(f"what came over the wire is no message: {error}") from error
        if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
            raise MessageError("what came over the wire is no message: it does not say its kind")
        return found

    def hang_up(self) -> None:
        """Close the sending end, whether or not somebody still listens."""
        try:
            self._writes.close()
        except OSError:  # what was not yet written has nobody to read it
            return
