"""One connection to a TCP port of a pod, as a socket: through its node's kubelet, which forwards the port.

The API server has no route to a pod; the kubelet has. What comes out is the pod's own loopback or address, as with
`kubectl port-forward`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from kubecore.streams.errors import SpdyError
from kubecore.streams.kubelet import Endpoint, KubeletClient
from kubecore.streams.pipes import CHUNK_BYTES, Pipe
from kubecore.streams.spdy import Data, Ping, Reset, SpdyConnection, data_frame, ping

logger = logging.getLogger(__name__)

PROTOCOL = "portforward.k8s.io"
# A client's streams have odd numbers.
_ERROR, _DATA = 1, 3
# What a node says of a failure is shown to a person.
MAX_PROBLEM_BYTES = 4096


@dataclass
class Forwarded:
    """The near end of the connection; `problem`: why the node could not make or keep it, "" if it could."""

    socket: socket.socket
    problem: str = ""


@contextlib.asynccontextmanager
async def forwarded(
    kubelets: KubeletClient, endpoint: Endpoint, path: str, port: int
) -> AsyncIterator[Forwarded]:
    """Give a connection to `port` of the pod in `path` (of `forward_path`); it is closed at the end.

    The pod may refuse it later: then the socket ends at once, and `problem` says why.
    Raises:  ApiStatusError 500: the node is not reached. KubeletAnswerError: it refuses.
    """
    kubelet = (await kubelets.dial_spdy(endpoint, path, PROTOCOL)).pipe
    near, far = socket.socketpair()
    near.setblocking(False)
    connection, failure = Forwarded(near), None
    local = Pipe(*await asyncio.open_connection(sock=far, limit=CHUNK_BYTES))
    try:
        carrier = _Carrier(kubelet, local, connection)
        kubelet.writer.write(carrier.opening(port))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(carrier.to_pod(), name="forward to pod"),
                group.create_task(carrier.from_pod(), name="forward from pod"),
            ]
            try:
                yield connection
            except Exception as exc:  # noqa: BLE001 - it goes on below: the group would wrap it
                failure = exc
            for task in tasks:
                task.cancel()
        if failure is not None:
            raise failure
    finally:
        kubelet.writer.close()
        local.writer.close()
        near.close()


class _Carrier:
    """Both directions between the socket and the streams; a lost connection ends them, and is no fault."""

    def __init__(self, kubelet: Pipe, local: Pipe, connection: Forwarded) -> None:
        self._kubelet, self._local, self._connection = kubelet, local, connection
        self._spdy = SpdyConnection()

    def opening(self, port: int) -> bytes:
        """Return the frames that ask for the port."""
        headers = {"port": str(port), "requestID": "0"}
        return b"".join(
            self._spdy.open_stream(stream, {"streamType": kind, **headers})
            for stream, kind in ((_ERROR, "error"), (_DATA, "data"))
        )

    async def to_pod(self) -> None:
        """Carry what is written into the socket."""
        # Nothing is ever said on the error stream by this end.
        self._kubelet.writer.write(data_frame(_ERROR, b"", fin=True))
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await self._local.reader.read(CHUNK_BYTES):
                self._kubelet.writer.write(data_frame(_DATA, data))
                await self._kubelet.writer.drain()
            self._kubelet.writer.write(data_frame(_DATA, b"", fin=True))
            await self._kubelet.writer.drain()

    async def from_pod(self) -> None:
        """Carry what the pod sends, until it or the node ends it."""
        try:
            while data := await self._kubelet.reader.read(CHUNK_BYTES):
                for frame in self._spdy.feed(data):
                    if not await self._take(frame):
                        return
        except SpdyError as exc:
            self._connection.problem = f"the kubelet does not speak SPDY: {exc}"
        except (ConnectionError, ssl.SSLError) as exc:
            logger.debug("a forwarded port was lost: %s", exc)
        finally:
            self._local.writer.close()

    async def _take(self, frame: object) -> bool:
        """Handle one frame; return whether the connection goes on."""
        match frame:
            case Data(stream, content, fin) if stream == _DATA:
                self._local.writer.write(content)
                await self._local.writer.drain()
                return not fin
            case Data(stream, content, _) if stream == _ERROR and content:
                text = self._connection.problem + content.decode("utf-8", "replace")
                self._connection.problem = text[:MAX_PROBLEM_BYTES]
                return False
            case Reset(stream):
                return stream != _DATA
            case Ping(number):
                self._kubelet.writer.write(ping(number))
        return True
