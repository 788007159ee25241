"""Ed25519: RFC 8032's own vectors, keys in files, and everything that is no key or no signature."""

import base64
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fl_kit.errors import ApprovalError
from fl_kit.signing import is_signed, key_bytes, make_key, public_word, read_key, sign

# RFC 8032, section 7.1, test 2
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
WORD = f"ed25519:{base64.b64encode(PUBLIC).decode()}"


def test_the_vector_of_the_rfc() -> None:
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    assert public_word(key.public_key()) == WORD
    assert base64.b64decode(sign(key, b"\x72")) == SIGNATURE
    signature = base64.b64encode(SIGNATURE).decode()
    assert is_signed(b"\x72", signature, WORD)
    assert not is_signed(b"\x73", signature, WORD)
    assert not is_signed(b"\x72", signature, public_word(Ed25519PrivateKey.generate().public_key()))


@pytest.mark.parametrize("signature", ["", "AAAA", "ä", "*" * 88, base64.b64encode(SIGNATURE).decode() + "\n"])
def test_what_is_no_signature_signs_nothing(signature: str) -> None:
    assert not is_signed(b"\x72", signature, WORD)


@pytest.mark.parametrize(
    "word", ["", "ed25519:", "ed25519:AAAA", WORD.removeprefix("ed25519:"), WORD + "A", "rsa:AAAA"]
)
def test_what_is_no_public_key_is_refused(word: str) -> None:
    with pytest.raises(ApprovalError, match="is no public key"):
        key_bytes(word)


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_a_key_that_was_made_can_be_read_by_its_owner_only(tmp_path: Path, passphrase: str) -> None:
    file = tmp_path / "key.pem"
    public = make_key(file, passphrase=passphrase)
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in file.read_bytes()) == bool(passphrase)
    key = read_key(file, passphrase=passphrase)
    assert is_signed(b"text", sign(key, b"text"), public)
    with pytest.raises(ApprovalError, match="exists already"):
        make_key(file)


def test_a_passphrase_is_needed_only_where_there_is_one_and_never_shown(tmp_path: Path) -> None:
    make_key(tmp_path / "locked.pem", passphrase="correct horse")
    make_key(tmp_path / "open.pem")
    with pytest.raises(ApprovalError, match="is encrypted: give its passphrase"):
        read_key(tmp_path / "locked.pem")
    with pytest.raises(ApprovalError, match="another one, or it is damaged") as raised:
        read_key(tmp_path / "locked.pem", passphrase="wrong battery")
    assert "battery" not in str(raised.value)
    read_key(tmp_path / "open.pem", passphrase="not needed")


def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    with pytest.raises(ApprovalError, match=r"key\.pem cannot be read: No such file"):
        read_key(file)
    file.write_text("my secret notes")
    with pytest.raises(ApprovalError, match="is no private key in PEM") as raised:
        read_key(file)
    assert "secret" not in str(raised.value)
    other = generate_private_key(SECP256R1())
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(other.private_bytes(serialization.Encoding.PEM, form, none))
    with pytest.raises(ApprovalError, match="is no Ed25519 key"):
        read_key(file)
