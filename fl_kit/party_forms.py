"""The forms that a party's name, `identity` and `environment` may have."""

import re
from collections.abc import Mapping
from typing import Any

from fl_kit.entries import nearest
from fl_kit.errors import FederationError
from fl_kit.secret_scan import spans

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""A party's name becomes a folder, a metric's prefix and a step's name on every backend."""
CLIENT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
IDENTITIES = ("managed", "managed:<client id>", "user")
OWN = ("cpu", "cuda")
"""fl-kit's own environments."""
ENVIRONMENTS = (*OWN, "<registry>/<image>:<tag>", "azureml:<name>:<version>")
REGISTERED = re.compile(r"azureml:[\w.-]+(:[\w.-]+|@[\w.-]+)")
"""An environment of the workspace."""


def check_identity(text: str) -> None:
    """Raise FederationError for what is no identity of these, or empty.

    managed              the compute's own identity
    managed:<client id>  one of several that an AmlCompute has, by its client id (a GUID)
    user                 whoever submits the job
    """
    kind, colon, client_id = text.partition(":")
    if text and text not in ("managed", "user") and kind != "managed":
        raise FederationError(f"identity {text!r} is not known{nearest(text, IDENTITIES)}")
    if colon and not CLIENT_ID.fullmatch(client_id):
        raise FederationError(
            f"identity {text!r}: {client_id!r} is no client id, which is a GUID; "
            "`az identity show` prints it as clientId"
        )


def check_environment(text: str) -> None:
    """Raise FederationError for what is neither one of fl-kit's own, an image, one of the workspace's, nor empty."""
    image = "/" in text and not any(c.isspace() for c in text)
    if text and text not in OWN and not image and not REGISTERED.fullmatch(text):
        raise FederationError(f"environment {text!r} is not known{nearest(text, ENVIRONMENTS)}")


def check_no_secret(field: str, value: Any) -> None:
    """Raise FederationError for a field that holds what looks like a secret; the error does not show it."""
    text = "\n".join(f'{key}="{item}"' for key, item in value.items()) if isinstance(value, Mapping) else str(value)
    for _, _, what in spans(text):
        raise FederationError(
            f"{field} holds what looks like {what}, and a federation is written into every run folder: name a "
            "datastore, and give the party an identity that may read it"
        )
