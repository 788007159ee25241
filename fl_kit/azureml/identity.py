"""As whom a party's steps read data: a silo's `identity` in the SDK's words."""

import re
from typing import Any

from fl_kit.entries import nearest
from fl_kit.errors import FederationError

CLIENT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
FORMS = ("managed", "managed:<client id>", "user")


def identity_of(text: str) -> Any:
    """The SDK's configuration for an identity as a federation writes it; None for an empty one.

    managed              the compute's own identity
    managed:<client id>  one of several that an AmlCompute has, by its client id (a GUID)
    user                 whoever submits the job

    Raises FederationError for anything else.
    """
    check_identity(text)
    if not text:
        return None
    from azure.ai.ml.entities import ManagedIdentityConfiguration, UserIdentityConfiguration

    kind, _, client_id = text.partition(":")
    return UserIdentityConfiguration() if kind == "user" else ManagedIdentityConfiguration(client_id=client_id or None)


def check_identity(text: str) -> None:
    """Raise FederationError for what is no identity."""
    kind, colon, client_id = text.partition(":")
    if text and text not in ("managed", "user") and kind != "managed":
        raise FederationError(f"identity {text!r} is not known{nearest(text, FORMS)}")
    if colon and not CLIENT_ID.fullmatch(client_id):
        raise FederationError(
            f"identity {text!r}: {client_id!r} is no client id, which is a GUID; "
            "`az identity show` prints it as clientId"
        )
