"""The one gRPC connection to a CRI runtime: deadlines, and its errors in our words. Knows no pods."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar

import grpc

from edgecore.edged.cri.pb.api_pb2_grpc import ImageServiceStub, RuntimeServiceStub
from edgecore.edged.runtime import RuntimeUnavailableError

# kubelet's limit for one CRI message; a node's list of all containers must fit in it.
MAX_MESSAGE_BYTES = 16 << 20
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # The peer is on this machine: after a restart of it we want to be back at once, not in two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_http_proxy", 0),
)
_DOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

ResponseT = TypeVar("ResponseT")
_IMAGE_METHODS = frozenset({"ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo"})


class CriRefusedError(Exception):
    """The runtime answered with an error; the caller knows what it means. Never leaves this package."""

    def __init__(self, method: str, code: grpc.StatusCode, details: str) -> None:
        self.method, self.code, self.details = method, code, details
        super().__init__(f"{method}: {code.name}: {details}")

    @property
    def not_found(self) -> bool:
        """Whether what the call was about is not there."""
        return self.code is grpc.StatusCode.NOT_FOUND


class CriConnection:
    """Stubs of both CRI services on one channel that reconnects by itself; opened at first use."""

    def __init__(self, socket_path: str, timeout_s: float) -> None:
        self.socket_path, self.timeout_s = socket_path, timeout_s
        self._channel: grpc.aio.Channel | None = None
        self._runtime: Any = None
        self._images: Any = None

    async def call(
        self,
        method: str,
        request: object,
        answer: type[ResponseT],
        *,
        timeout_s: float | None = None,
    ) -> ResponseT:
        """Return the answer to `request`.

        Units:   timeout_s: seconds; None means the connection's own limit.
        Raises:  RuntimeUnavailableError: no answer in time, or no CRI v1 there.
                 CriRefusedError: the runtime said no.
        """
        if self._channel is None:
            self._open()
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        stub = self._images if method in _IMAGE_METHODS else self._runtime
        try:
            message = await getattr(stub, method)(request, timeout=limit_s)
        except grpc.aio.AioRpcError as exc:
            raise self._translated(method, exc.code(), exc.details() or "", limit_s) from exc
        assert isinstance(message, answer)
        return message

    async def stream(
        self, method: str, request: object, answer: type[ResponseT]
    ) -> AsyncIterator[ResponseT]:
        """Yield the answers to `request` as they come; without a deadline, because silence is no fault.

        Raises:  as `call`. CriRefusedError with UNIMPLEMENTED: the runtime does not have `method`.
        """
        if self._channel is None:
            self._open()
        try:
            async for message in getattr(self._runtime, method)(request):
                assert isinstance(message, answer)
                yield message
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise CriRefusedError(method, exc.code(), exc.details() or "") from exc
            raise self._translated(method, exc.code(), exc.details() or "", 0.0) from exc

    async def close(self) -> None:
        """Close the channel; the next call opens another one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close(None)

    def _open(self) -> None:
        # grpc's generated stubs carry no types; `call` checks what comes out of them.
        self._channel = grpc.aio.insecure_channel(f"unix:{self.socket_path}", options=_OPTIONS)
        self._runtime = RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._images = ImageServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def _translated(
        self, method: str, code: grpc.StatusCode, details: str, limit_s: float
    ) -> Exception:
        if code is grpc.StatusCode.UNIMPLEMENTED:
            problem = "speaks no CRI v1 (its CRI plugin may be disabled)"
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
            problem = f"{method}: no answer in {limit_s:.0f} s"
        elif code in _DOWN or "server is not initialized" in details:
            problem = f"{method}: {details}"
        else:
            return CriRefusedError(method, code, details)
        return RuntimeUnavailableError(f"container runtime at {self.socket_path}: {problem}")
