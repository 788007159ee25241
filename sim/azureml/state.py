"""What a local workspace knows and where it keeps it: one folder that can be deleted.

<root>/
  settings.json            names, port and signing key of the workspace; readable by its owner only
  tls/                     the workspace's own certificate authority
  documents/               every resource as JSON: computes, datastores, components, jobs …
  storage/<datastore>/     blobs, as plain files
  blobs/                   what blobs have beside their bytes, and uploads that are not finished
  jobs/<job>/              logs and working folders of a job's steps
  mlflow/                  metrics and logged models
"""

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from fl_kit.files import write_text
from sim.azureml.errors import WorkspaceError
from sim.azureml.faults import Faults

Body: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, ...]
"""A resource's place: ("computes", "cpu"), ("components", "fit", "1"), ("jobs", "brave_fox")."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Names of the workspace, where it listens, and the key that signs its tokens."""

    name: str = "local"
    subscription: str = "00000000-0000-0000-0000-000000000001"
    resource_group: str = "fl-kit"
    location: str = "local"
    port: int = 0
    signing_key: str = ""

    @property
    def scope(self) -> str:
        """The workspace's resource id, as every path of its interface begins."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def account(self) -> str:
        """The storage account's name: a client builds `https://<account>.blob.localhost/<container>/<blob>` of it.

        With a path in the name, every such address leads to this server, without a name to be resolved.
        """
        return f"127.0.0.1:{self.port}/blob/flstore"

    def container_url(self, datastore: str) -> str:
        """Where a datastore's blobs are: its container bears its name."""
        return f"https://{self.account}.blob.localhost/{datastore}"


class Documents:
    """Resources as JSON, in memory and in one file each; safe for threads.

    A document that was read may be changed freely: only `put` changes what is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._texts: dict[Key, str] = {}
        for path in sorted(folder.rglob("*.json")):
            kept = json.loads(path.read_text(encoding="utf-8"))
            self._texts[tuple(kept["key"])] = json.dumps(kept["body"])

    def get(self, *key: str) -> Body | None:
        """The document at a key, or None."""
        with self._lock:
            text = self._texts.get(key)
        return None if text is None else json.loads(text)

    def put(self, *key: str, body: Body) -> Body:
        """Keep a document and give it back."""
        text = json.dumps(body)
        path = self._folder / key[0] / f"{file_name(key[1:])}.json"
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps({"key": list(key), "body": body}))
            self._texts[key] = text
        return body

    def update(self, *key: str, **changes: Any) -> Body:
        """Change some top-level fields of a document that exists; raises WorkspaceError otherwise."""
        with self._lock:
            body = self.get(*key)
            if body is None:
                raise WorkspaceError(f"there is no {'/'.join(key)}")
            return self.put(*key, body={**body, **changes})

    def delete(self, *key: str) -> None:
        """Forget a document; nothing happens if there is none."""
        with self._lock:
            self._texts.pop(key, None)
            (self._folder / key[0] / f"{file_name(key[1:])}.json").unlink(missing_ok=True)

    def list(self, *prefix: str) -> Iterator[tuple[Key, Body]]:
        """Key and document of everything below a prefix, in the order in which it was first kept."""
        with self._lock:
            found = [(key, text) for key, text in self._texts.items() if key[: len(prefix)] == prefix]
        for key, text in found:
            yield key, json.loads(text)


class WorkspaceState:
    """Everything that the parts of a local workspace share.

    faults   what is to go wrong on purpose
    at_close called when the workspace closes, last one first: what a part must end
    """

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self.settings = settings
        self.documents = Documents(root / "documents")
        self.faults = Faults()
        self.at_close: list[Callable[[], None]] = []
        for name in ("storage", "jobs", "mlflow", "tls", "documents"):
            (root / name).mkdir(parents=True, exist_ok=True)

    @classmethod
    def open(cls, root: str | Path, **names: Any) -> "WorkspaceState":
        """The workspace in a folder, made at first with these settings (see Settings) and a new signing key."""
        root = Path(root).resolve()
        file = root / "settings.json"
        if not file.exists() or not file.stat().st_size:
            root.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            write_text(file, json.dumps(asdict(Settings(**{"signing_key": secrets.token_hex(32), **names})), indent=1))
            file.chmod(0o600)
        return cls(root, Settings(**json.loads(file.read_text(encoding="utf-8"))))

    def close(self) -> None:
        """End whatever runs; what is kept stays."""
        while self.at_close:
            self.at_close.pop()()

    def listening_on(self, port: int) -> None:
        """Remember the port that was chosen, so that a restarted workspace is found where it was."""
        self.settings = Settings(**{**asdict(self.settings), "port": port})
        write_text(self.root / "settings.json", json.dumps(asdict(self.settings), indent=1))
        (self.root / "settings.json").chmod(0o600)

    def storage(self, datastore: str) -> Path:
        """A datastore's folder; raises WorkspaceError if there is no datastore of that name."""
        if self.documents.get("datastores", datastore) is None:
            raise WorkspaceError(f"there is no datastore {datastore!r}")
        return self.root / "storage" / datastore

    def job_folder(self, job: str) -> Path:
        """Where a job keeps its logs and working folders."""
        return self.root / "jobs" / file_name((job,))


def file_name(parts: Key) -> str:
    """A file name for names that may hold anything."""
    return "@".join("".join(c if c.isalnum() or c in "-_." else f"%{ord(c):x}%" for c in part) for part in parts)
