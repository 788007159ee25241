"""The workspace's own certificate authority, and its server's certificate for 127.0.0.1."""

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fl_kit.files import write_text

YEARS = 2
RENEW = datetime.timedelta(days=30)
"""A certificate that expires within this time is made anew at the next start."""


@dataclass(frozen=True, kw_only=True)
class TLSFiles:
    """Files of one server.

    certificate  of the server, PEM
    key          of the server, PEM, readable by its owner only
    authority    that signed it, PEM
    bundle       what a client must trust: this authority and all that it trusted before
    """

    certificate: Path
    key: Path
    authority: Path
    bundle: Path


def tls_files(folder: Path) -> TLSFiles:
    """The files of the server whose folder this is, made at first and when they are about to expire.

    The bundle is written at each start, because REQUESTS_CA_BUNDLE replaces what a client trusts and does not add to
    it: this authority, in front of the file that the variable names now, or of certifi's public authorities.
    The authority's own key is not kept: nothing else can be signed with it later.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = TLSFiles(
        certificate=folder / "server.pem",
        key=folder / "server.key",
        authority=folder / "authority.pem",
        bundle=folder / "bundle.pem",
    )
    if not still_good(files):
        make(files)
    write_text(files.bundle, files.authority.read_text(encoding="ascii") + trusted_before(files.bundle))
    return files


def still_good(files: TLSFiles) -> bool:
    """Whether the files are there and the certificate lives long enough."""
    if not (files.certificate.exists() and files.key.exists() and files.authority.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return certificate.not_valid_after_utc - now() > RENEW


def trusted_before(bundle: Path) -> str:
    """The certificates that clients of this process trust, as text."""
    named = os.environ.get("REQUESTS_CA_BUNDLE", "")
    usable = named and Path(named).is_file() and Path(named).resolve() != bundle.resolve()
    return Path(named if usable else certifi.where()).read_text(encoding="utf-8")


def make(files: TLSFiles) -> None:
    """Write a new authority and a server certificate that it signed."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = called("fl-kit local workspace authority")
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    root = (
        begun(issuer, issuer, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, SHA256())
    )
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    server = (
        begun(called("127.0.0.1"), issuer, server_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(server_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, SHA256())
    )
    files.key.touch(mode=0o600)
    files.key.chmod(0o600)
    files.key.write_bytes(server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_text(files.certificate, server.public_bytes(Encoding.PEM).decode("ascii"))
    write_text(files.authority, root.public_bytes(Encoding.PEM).decode("ascii"))


def begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    """A certificate without extensions or signature yet."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - datetime.timedelta(days=1))
        .not_valid_after(now() + datetime.timedelta(days=365 * YEARS))
    )


def usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    """What a key may be used for: nothing else than this."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def called(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
