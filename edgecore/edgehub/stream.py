"""The gRPC side of a sync stream at the edge: mutual TLS out, plain messages in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import grpc

from corekit.errors import TransportError
from corekit.timestamps import rfc3339
from edgecore import metrics
from edgecore.edgehub.validity import Validity, hint, validity_of
from edgecore.settings import HubSettings
from synccore.messages import MAX_FRAME_BYTES, CloudMessage, EdgeMessage
from synccore.pb import sync_pb2_grpc
from synccore.wire import edge_to_wire, from_wire

# A frame of the largest size, with room for its envelope.
_MAX_MESSAGE_BYTES = MAX_FRAME_BYTES + (64 << 10)


# With these cloudcore has said no, and why.
_REFUSALS = frozenset({grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED})
_BAD_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"

_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


class StreamEndedError(TransportError):
    """The stream ended or broke. `code`: why, where another reason than a broken link is worth a line of its own."""

    def __init__(self, problem: str, code: str = "") -> None:
        self.code = code
        super().__init__(problem)


class CredentialsUnreadableError(TransportError):
    """The node's certificate files cannot be read now; a renewal may be writing them."""


class SyncStream(Protocol):
    """An open stream."""

    async def send(self, messages: Sequence[EdgeMessage]) -> None:
        """Write in order; waits while the peer does not read. Raises: StreamEndedError."""

    async def receive(self) -> CloudMessage:
        """Return the next message. Raises: StreamEndedError; ProtocolError: it means nothing to us."""


class GrpcStream:
    """`SyncStream` over one gRPC call."""

    def __init__(self, call: Any, validity: Validity | None = None) -> None:
        self._call, self._validity = call, validity

    def end(self) -> None:
        """Cancel the call and let go of it: the connection is open for as long as anybody has it."""
        self._call.cancel()
        self._call = None

    async def send(self, messages: Sequence[EdgeMessage]) -> None:
        """Write in order."""
        try:
            for message in messages:
                await self._call.write(edge_to_wire(message))
        except grpc.aio.AioRpcError as exc:
            raise self._ended(exc) from exc
        except asyncio.InvalidStateError as exc:
            raise StreamEndedError("the stream is over") from exc

    async def receive(self) -> CloudMessage:
        """Return the next message."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as exc:
            raise self._ended(exc) from exc
        # gRPC gives None for bytes that are no message, and `from_wire` refuses it.
        if message is _EOF:  # a clean end still means: dial again
            raise StreamEndedError("cloudcore ended the stream")
        decoded: CloudMessage = from_wire(message)
        return decoded

    def _ended(self, exc: grpc.aio.AioRpcError) -> StreamEndedError:
        status, problem = exc.code(), f"{exc.code().name}: {exc.details()}"
        if status is not grpc.StatusCode.UNAVAILABLE:
            return StreamEndedError(problem, status.name if status in _REFUSALS else "")
        why = hint(self._validity, time.time())
        if not why and _BAD_CERTIFICATE not in problem:
            return StreamEndedError(problem)
        # Never more than this of one reason: the rest is where gRPC's core found it.
        said = problem.rpartition(_BAD_CERTIFICATE)[2].removesuffix(": OK")
        here = f"cloudcore's certificate is not taken{said} (it is {rfc3339(time.time())} here)"
        return StreamEndedError(why or here, "CERTIFICATE")


@asynccontextmanager
async def dial(settings: HubSettings) -> AsyncIterator[SyncStream]:
    """Open one stream to cloudcore; certificates are read at each dial, so a renewed one is used.

    Raises:  TransportError: no connection, refused by TLS, or the files cannot be read.
    """
    credentials, validity = await asyncio.to_thread(_credentials, settings)
    if validity is not None:
        metrics.certificate_until.set(validity.until_s)
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        # Without its own pool a new channel inherits the back-off of the one that just failed.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
    async with grpc.aio.secure_channel(settings.server, credentials, options=options) as channel:
        call = sync_pb2_grpc.SyncStub(channel).Connect()  # type: ignore[no-untyped-call]
        stream = GrpcStream(call, validity)
        try:
            yield stream
        finally:
            stream.end()


def _credentials(settings: HubSettings) -> tuple[grpc.ChannelCredentials, Validity | None]:
    try:
        certificate = Path(settings.cert_file).read_bytes()
        credentials = grpc.ssl_channel_credentials(
            root_certificates=Path(settings.ca_file).read_bytes(),
            private_key=Path(settings.key_file).read_bytes(),
            certificate_chain=certificate,
        )
    except OSError as exc:
        raise CredentialsUnreadableError(f"{exc.filename}: {exc.strerror}") from exc
    return credentials, validity_of(certificate)
