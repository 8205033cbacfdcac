"""How the state file can fail."""

from __future__ import annotations

from corekit.errors import StoreError


class StoreOpenError(StoreError):
    """The state file cannot be used; the process does not start."""

    def __init__(self, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}")


class StoreWriteError(StoreError):
    """A change could not be made durable; it did not happen."""
