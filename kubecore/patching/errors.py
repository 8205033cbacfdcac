"""Why a patch cannot be applied."""

from __future__ import annotations

from corekit.errors import EdgeError


class PatchError(EdgeError):
    """A patch that cannot be applied; `status` is the HTTP status of the answer."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)
