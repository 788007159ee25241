"""The workspace's certificates, as strict clients see them."""

import datetime
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import certifi
import pytest

from sim.azureml import tls
from sim.azureml.tls import TLSFiles, tls_files


def shake_hands(files: TLSFiles, trusted: Path, host: str) -> str:
    """Version of the protocol that a strict client and a server with these files agree on."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    client = ssl.create_default_context(cafile=str(trusted))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ours, theirs = socket.socketpair()

    def serve() -> None:
        # A client that hangs up is an error here too; the client's own is what a test looks at.
        with theirs, suppress(ssl.SSLError, ConnectionError):
            server.wrap_socket(theirs, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, client.wrap_socket(ours, server_hostname=host) as wrapped:
            return str(wrapped.version())
    finally:
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_strict_client_trusts_the_server_on_loopback(tmp_path: Path, host: str) -> None:
    files = tls_files(tmp_path)
    assert shake_hands(files, files.bundle, host).startswith("TLSv1.")


def test_no_other_name_is_trusted(tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for|doesn't match"):
        shake_hands(files, files.bundle, "management.azure.com")


def test_another_workspaces_authority_does_not_do(tmp_path: Path) -> None:
    mine, other = tls_files(tmp_path / "mine"), tls_files(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(mine, other.bundle, "127.0.0.1")


def test_only_the_owner_reads_the_key_and_nobody_keeps_the_authoritys(tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    assert files.key.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "authority.pem",
        "bundle.pem",
        "server.key",
        "server.pem",
    ]


def test_the_next_start_has_the_same_certificate(tmp_path: Path) -> None:
    before = tls_files(tmp_path).certificate.read_bytes()
    assert tls_files(tmp_path).certificate.read_bytes() == before


def test_a_certificate_that_soon_expires_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tls_files(tmp_path).certificate.read_bytes()
    monkeypatch.setattr(tls, "RENEW", datetime.timedelta(days=365 * tls.YEARS))
    files = tls_files(tmp_path)
    assert files.certificate.read_bytes() != before
    assert shake_hands(files, files.bundle, "127.0.0.1").startswith("TLSv1.")


def test_the_bundle_adds_to_what_was_trusted_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    public = Path(certifi.where()).read_text(encoding="utf-8")
    outer = tls_files(tmp_path / "outer")
    assert outer.bundle.read_text(encoding="utf-8") == outer.authority.read_text() + public

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(outer.bundle))
    inner = tls_files(tmp_path / "inner")
    assert inner.bundle.read_text(encoding="utf-8") == inner.authority.read_text() + outer.bundle.read_text("utf-8")


def test_a_bundle_is_not_put_into_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    files = tls_files(tmp_path)
    size = files.bundle.stat().st_size
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(files.bundle))
    assert tls_files(tmp_path).bundle.stat().st_size == size
