"""What can be wrong with a token."""

from __future__ import annotations

from corekit.errors import EdgeError


class TokenError(EdgeError):
    """The token is not one of ours, or not valid any more; the message is for the log."""
