"""Brings a message from a datastore: its two files, by their names, whole or not at all.

Whoever may write to a datastore may put anything there, under any name. Nothing is listed and nothing else is fetched,
so no name leads anywhere; a file is asked for its size before a byte of it is fetched; and what was fetched stands at
its place only when both files are whole.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fl_kit.errors import MessageError, StoreError
from fl_kit.messages import META_FILE, META_LIMIT, TENSORS_FILE, TENSORS_LIMIT, complete, read_meta


def download_message(client: Any, uri: str, folder: Path) -> bool:
    """Bring the message in a folder of a datastore here, in place of what was there; False if there is none.

    Raises StoreError that names the folder for a message that is not whole, is too large, or cannot be fetched.
    """
    with near(folder) as partial:
        try:
            store = Files(client, uri)
            if not store.bring(META_FILE, partial, META_LIMIT):
                return False
            told = read_meta(partial).get("bytes")
            size = told if type(told) is int and 0 <= told <= TENSORS_LIMIT else 0
            if not store.bring(TENSORS_FILE, partial, size) or not complete(partial):
                raise MessageError(f"it is not whole: {TENSORS_FILE} has not the {size:,} bytes that {META_FILE} says")
        except MessageError as error:
            said = str(error).replace(f"{partial}/", "").replace(str(partial), "it")
            raise StoreError(f"{uri} holds no message that can be used: {said}") from error
        except Exception as error:
            raise StoreError(f"{uri} cannot be downloaded: {error}. Ask again; nothing of it was kept") from error
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return True


@contextmanager
def near(folder: Path) -> Iterator[Path]:
    """A new folder beside another, which is gone in the end unless it was moved."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir()
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Files:
    """The files below an address in a datastore, each by its name.

    The SDK's own `download_artifact_from_aml_uri` takes all that it finds below an address, whatever its size and name,
    and writes each file where the last one was, half or whole. The calls here are those that it makes; they are not
    public.
    """

    def __init__(self, client: Any, uri: str) -> None:
        from azure.ai.ml._artifacts._artifact_utilities import get_datastore_info
        from azure.ai.ml._utils._storage_utils import AzureMLDatastorePathUri, get_storage_client

        parsed = AzureMLDatastorePathUri(uri)
        self._path = parsed.path.strip("/")
        self._client: Any = get_storage_client(**get_datastore_info(client.datastores, parsed.datastore))

    def bring(self, name: str, folder: Path, limit: int) -> bool:
        """Write a file into a folder; False if there is none. Raises MessageError for more bytes than the limit."""
        from azure.core.exceptions import ResourceNotFoundError

        try:
            stream = self._open(f"{self._path}/{name}")
        except ResourceNotFoundError:
            return False
        if stream.size > limit:
            raise MessageError(f"{name} has {stream.size:,} bytes, larger than the {limit:,} expected")
        with (folder / name).open("xb") as file:
            stream.readinto(file)
        return True

    def _open(self, path: str) -> Any:
        """A stream of a file's bytes: of a blob, or of a file of Data Lake Gen2."""
        if (container := getattr(self._client, "container_client", None)) is not None:
            return container.download_blob(path)
        return self._client.file_system_client.get_file_client(path).download_file()
