"""As whom a party's steps read data."""

import re

from fl_kit.entries import nearest
from fl_kit.errors import FederationError

CLIENT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
FORMS = ("managed", "managed:<client id>", "user")


def check_identity(text: str) -> None:
    """Raise FederationError for what is no identity of these, or empty.

    managed              the compute's own identity
    managed:<client id>  one of several that an AmlCompute has, by its client id (a GUID)
    user                 whoever submits the job
    """
    kind, colon, client_id = text.partition(":")
    if text and text not in ("managed", "user") and kind != "managed":
        raise FederationError(f"identity {text!r} is not known{nearest(text, FORMS)}")
    if colon and not CLIENT_ID.fullmatch(client_id):
        raise FederationError(
            f"identity {text!r}: {client_id!r} is no client id, which is a GUID; "
            "`az identity show` prints it as clientId"
        )
