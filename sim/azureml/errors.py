"""Errors of the local workspace."""

from fl_kit.errors import FlKitError


class WorkspaceError(FlKitError):
    """The local workspace cannot do what it was asked; answered to a client as HTTP `status`, with the message."""

    def __init__(self, message: str, *, status: int = 404, code: str = "NotFound") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
