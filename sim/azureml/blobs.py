"""Azure Blob Storage's interface, as far as its Python client uploads, reads, lists and deletes block blobs with it.

Addresses are `<workspace>/blob/<account>/<container>/<blob>`: path style, so that no host name must be resolved. A
container is a datastore (Settings.container_url). It may also be a folder in one, `<datastore>/<folder>`: the SDK
uploads code to the root of the container that a signed address names, so every snapshot needs a folder of its own.

Who holds a shared access signature of the datastore may call, and so may who holds a bearer token of the workspace.
"""

import base64
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from email.utils import formatdate
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sim.azureml.blob_listing import error_page, listing_page
from sim.azureml.blob_store import Blob, BlobStore, Place
from sim.azureml.blob_upload import block_ids, check_supported, received, said
from sim.azureml.errors import WorkspaceError
from sim.azureml.state import WorkspaceState
from sim.azureml.tokens import STORAGE_VERSION, check_bearer, check_sas

CHUNK = 1 << 20
"""Bytes that are read at once."""

Answer = Callable[[BlobStore, Request, Place], Awaitable[Response]]


def routes(state: WorkspaceState) -> list[Route]:
    store = BlobStore(state)
    store.sweep()
    endpoint = partial(serve, state, store)
    methods = ["GET", "HEAD", "PUT", "DELETE"]
    return [
        Route("/blob/{account}/{container}", endpoint, methods=methods),
        Route("/blob/{account}/{container}/{name:path}", endpoint, methods=methods),
    ]


async def serve(state: WorkspaceState, store: BlobStore, request: Request) -> Response:
    """Check who calls, do what is asked, and put errors in the words of Azure Storage."""
    place = Place(datastore=request.path_params["container"], name=request.path_params.get("name", ""))
    try:
        check_supported(request)
        what = (request.method, request.query_params.get("restype", ""), request.query_params.get("comp", ""))
        if what not in ANSWERS:
            asked = " ".join(part for part in what if part)
            message = f"the local workspace does not serve the blob call {asked}"
            raise WorkspaceError(message, status=400, code="UnsupportedHttpVerb")
        permissions, answer = ANSWERS[what]
        check_caller(state, place.datastore, request, needs=permissions)
        response = await answer(store, request, place)
    except ClientDisconnect:
        return Response(status_code=400)  # which nobody reads
    except WorkspaceError as error:
        body = b"" if request.method == "HEAD" else error_page(error)
        response = Response(body, error.status, {"x-ms-error-code": error.code}, media_type="application/xml")
    response.headers["x-ms-version"] = STORAGE_VERSION
    return response


def check_caller(state: WorkspaceState, datastore: str, request: Request, *, needs: str) -> None:
    authorization = request.headers.get("authorization")
    if authorization and "sig" not in request.query_params:
        check_bearer(state, authorization)
    else:
        check_sas(state, datastore, request.query_params, needs=needs)
    state.storage(datastore)


async def head(store: BlobStore, request: Request, place: Place) -> Response:
    blob = store.get(place)
    if condition(request, blob):
        return Response(status_code=304, headers=described(blob))
    return Response(headers={**described(blob), "content-length": str(blob.size)})


async def read(store: BlobStore, request: Request, place: Place) -> Response:
    """The whole blob, or the range that the client asks for (206)."""
    blob = store.get(place)
    if condition(request, blob):
        return Response(status_code=304, headers=described(blob))
    wanted = request.headers.get("x-ms-range") or request.headers.get("range")
    start, end = byte_range(wanted, blob) if wanted else (0, blob.size)
    headers = {**described(blob), "content-length": str(end - start)}
    if wanted:
        headers["content-range"] = f"bytes {start}-{end - 1}/{blob.size}"
        # The digest is the whole blob's; a client would hold the range against it.
        if whole := headers.pop("content-md5", ""):
            headers["x-ms-blob-content-md5"] = whole
        if request.headers.get("x-ms-range-get-content-md5") == "true":
            headers["content-md5"] = md5_of(content(blob, start, end))
    return StreamingResponse(content(blob, start, end), 206 if wanted else 200, headers)


def content(blob: Blob, start: int, end: int) -> Iterator[bytes]:
    """A blob's bytes, piece by piece."""
    with blob.path.open("rb") as source:
        source.seek(start)
        while start < end and (chunk := source.read(min(CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def md5_of(chunks: Iterable[bytes]) -> str:
    """The MD5 digest in base64."""
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    return base64.b64encode(digest.digest()).decode()


async def write(store: BlobStore, request: Request, place: Place) -> Response:
    """Put Blob: the body becomes the blob."""
    new = creation_only(request, store.find(place))
    async with received(store, request) as upload:
        properties = said(request, md5=upload.md5)
        return created(store.commit(place, upload.path, properties, new=new))


async def write_block(store: BlobStore, request: Request, place: Place) -> Response:
    async with received(store, request) as upload:
        store.stage(place, request.query_params.get("blockid", ""), upload.path)
    return Response(status_code=201)


async def write_blocks(store: BlobStore, request: Request, place: Place) -> Response:
    """Put Block List: the blocks that it names become the blob."""
    new = creation_only(request, store.find(place))
    blocks = block_ids(await request.body())
    return created(await run_in_threadpool(store.commit_blocks, place, blocks, said(request), new=new))


async def write_metadata(store: BlobStore, request: Request, place: Place) -> Response:
    check_change(request, store.get(place))
    return Response(headers=identity(store.set_metadata(place, said(request).metadata)))


async def remove(store: BlobStore, request: Request, place: Place) -> Response:
    check_change(request, store.get(place))
    store.delete(place)
    return Response(status_code=202)


async def describe_container(store: BlobStore, request: Request, place: Place) -> Response:
    return Response(headers={"etag": '"0x1"', "last-modified": formatdate(0, usegmt=True)})


async def listing(store: BlobStore, request: Request, place: Place) -> Response:
    page = await run_in_threadpool(listing_page, store, place, request.query_params)
    return Response(page, media_type="application/xml")


async def create_container(store: BlobStore, request: Request, place: Place) -> Response:
    message = f"container {place.datastore!r} exists already: it is a datastore of the workspace"
    raise WorkspaceError(message, status=409, code="ContainerAlreadyExists")


ANSWERS: dict[tuple[str, str, str], tuple[str, Answer]] = {
    ("HEAD", "", ""): ("r", head),
    ("GET", "", ""): ("r", read),
    ("PUT", "", ""): ("cw", write),
    ("PUT", "", "block"): ("cw", write_block),
    ("PUT", "", "blocklist"): ("cw", write_blocks),
    ("PUT", "", "metadata"): ("w", write_metadata),
    ("DELETE", "", ""): ("d", remove),
    ("HEAD", "container", ""): ("rl", describe_container),
    ("GET", "container", ""): ("rl", describe_container),
    ("PUT", "container", ""): ("cw", create_container),
    ("GET", "container", "list"): ("l", listing),
}
"""What is served: (method, restype, comp) → the permissions of which one is needed, and who answers."""


def condition(request: Request, blob: Blob) -> bool:
    """Whether a client that holds this version already (If-None-Match) asks for it again.

    Raises WorkspaceError (412) if it asks for another version (If-Match).
    """
    expected, held = request.headers.get("if-match"), request.headers.get("if-none-match")
    if expected not in (None, "*", blob.etag):
        message = f"blob {blob.name!r} has changed: its ETag is {blob.etag}, not {expected}"
        raise WorkspaceError(message, status=412, code="ConditionNotMet")
    return held == blob.etag


def check_change(request: Request, blob: Blob) -> None:
    """Raise WorkspaceError (412) if the client does not want this version to be changed."""
    if condition(request, blob):
        message = f"blob {blob.name!r} is of the ETag that If-None-Match excludes"
        raise WorkspaceError(message, status=412, code="ConditionNotMet")


def creation_only(request: Request, blob: Blob | None) -> bool:
    """Whether the client wants no blob to be replaced (If-None-Match: *); other conditions are checked (412)."""
    if blob is not None:
        check_change(request, blob)
    elif "if-match" in request.headers:
        raise WorkspaceError("there is no blob of that ETag", status=412, code="ConditionNotMet")
    return request.headers.get("if-none-match") == "*"


def byte_range(wanted: str, blob: Blob) -> tuple[int, int]:
    """First byte and end of `bytes=<first>-[<last>]`; raises WorkspaceError (416) if the blob has no such bytes."""
    unit, _, bounds = wanted.partition("=")
    first, dash, last = bounds.partition("-")
    if unit != "bytes" or not dash or not first.isdecimal() or not (last.isdecimal() or not last):
        raise WorkspaceError(f"the range {wanted!r} is not understood", status=400, code="InvalidHeaderValue")
    start, end = int(first), min(int(last) + 1 if last else blob.size, blob.size)
    if start >= end:
        message = f"blob {blob.name!r} has {blob.size} bytes; none is in {wanted!r}"
        raise WorkspaceError(message, status=416, code="InvalidRange")
    return start, end


def created(blob: Blob) -> Response:
    return Response(status_code=201, headers=identity(blob))


def identity(blob: Blob) -> dict[str, str]:
    return {"etag": blob.etag, "last-modified": formatdate(blob.modified, usegmt=True)}


def described(blob: Blob) -> dict[str, str]:
    """Headers with all that is known of a blob."""
    return {
        **identity(blob),
        "content-type": "application/octet-stream",
        **blob.properties.content,
        "accept-ranges": "bytes",
        "x-ms-blob-type": "BlockBlob",
        "x-ms-lease-status": "unlocked",
        **{f"x-ms-meta-{name}": value for name, value in blob.properties.metadata.items()},
    }
