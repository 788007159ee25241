"""The blob service through the stock `azure.storage.blob` client, over TLS on loopback."""

import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from ssl import create_default_context
from urllib.error import HTTPError

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, ContainerClient, ContentSettings
from hypothesis import given
from hypothesis import strategies as st

from sim.azureml import blobs
from sim.azureml.blob_store import BlobStore, Place, Properties
from sim.azureml.errors import WorkspaceError
from sim.azureml.state import WorkspaceState
from sim.azureml.tokens import STEP_AUDIENCE, bearer, sas
from tests.sim.azureml.served import new_workspace, served

STORE = "north_store"


class Service:
    """A workspace that serves blobs only, and clients of it."""

    def __init__(self, state: WorkspaceState, bundle: Path) -> None:
        self.state = state
        self.bundle = bundle

    def container(self, address: str = STORE, signature: str | None = None, **options: int) -> ContainerClient:
        if signature is None:
            signature = sas(self.state, address.split("/")[0])
        url = f"{self.state.settings.container_url(address)}?{signature}"
        return ContainerClient.from_container_url(url, connection_verify=str(self.bundle), **options)

    def call(self, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        """A bare call of the reader's own, signed for STORE: what no well-behaved client would send."""
        url = f"{self.state.settings.url}/blob/flstore.blob.localhost/{path}"
        separator = "&" if "?" in url else "?"
        request = urllib.request.Request(f"{url}{separator}{sas(self.state, STORE)}", headers=headers)
        try:
            with urllib.request.urlopen(request, context=create_default_context(cafile=self.bundle), timeout=30) as got:
                return got.status, got.read(), dict(got.headers)
        except HTTPError as error:
            with error:
                return error.code, error.read(), dict(error.headers)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    state = new_workspace(tmp_path_factory.mktemp("workspace"), STORE, "south_store")
    with served(state, blobs) as tls:
        yield Service(state, tls.bundle)


@pytest.fixture
def container(service: Service) -> Iterator[ContainerClient]:
    """A container of one test's own: a folder of the datastore."""
    folder = f"{STORE}/{time.time_ns()}"
    with service.container(folder) as client:
        yield client


def test_a_blob_is_the_plain_file_of_its_name(service: Service) -> None:
    with service.container() as client:
        client.upload_blob("rounds/3/update.bin", b"weights")
        assert (service.state.storage(STORE) / "rounds" / "3" / "update.bin").read_bytes() == b"weights"
        (service.state.storage(STORE) / "rounds" / "3" / "said.json").write_bytes(b"{}")
        assert client.download_blob("rounds/3/said.json").readall() == b"{}"


@pytest.mark.parametrize("size", [0, 1, 65_537, 3_000_000])
def test_what_was_uploaded_comes_back(container: ContainerClient, size: int) -> None:
    raw = os.urandom(size)
    container.upload_blob("blob", raw)
    assert container.download_blob("blob").readall() == raw
    assert container.get_blob_client("blob").get_blob_properties().size == size


def test_large_blobs_go_in_blocks_and_come_in_ranges(service: Service) -> None:
    raw = os.urandom(1_000_003)
    sizes = {
        "max_single_put_size": 100_000,
        "max_block_size": 90_000,
        "max_single_get_size": 70_000,
        "max_chunk_get_size": 50_001,
    }
    with service.container(f"{STORE}/large", **sizes) as client:
        client.upload_blob("model.bin", raw, max_concurrency=4, metadata={"round": "3"})
        assert client.download_blob("model.bin", max_concurrency=4).readall() == raw
        assert client.get_blob_client("model.bin").get_blob_properties().metadata == {"round": "3"}
    uploads = service.state.root / "blobs" / "uploads"
    assert list(uploads.iterdir()) == []


def test_a_range_is_the_bytes_asked_for(container: ContainerClient) -> None:
    container.upload_blob("digits", b"0123456789")
    assert container.download_blob("digits", offset=3, length=4).readall() == b"3456"
    assert container.download_blob("digits", offset=8, length=100).readall() == b"89"
    with pytest.raises(HttpResponseError) as refused:
        container.download_blob("digits", offset=10, length=1)
    assert refused.value.status_code == 416
    assert refused.value.error_code == "InvalidRange"


def test_metadata_and_content_settings_are_kept_and_replaced(container: ContainerClient) -> None:
    kind = ContentSettings(content_type="text/csv", cache_control="no-cache")
    blob = container.upload_blob("table.csv", b"a,b", metadata={"name": "heart", "version": "7"}, content_settings=kind)
    kept = blob.get_blob_properties()
    assert kept.metadata == {"name": "heart", "version": "7"}
    assert (kept.content_settings.content_type, kept.content_settings.cache_control) == ("text/csv", "no-cache")
    # RFC 1321's digest of these three bytes, from `printf 'a,b' | md5sum`.
    assert bytes(kept.content_settings.content_md5 or b"").hex() == "b345e1dc09f20fdefdea469f09167892"
    blob.set_blob_metadata({"version": "8"})
    changed = blob.get_blob_properties()
    assert changed.metadata == {"version": "8"}
    assert changed.content_settings.content_type == "text/csv"
    assert changed.etag != kept.etag


def test_metadata_does_not_outlive_the_bytes_it_was_written_for(service: Service) -> None:
    with service.container() as client:
        blob = client.upload_blob("stale/blob", b"uploaded", metadata={"confirmed": "yes"})
        (service.state.storage(STORE) / "stale" / "blob").write_bytes(b"a step wrote something else")
        assert blob.get_blob_properties().metadata == {}


def test_listing_is_in_order_and_has_metadata_when_asked(container: ContainerClient) -> None:
    for name in ("b/2", "a-b/1", "a/1", "a.txt", "b/1/x"):
        container.upload_blob(name, name.encode(), metadata={"said": name.replace("/", "-")})
    # By code point: "-" (2d), "." (2e), "/" (2f).
    assert list(container.list_blob_names()) == ["a-b/1", "a.txt", "a/1", "b/1/x", "b/2"]
    assert list(container.list_blob_names(name_starts_with="b/")) == ["b/1/x", "b/2"]
    assert list(container.list_blob_names(name_starts_with="a")) == ["a-b/1", "a.txt", "a/1"]
    assert list(container.list_blob_names(name_starts_with="nothing/here")) == []
    listed = list(container.list_blobs(include=["metadata"]))
    assert (listed[0].size, listed[0].metadata) == (5, {"said": "a-b-1"})
    # The client puts the folders of a page first.
    assert [blob.name for blob in container.walk_blobs()] == ["a-b/", "a/", "b/", "a.txt"]
    assert [blob.name for blob in container.walk_blobs(name_starts_with="b/")] == ["b/1/", "b/2"]


def test_listing_in_pages_leaves_nothing_out(container: ContainerClient) -> None:
    names = [f"{number:02d}" for number in range(11)]
    for name in names:
        container.upload_blob(name, b"")
    pages = [[blob.name for blob in page] for page in container.list_blobs(results_per_page=4).by_page()]
    assert pages == [names[:4], names[4:8], names[8:]]


def test_names_may_hold_what_addresses_and_xml_must_escape(container: ContainerClient) -> None:
    names = ["a b.txt", "ä/ö.txt", "50%/x&y<z>.bin", "q?#.txt", "tab\there", "bell\x07"]
    for name in names:
        container.upload_blob(name, name.encode())
    assert sorted(blob.name for blob in container.list_blobs()) == sorted(names)
    assert [container.download_blob(name).readall().decode() for name in names] == names


def test_a_blob_is_not_replaced_unless_the_client_says_so(container: ContainerClient) -> None:
    container.upload_blob("blob", b"first")
    with pytest.raises(ResourceExistsError):
        container.upload_blob("blob", b"second")
    assert container.download_blob("blob").readall() == b"first"
    container.upload_blob("blob", b"third", overwrite=True)
    assert container.download_blob("blob").readall() == b"third"


def test_of_many_that_create_a_blob_one_succeeds(service: Service) -> None:
    outcomes: list[str] = []

    def create(text: str) -> None:
        with service.container(f"{STORE}/race") as client:
            try:
                client.upload_blob("blob", text.encode())
                outcomes.append(text)
            except ResourceExistsError:
                outcomes.append("refused")

    threads = [threading.Thread(target=create, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(outcomes) - {"refused"}
    assert outcomes.count("refused") == 7
    assert (service.state.storage(STORE) / "race" / "blob").read_text() == winner


def test_a_change_of_an_outdated_version_is_refused(container: ContainerClient) -> None:
    blob = container.upload_blob("blob", b"first")
    etag = blob.get_blob_properties().etag
    blob.upload_blob(b"other", overwrite=True)
    with pytest.raises(ResourceModifiedError):
        blob.upload_blob(b"mine", overwrite=True, etag=etag, match_condition=MatchConditions.IfNotModified)
    with pytest.raises(ResourceModifiedError):
        blob.delete_blob(etag=etag, match_condition=MatchConditions.IfNotModified)
    assert blob.download_blob().readall() == b"other"


def test_deleted_is_gone(container: ContainerClient) -> None:
    blob = container.upload_blob("blob", b"x")
    assert blob.exists()
    blob.delete_blob()
    assert not blob.exists()
    assert list(container.list_blob_names()) == []
    for missing in (blob.delete_blob, blob.download_blob, blob.get_blob_properties):
        with pytest.raises(ResourceNotFoundError) as refused:
            missing()
        assert refused.value.error_code == "BlobNotFound"


def test_a_body_that_was_damaged_on_the_way_is_refused(service: Service, container: ContainerClient) -> None:
    wrong = {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}  # the digest of no bytes
    with pytest.raises(HttpResponseError) as refused:
        container.upload_blob("blob", b"damaged", headers=wrong)
    assert refused.value.error_code == "Md5Mismatch"
    assert list(container.list_blob_names()) == []
    container.upload_blob("blob", b"whole", validate_content=True)
    assert container.download_blob("blob", validate_content=True).readall() == b"whole"


def test_a_range_comes_with_the_digest_of_its_own_bytes(service: Service) -> None:
    with service.container() as client:
        client.upload_blob("digest", b"0123456789", overwrite=True)
    headers = {"x-ms-range": "bytes=2-4", "x-ms-range-get-content-md5": "true"}
    status, body, got = service.call(f"{STORE}/digest", **headers)
    assert (status, body, got["content-range"]) == (206, b"234", "bytes 2-4/10")
    # From `printf 234 | md5sum | xxd -r -p | base64`, and of 0123456789 likewise.
    assert got["content-md5"] == "KJ3/B2adeiPeDviNL3Ep5w=="
    assert got["x-ms-blob-content-md5"] == "eB5eJF1ptWaXm4bijSPyxw=="


def test_an_upload_that_breaks_off_leaves_nothing(service: Service) -> None:
    address = ("127.0.0.1", service.state.settings.port)
    trust = create_default_context(cafile=service.bundle)
    with socket.create_connection(address) as plain, trust.wrap_socket(plain, server_hostname="127.0.0.1") as line:
        path = f"/blob/flstore.blob.localhost/{STORE}/broken?{sas(service.state, STORE)}"
        line.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 100_000)
        uploads = service.state.root / "blobs" / "uploads"
        until = time.monotonic() + 10
        while not any(uploads.iterdir()):
            assert time.monotonic() < until, "the upload did not begin"
            time.sleep(0.01)
    while any(uploads.iterdir()):
        assert time.monotonic() < until, "what had arrived is still there"
        time.sleep(0.01)
    assert not (service.state.storage(STORE) / "broken").exists()


def test_blocks_become_a_blob_in_the_order_of_the_list_only(container: ContainerClient) -> None:
    blob = container.get_blob_client("blob")
    for block in ("a", "b", "unused"):
        blob.stage_block(block, block.encode())
    assert not blob.exists()
    with pytest.raises(HttpResponseError) as refused:
        blob.commit_block_list([BlobBlock("a"), BlobBlock("never staged")])
    assert refused.value.error_code == "InvalidBlockList"
    assert not blob.exists()
    blob.commit_block_list([BlobBlock("b"), BlobBlock("a"), BlobBlock("b")])
    assert blob.download_blob().readall() == b"bab"
    with pytest.raises(HttpResponseError):
        blob.commit_block_list([BlobBlock("a")])


def test_a_blob_is_no_folder_too(container: ContainerClient) -> None:
    container.upload_blob("a/b", b"x")
    for name in ("a", "a/b/c"):
        with pytest.raises(ResourceExistsError) as refused:
            container.upload_blob(name, b"y", overwrite=True)
        assert refused.value.error_code == "ResourceTypeMismatch"
    assert list(container.list_blob_names()) == ["a/b"]


def test_a_signature_opens_one_datastore_with_its_permissions(service: Service) -> None:
    with service.container() as owner:
        owner.upload_blob("guarded", b"secret")
    reader = sas(service.state, STORE, permissions="r")
    with service.container(signature=reader) as client:
        assert client.download_blob("guarded").readall() == b"secret"
        for forbidden in (
            lambda: client.upload_blob("guarded", b"x", overwrite=True),
            lambda: client.delete_blob("guarded"),
            lambda: client.get_blob_client("guarded").set_blob_metadata({"x": "y"}),
            lambda: list(client.list_blobs()),
        ):
            with pytest.raises(HttpResponseError) as refused:
                forbidden()
            assert refused.value.status_code == 403
    other = sas(service.state, "south_store")
    expired = sas(service.state, STORE, minutes=-1)
    forged = f"{sas(service.state, STORE)[:-8]}AAAAAAA%3D"
    for signature in (other, expired, forged):
        with service.container(signature=signature) as client, pytest.raises(ClientAuthenticationError):
            client.download_blob("guarded")
    assert (service.state.storage(STORE) / "guarded").read_bytes() == b"secret"


def test_a_call_without_a_signature_needs_a_token_of_the_workspace(service: Service) -> None:
    with service.container() as owner:
        owner.upload_blob("held", b"mine")
    url = f"{service.state.settings.container_url(STORE)}/held"
    trust = create_default_context(cafile=service.bundle)

    def read(**headers: str) -> bytes:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, context=trust, timeout=30) as got:
            return got.read()

    assert read(Authorization=f"Bearer {bearer(service.state, 'https://storage.azure.com')}") == b"mine"
    step = {"Authorization": f"Bearer {bearer(service.state, STEP_AUDIENCE)}"}
    for headers, status in (({}, 403), ({"Authorization": "Bearer made.up.token"}, 401), (step, 403)):
        with pytest.raises(HTTPError) as refused:
            read(**headers)
        with refused.value:
            assert refused.value.code == status


def test_an_unknown_datastore_has_no_blobs(service: Service) -> None:
    with service.container("nowhere") as client, pytest.raises(ResourceNotFoundError, match="nowhere"):
        client.upload_blob("blob", b"x")


@pytest.mark.parametrize(
    "path",
    [
        "../settings.json",
        "../../settings.json",
        "a/../../south_store/held",
        "..%2f..%2fsettings.json",
        "%2e%2e/%2e%2e/settings.json",
        "./guarded",
        "a//b",
        "a/%00/b",
        "..%5c..%5csettings.json",
    ],
)
def test_no_name_leads_out_of_a_datastore(service: Service, path: str) -> None:
    (service.state.storage("south_store") / "held").write_bytes(b"of the other silo")
    status, body, _ = service.call(f"{STORE}/{path}")
    assert status in (400, 403, 404)
    assert b"of the other silo" not in body
    assert b"signing_key" not in body


def test_a_link_that_leads_out_is_not_followed(service: Service) -> None:
    elsewhere = service.state.storage("south_store") / "private"
    elsewhere.mkdir()
    (elsewhere / "rows.csv").write_bytes(b"patients")
    own = service.state.storage(STORE) / "links"
    own.mkdir()
    (own / "file").symlink_to(elsewhere / "rows.csv")
    (own / "folder").symlink_to(elsewhere)
    (own / "loop").symlink_to(own / "loop")
    (own / "true").write_bytes(b"own")
    (own / "within").symlink_to(own / "true")
    with service.container() as client:
        assert list(client.list_blob_names(name_starts_with="links")) == ["links/true", "links/within"]
        assert list(client.list_blob_names(name_starts_with="links/folder/")) == []
        assert client.download_blob("links/within").readall() == b"own"
        for name in ("links/file", "links/folder/rows.csv"):
            with pytest.raises(HttpResponseError) as refused:
                client.download_blob(name)
            assert refused.value.status_code == 403
            with pytest.raises(HttpResponseError):
                client.upload_blob(name, b"overwritten", overwrite=True)
    assert (elsewhere / "rows.csv").read_bytes() == b"patients"


def test_whatever_the_name_the_file_is_below_the_datastore(service: Service) -> None:
    store, base = BlobStore(service.state), service.state.storage(STORE).resolve()
    parts = st.lists(st.sampled_from(["..", ".", "", "a", "\\", "\0", "C:"]), max_size=6).map("/".join)

    @given(st.text(max_size=60) | parts)
    def holds(name: str) -> None:
        try:
            path = store.path(Place(datastore=STORE, name=name))
        except WorkspaceError:
            return
        assert path.resolve().is_relative_to(base)
        assert path.resolve() != base

    holds()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"{STORE}/held?comp=tags", {}),
        (f"{STORE}/held?comp=lease", {}),
        (f"{STORE}/held?snapshot=2026-01-01", {}),
        (f"{STORE}/held", {"If-Modified-Since": "Tue, 24 Nov 2026 08:00:00 GMT"}),
        (f"{STORE}/held", {"x-ms-lease-id": "x"}),
    ],
)
def test_what_is_not_served_is_refused_by_name(service: Service, path: str, headers: dict[str, str]) -> None:
    status, body, got = service.call(path, **headers)
    assert status == 400
    assert b"the local workspace" in body
    assert got["x-ms-error-code"].startswith("Unsupported")


def test_a_page_blob_is_refused(container: ContainerClient) -> None:
    with pytest.raises(HttpResponseError, match="block blobs only"):
        container.upload_blob("blob", b"x" * 512, blob_type="PageBlob", length=512)


def test_containers_are_there_already(service: Service) -> None:
    with service.container() as client:
        assert client.exists()
        with pytest.raises(ResourceExistsError):
            client.create_container()
    with service.container("nowhere") as client:
        assert not client.exists()


def test_a_download_is_of_one_version_or_fails(service: Service) -> None:
    sizes = {"max_single_get_size": 10, "max_chunk_get_size": 10}
    with service.container(f"{STORE}/changing", **sizes) as client:
        blob = client.upload_blob("blob", b"1" * 30)
        stream = blob.download_blob()
        blob.upload_blob(b"2" * 30, overwrite=True)
        with pytest.raises(ResourceModifiedError):
            stream.readall()


def test_a_service_that_begins_sweeps_away_halves_of_uploads(tmp_path: Path) -> None:
    state = new_workspace(tmp_path, STORE)
    store, place = BlobStore(state), Place(datastore=STORE, name="a")
    (block := store.upload()).write_bytes(b"staged")
    store.stage(place, "YQ==", block)
    store.upload().write_bytes(b"half a bo")
    blobs.routes(state)
    assert store.commit_blocks(place, ["YQ=="], Properties()).size == 6
    assert list((state.root / "blobs" / "uploads").iterdir()) == []


def test_blobs_and_their_metadata_are_there_after_a_restart(tmp_path: Path) -> None:
    store = BlobStore(new_workspace(tmp_path, STORE))
    upload = store.upload()
    upload.write_bytes(b"kept")
    place = Place(datastore=STORE, name="a/b")
    before = store.commit(place, upload, Properties(metadata={"version": "1"}))
    assert BlobStore(WorkspaceState.open(tmp_path)).get(place) == before
