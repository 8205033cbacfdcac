"""What `armadillo up` tells a person; a wrong flag or folder is corekit's ConfigError (exit status 2)."""

from __future__ import annotations

from corekit.errors import EdgeError


class UpError(EdgeError):
    """Something did not come up or could not be stopped; the message is for people, exit status 1."""
