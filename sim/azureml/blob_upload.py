"""What a client of the blob service sends: bodies, blobs' properties, lists of blocks; and what is not taken."""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from starlette.requests import Request

from sim.azureml.blob_store import BlobStore, Properties
from sim.azureml.errors import WorkspaceError

METADATA = "x-ms-meta-"

CONTENT = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
)
"""Headers of a blob that a client sets as `x-ms-blob-…`, and gets back with the blob."""

UNSERVED = (
    "if-modified-since",
    "if-unmodified-since",
    "x-ms-content-crc64",
    "x-ms-copy-source",
    "x-ms-encryption-key",
    "x-ms-if-tags",
    "x-ms-lease-id",
    "x-ms-structured-body",
    "x-ms-tags",
)
"""Headers that change what a call means, and that would be ignored here: such a call is refused instead."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A body on disk, and the MD5 digest of it in base64."""

    path: Path
    md5: str


@asynccontextmanager
async def received(store: BlobStore, request: Request) -> AsyncIterator[Upload]:
    """The request's body as a file, which is removed at the end if nobody took it.

    Raises WorkspaceError (400) if it is not what the client's `Content-MD5` says.
    """
    path = store.upload()
    md5 = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
                md5.update(chunk)
        digest = base64.b64encode(md5.digest()).decode()
        if request.headers.get("content-md5", digest) != digest:
            message = f"the body's MD5 is {digest}, not what Content-MD5 says"
            raise WorkspaceError(message, status=400, code="Md5Mismatch")
        yield Upload(path=path, md5=digest)
    finally:
        path.unlink(missing_ok=True)


def said(request: Request, md5: str = "") -> Properties:
    """The properties that a request gives to a blob; `md5` where it gives none itself."""
    content = {name: request.headers.get(f"x-ms-blob-{name}", "") for name in CONTENT}
    content["content-md5"] = content["content-md5"] or md5
    return Properties(
        content={name: value for name, value in content.items() if value},
        metadata={
            name.removeprefix(METADATA): value for name, value in request.headers.items() if name.startswith(METADATA)
        },
    )


def check_supported(request: Request) -> None:
    """Raise WorkspaceError (400) for what this service would otherwise silently do in another way."""
    for header in UNSERVED:
        if header in request.headers:
            message = f"the local workspace does not serve blob calls with the header {header}"
            raise WorkspaceError(message, status=400, code="UnsupportedHeader")
    kind = request.headers.get("x-ms-blob-type", "BlockBlob")
    if kind != "BlockBlob":
        message = f"the local workspace keeps block blobs only, no {kind}"
        raise WorkspaceError(message, status=400, code="UnsupportedHeader")
    for parameter in ("snapshot", "versionid"):
        if parameter in request.query_params:
            message = f"the local workspace keeps one version of a blob: it does not serve {parameter}"
            raise WorkspaceError(message, status=400, code="UnsupportedQueryParameter")


def block_ids(body: bytes) -> list[str]:
    """The blocks that a block list names; raises WorkspaceError (400) if it is not one of staged blocks."""
    if b"<!DOCTYPE" in body:
        raise WorkspaceError("a block list has no document type", status=400, code="InvalidXmlDocument")
    try:
        blocks = list(ElementTree.fromstring(body))
    except ElementTree.ParseError as error:
        raise WorkspaceError(f"the block list is no XML: {error}", status=400, code="InvalidXmlDocument") from error
    if any(block.tag not in ("Latest", "Uncommitted") for block in blocks):
        message = "the local workspace makes blobs of blocks just uploaded, not of a blob's former blocks"
        raise WorkspaceError(message, status=400, code="InvalidBlockList")
    return [block.text or "" for block in blocks]
