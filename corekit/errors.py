"""The root of every error we raise, and its direct children; leaves live beside the code that raises them.

A class exists only where some caller reacts differently to it. Adapters translate library errors into
these with `from`; nothing above an adapter sees grpc, SQL, HTTP or MQTT types.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Root of all our errors. `retryable` tells whether the same call may succeed later unchanged."""

    retryable = False


# `ConfigError.source` of whoever does not know which file its settings came from; the daemon puts the path in.
SETTINGS = "settings"


class ConfigError(EdgeError):
    """A setting is wrong; the process ends with exit status 2."""

    def __init__(self, source: str, key: str, problem: str) -> None:
        self.source, self.key, self.problem = source, key, problem
        super().__init__(f"{source}: {key}: {problem}" if key else f"{source}: {problem}")


class ProtocolError(EdgeError):
    """The peer broke the contract of docs/protocol.md; `code` goes on the wire and the session ends."""

    code = "PROTOCOL"


class TransportError(EdgeError):
    """The link is down; dial again."""

    retryable = True


class KubeApiError(EdgeError):
    """The Kubernetes API refused or failed a request."""

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float | None = None
    ) -> None:
        self.status, self.reason, self.retry_after_s = status, reason, retry_after_s
        super().__init__(f"{status} {reason}: {message}")


class StoreError(EdgeError):
    """The local database cannot do what was asked."""


class DeviceError(EdgeError):
    """Something about one device is wrong; `device` is `namespace/name`."""

    def __init__(self, device: str, problem: str) -> None:
        self.device, self.problem = device, problem
        super().__init__(f"device {device}: {problem}")


class ComponentExitedError(EdgeError):
    """A component's `run()` returned, which it must not while the app serves."""

    def __init__(self, component: str) -> None:
        self.component = component
        super().__init__(f"{component}: run() returned")
