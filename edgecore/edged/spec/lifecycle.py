"""What is asked of a container while it runs, and what is run at its start and stop."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgecore.edged.spec.parts import Part, Seconds


class ExecAction(Part, frozen=True):
    """A command to run in the container."""

    command: tuple[str, ...] = ()


class HttpHeader(Part, frozen=True):
    """One header of a request."""

    name: str
    value: str = ""


PortRef = str | int  # a number, or the name of one of the container's ports


class HttpGetAction(Part, frozen=True):
    """A request to make."""

    port: PortRef
    path: str = ""
    host: str = ""
    scheme: Literal["", "HTTP", "HTTPS"] = ""
    http_headers: tuple[HttpHeader, ...] = ()


class TcpSocketAction(Part, frozen=True):
    """A port to connect to."""

    port: PortRef
    host: str = ""


class GrpcAction(Part, frozen=True):
    """A gRPC health service to ask."""

    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    service: str = ""


class SleepAction(Part, frozen=True):
    """A pause."""

    seconds: Seconds = 0


class Probe(Part, frozen=True):
    """A question that is asked of a container again and again.

    Units:   all times in seconds; 0 stands for Kubernetes' default.
    """

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    grpc: GrpcAction | None = None
    initial_delay_seconds: Seconds = 0
    timeout_seconds: Seconds = 0
    period_seconds: Seconds = 0
    success_threshold: Seconds = 0
    failure_threshold: Seconds = 0
    termination_grace_period_seconds: Seconds | None = None

    @property
    def timeout_s(self) -> int:
        """Return how long one answer may take."""
        return self.timeout_seconds or 1

    @property
    def period_s(self) -> int:
        """Return the time from one question to the next."""
        return self.period_seconds or 10

    @property
    def successes(self) -> int:
        """Return how many successes in a row turn the verdict."""
        return self.success_threshold or 1

    @property
    def failures(self) -> int:
        """Return how many failures in a row turn the verdict."""
        return self.failure_threshold or 3


class LifecycleHandler(Part, frozen=True):
    """What a hook does; `tcp_socket` is kept by Kubernetes for old objects and fails when it is run."""

    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    tcp_socket: TcpSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Part, frozen=True):
    """What is run right after a container's start and right before its stop."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
