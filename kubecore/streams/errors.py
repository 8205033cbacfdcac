"""What a peer can do wrong on an upgraded connection."""

from __future__ import annotations

from corekit.errors import EdgeError


class SpdyError(EdgeError):
    """The bytes are not SPDY/3.1 as kubelets and their clients speak it; ends the connection."""


class KubeletAnswerError(EdgeError):
    """A kubelet answered an upgrade with something else; `status` and `body` are what it said."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body
        super().__init__(f"the kubelet answered {status}")
