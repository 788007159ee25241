"""Ed25519 keys and signatures, as the package `cryptography` makes them (RFC 8032).

A private key is a PEM file (PKCS 8), which only its owner can read. A public key is one word that fits into a policy:
`ed25519:` and its 32 bytes in base 64.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fl_kit.bounded import read_bytes
from fl_kit.errors import ApprovalError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX = "ed25519:"
KEY_BYTES, SIGNATURE_BYTES = 32, 64
LARGEST_KEY_FILE = 16 << 10


def make_key(path: str | Path, *, passphrase: str = "") -> str:
    """Write a new private key into a file that did not exist, readable by its owner only; gives the public key.

    passphrase  the file is encrypted with it; empty for none

    Raises ApprovalError if there is such a file, or it cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        protection = serialization.BestAvailableEncryption(passphrase.encode())
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
    except FileExistsError as error:
        raise ApprovalError(f"{path} exists already; a key is never overwritten: choose another name") from error
    except OSError as error:
        raise ApprovalError(f"the key cannot be written to {path}: {error.strerror}") from error
    return public_word(key.public_key())


def read_key(path: str | Path, *, passphrase: str = "") -> "Ed25519PrivateKey":
    """The private key in a PEM file; raises ApprovalError, which never shows any of it, for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        data = read_bytes(path, limit=LARGEST_KEY_FILE, links=True)
    except OSError as error:
        raise ApprovalError(f"the key {path} cannot be read: {error.strerror}") from error
    try:
        key = load_pem_private_key(data, passphrase.encode() if passphrase and is_encrypted(data) else None)
    except TypeError:
        raise ApprovalError(f"the key {path} is encrypted: give its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        why = "its passphrase is another one, or it is damaged" if is_encrypted(data) else "it is no private key in PEM"
        raise ApprovalError(f"the key {path} cannot be used: {why}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ApprovalError(f"the key {path} is no Ed25519 key; make one with `fl-kit keygen`")
    return key


def is_encrypted(pem: bytes) -> bool:
    """Whether a PEM file asks for a passphrase."""
    return b"ENCRYPTED" in pem


def public_word(key: "Ed25519PublicKey") -> str:
    """A public key as it stands in a policy: `ed25519:…`."""
    return PREFIX + base64.b64encode(key.public_bytes_raw()).decode("ascii")


def key_bytes(word: str) -> bytes:
    """The 32 bytes of a public key that `public_word` wrote; raises ApprovalError for anything else."""
    found = decoded(word.removeprefix(PREFIX), KEY_BYTES) if word.startswith(PREFIX) else None
    if found is None:
        raise ApprovalError(f"{word[:60]!r} is no public key: expected {PREFIX}… as `fl-kit keygen` prints it")
    return found


def sign(key: "Ed25519PrivateKey", statement: bytes) -> str:
    """The signature of a statement, in base 64."""
    return base64.b64encode(key.sign(statement)).decode("ascii")


def is_signed(statement: bytes, signature: str, public: str) -> bool:
    """Whether a signature of that statement was made with the private half of a public key.

    Raises ApprovalError if the package `cryptography` is not there to tell.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise ApprovalError("signatures cannot be verified here: install the package cryptography") from error
    found = decoded(signature, SIGNATURE_BYTES)
    if found is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key_bytes(public)).verify(found, statement)
    except InvalidSignature:
        return False
    return True


def decoded(text: str, size: int) -> bytes | None:
    """So many bytes from base 64, or None for anything else."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == size else None
