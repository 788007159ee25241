"""What lets a caller in: bearer tokens for the interface, shared access signatures for blobs. Both are checked.

Any process on the machine can reach a loopback port, and a job is an arbitrary command; so nothing is served to a
caller who does not hold something that this workspace signed with its own key.
"""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from sim.azureml.errors import WorkspaceError
from sim.azureml.state import WorkspaceState

TENANT = "00000000-0000-0000-0000-00000000f1f1"
"""The tenant that tokens name; the SDK appends it to links."""

STEP_AUDIENCE = "step"
"""Whom a step's token is for: it opens the metrics interface only, or a step could fetch any silo's data with it."""

STORAGE_VERSION = "2023-11-03"
"""Version of the storage interface that a signature names; it changes nothing here."""


def bearer(state: WorkspaceState, audience: str, minutes: float = 60) -> str:
    """A JSON web token for an audience, signed by this workspace."""
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": f"{state.settings.url}/login/{TENANT}/",
        "tid": TENANT,
        "oid": TENANT,
        "sub": state.settings.name,
        "iat": now,
        "nbf": now,
        "exp": now + round(minutes * 60),
    }
    signed = f"{encode(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{encode(json.dumps(claims).encode())}"
    return f"{signed}.{encode(mac(state, 'token', signed))}"


def check_bearer(state: WorkspaceState, header: str | None, *, step: bool = False) -> None:
    """Let an `Authorization` header pass; raises WorkspaceError (401) that says what is wrong with it.

    step  whether a step's token will do; if not, it is refused (403)
    """
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise refused("the call carries no bearer token")
    signed, _, signature = token.strip().rpartition(".")
    if not hmac.compare_digest(decode(signature), mac(state, "token", signed)):
        raise refused("the bearer token was not issued by this workspace")
    claims = claims_of(signed)
    if claims["exp"] <= time.time():
        raise refused("the bearer token has expired", code="ExpiredAuthenticationToken")
    if claims["aud"] == STEP_AUDIENCE and not step:
        message = "a step's token opens the metrics interface and nothing else"
        raise WorkspaceError(message, status=403, code="AuthorizationFailed")


def sas(state: WorkspaceState, datastore: str, *, permissions: str = "racwdl", minutes: float = 60) -> str:
    """A shared access signature for one datastore, as a query string: `sv=…&sp=…&se=…&sig=…`.

    Permissions are Azure's letters: r read, a add, c create, w write, d delete, l list.
    """
    expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + minutes * 60))
    signature = base64.b64encode(mac(state, "sas", datastore, permissions, expiry)).decode()
    fields = {"sv": STORAGE_VERSION, "sr": "c", "sp": permissions, "se": expiry, "spr": "https", "sig": signature}
    return urlencode(fields)


def check_sas(state: WorkspaceState, datastore: str, query: Mapping[str, str], *, needs: str) -> None:
    """Let a call with such a query pass if it grants one of the permissions `needs`.

    Raises WorkspaceError (403) for a signature that is missing, of another datastore, changed, expired or too weak.
    """
    permissions, expiry, signature = (query.get(name, "") for name in ("sp", "se", "sig"))
    if not signature:
        raise WorkspaceError("the call carries no shared access signature", status=403, code="AuthenticationFailed")
    expected = base64.b64encode(mac(state, "sas", datastore, permissions, expiry))
    if not hmac.compare_digest(signature.encode(), expected):
        message = f"the shared access signature is not one of datastore {datastore!r}"
        raise WorkspaceError(message, status=403, code="AuthenticationFailed")
    if expiry <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()):
        raise WorkspaceError("the shared access signature has expired", status=403, code="AuthenticationFailed")
    if not set(needs) & set(permissions):
        message = f"the shared access signature grants {permissions!r}; this call needs one of {needs!r}"
        raise WorkspaceError(message, status=403, code="AuthorizationPermissionMismatch")


def mac(state: WorkspaceState, *parts: str) -> bytes:
    """The workspace's signature of some texts; the texts are told apart, so none can be moved into its neighbour."""
    return hmac.digest(bytes.fromhex(state.settings.signing_key), json.dumps(parts).encode(), hashlib.sha256)


def claims_of(signed: str) -> dict[str, Any]:
    """The claims of a token whose signature has been checked."""
    claims: dict[str, Any] = json.loads(decode(signed.partition(".")[2]))
    return claims


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of unpadded base64; none for a text that is no base64, which no signature equals."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""


def refused(message: str, *, code: str = "AuthenticationFailed") -> WorkspaceError:
    return WorkspaceError(message, status=401, code=code)
