"""The pages of XML that the blob service answers: blobs of a container, and errors."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from itertools import islice
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, tostring

from sim.azureml.blob_store import Blob, BlobStore, Place
from sim.azureml.errors import WorkspaceError

PAGE = 5000
"""Entries of a page at most, as on Azure."""

UNFIT = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""A character that XML cannot hold, or that its readers change."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A blob, or with a delimiter all blobs that share a name up to it."""

    name: str
    is_prefix: bool = False


def listing_page(store: BlobStore, container: Place, query: Mapping[str, str]) -> bytes:
    """One page of a container's blobs in order of their names: `prefix`, `delimiter`, `marker`, `maxresults`."""
    root = f"{container.name.rstrip('/')}/" if container.name else ""
    prefix, delimiter, marker = (query.get(name, "") for name in ("prefix", "delimiter", "marker"))
    names = (name.removeprefix(root) for name in store.list(container.datastore, root + prefix))
    entries = (entry for entry in folded(names, prefix, delimiter) if entry.name >= marker)
    size = page_size(query.get("maxresults", ""))
    page = list(islice(entries, size))
    following = next(entries, None)

    answer = Element("EnumerationResults", ContainerName=container.datastore)
    for asked in ("Prefix", "Marker", "MaxResults", "Delimiter"):  # the client takes its next call's from here
        if value := query.get(asked.lower(), ""):
            SubElement(answer, asked).text = value
    blobs = SubElement(answer, "Blobs")
    for entry in page:
        if entry.is_prefix:
            add_name(SubElement(blobs, "BlobPrefix"), entry.name)
        elif blob := store.find(Place(datastore=container.datastore, name=root + entry.name)):
            add_blob(blobs, entry.name, blob, with_metadata="metadata" in query.get("include", ""))
    SubElement(answer, "NextMarker").text = following.name if following else ""
    return page_of(answer)


def folded(names: Iterator[str], prefix: str, delimiter: str) -> Iterator[Entry]:
    """Names in order, those that go on beyond a delimiter behind the prefix as one entry."""
    last = ""
    for name in names:
        beyond = name.find(delimiter, len(prefix)) if delimiter else -1
        if beyond < 0:
            yield Entry(name=name)
        elif (common := name[: beyond + len(delimiter)]) != last:
            last = common
            yield Entry(name=common, is_prefix=True)


def page_size(maxresults: str) -> int:
    if maxresults and not (maxresults.isdecimal() and int(maxresults) > 0):
        message = f"maxresults is {maxresults!r}, not a number from 1 to {PAGE}"
        raise WorkspaceError(message, status=400, code="OutOfRangeQueryParameterValue")
    return min(int(maxresults or PAGE), PAGE)


def add_blob(blobs: Element, name: str, blob: Blob, *, with_metadata: bool) -> None:
    entry = SubElement(blobs, "Blob")
    add_name(entry, name)
    properties = SubElement(entry, "Properties")
    values = {
        "Last-Modified": formatdate(blob.modified, usegmt=True),
        "Etag": blob.etag.strip('"'),
        "Content-Length": str(blob.size),
        "Content-Type": blob.properties.content.get("content-type", "application/octet-stream"),
        "Content-MD5": blob.properties.content.get("content-md5", ""),
        "BlobType": "BlockBlob",
        "LeaseStatus": "unlocked",
    }
    for key, value in values.items():
        SubElement(properties, key).text = value
    if with_metadata:
        metadata = SubElement(entry, "Metadata")
        for key, value in blob.properties.metadata.items():
            SubElement(metadata, key).text = value


def add_name(entry: Element, name: str) -> None:
    """A name; percent-encoded and marked so where XML cannot hold its characters."""
    element = SubElement(entry, "Name")
    if UNFIT.search(name):
        element.set("Encoded", "true")
        element.text = quote(name, errors="surrogateescape")
    else:
        element.text = name


def error_page(error: WorkspaceError) -> bytes:
    answer = Element("Error")
    SubElement(answer, "Code").text = error.code
    SubElement(answer, "Message").text = str(error)
    return page_of(answer)


def page_of(answer: Element) -> bytes:
    page: bytes = tostring(answer, encoding="utf-8", xml_declaration=True)
    return page
