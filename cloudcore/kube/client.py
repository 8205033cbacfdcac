"""One connection pool to the Kubernetes API: requests as bytes in and bytes out, and streams of lines."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from cloudcore import metrics
from cloudcore.identities import NODE_PREFIX, NODES_GROUP
from cloudcore.kube.errors import KubeMalformedError, KubeUnreachableError, error_from_reply
from cloudcore.kube.kubeconfig import KubeEndpoint
from cloudcore.kube.resources import FULL

logger = logging.getLogger(__name__)

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"

# etcd stops objects at 1.5 MiB, and a watch event is one object; 8 MiB leaves room for JSON escapes.
MAX_LINE_BYTES = 8 << 20
# A page of 500 objects of 64 KiB is 32 MiB. Larger means a smaller `kube.page_size`.
MAX_REPLY_BYTES = 64 << 20
# Errors are a Status object; more is a proxy's error page.
MAX_ERROR_BYTES = 64 << 10
MAX_CONNECTIONS = 64
CONNECT_TIMEOUT_S = 10.0


class KubeClient:
    """The API server at `endpoint`, as cloudcore or, with `impersonate_node`, as one node.

    Every method raises a KubeApiError leaf (cloudcore/kube/errors.py) and nothing of aiohttp's. Nothing is
    retried here, as only callers know what may be sent twice; but aiohttp repeats a GET, PUT or DELETE once
    when a kept-alive connection turns out to be closed.
    """

    def __init__(self, endpoint: KubeEndpoint, *, timeout_s: float = 30.0) -> None:
        self._endpoint, self._timeout_s = endpoint, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS, ssl=self._endpoint.tls, socket_factory=_keepalive_socket
        )
        self._session = aiohttp.ClientSession(
            connector=connector, headers={"User-Agent": "armadillo-cloudcore"}
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        accept: str = FULL,
        impersonate_node: str | None = None,
    ) -> bytes:
        """Return the body of a GET."""
        headers = {"Accept": accept}
        return await self._request("GET", path, params, None, headers, impersonate_node)

    async def post(self, path: str, body: bytes, *, impersonate_node: str | None = None) -> bytes:
        """Create."""
        return await self._send("POST", path, body, FULL, impersonate_node)

    async def put(self, path: str, body: bytes, *, impersonate_node: str | None = None) -> bytes:
        """Replace."""
        return await self._send("PUT", path, body, FULL, impersonate_node)

    async def patch(
        self,
        path: str,
        body: bytes,
        *,
        content_type: str = MERGE_PATCH,
        impersonate_node: str | None = None,
    ) -> bytes:
        """Patch; `content_type` says how."""
        return await self._send("PATCH", path, body, content_type, impersonate_node)

    async def delete(
        self, path: str, *, body: bytes | None = None, impersonate_node: str | None = None
    ) -> bytes:
        """Delete; `body` is a DeleteOptions."""
        return await self._send("DELETE", path, body, FULL, impersonate_node)

    async def stream(
        self,
        path: str,
        params: Mapping[str, str],
        *,
        accept: str = FULL,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a long answer, without their newlines, until the server or `deadline_s` ends it.

        Close it when leaving early (`contextlib.aclosing`): the connection is freed then.
        """
        what = f"WATCH {path}"
        timeout = aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            headers = await self._headers(accept, None)
            async with self._open.get(
                self._url(path), params=params, headers=headers, timeout=timeout, **self._options
            ) as reply:
                metrics.api_requests.labels("WATCH", str(reply.status)).inc()
                if reply.status != 200:
                    raise await _refusal(what, reply)
                async for line in _lines(what, reply.content):
                    yield line
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _unreachable("WATCH", what, exc) from exc

    async def _send(
        self, verb: str, path: str, body: bytes | None, content_type: str, node: str | None
    ) -> bytes:
        headers = {"Accept": FULL}
        if body is not None:
            headers["Content-Type"] = content_type
        return await self._request(verb, path, None, body, headers, node)

    async def _request(
        self,
        verb: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: dict[str, str],
        node: str | None,
    ) -> bytes:
        what = f"{verb} {path}"
        timeout = aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            headers |= await self._headers(headers["Accept"], node)
            async with self._open.request(
                verb,
                self._url(path),
                params=params,
                data=body,
                headers=headers,
                timeout=timeout,
                **self._options,
            ) as reply:
                metrics.api_requests.labels(verb, str(reply.status)).inc()
                if reply.status >= 300:
                    raise await _refusal(what, reply)
                return await _read(what, reply.content, MAX_REPLY_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise _unreachable(verb, what, exc) from exc

    async def _headers(self, accept: str, node: str | None) -> dict[str, str]:
        headers = {"Accept": accept}
        if token := await self._endpoint.authorize():
            headers["Authorization"] = token
        if node is not None:
            # The node authorizer decides with these what the node may touch, not our own rights.
            headers["Impersonate-User"] = f"{NODE_PREFIX}{node}"
            headers["Impersonate-Group"] = NODES_GROUP
        return headers

    @property
    def _open(self) -> aiohttp.ClientSession:
        assert self._session is not None, "KubeClient is used before it is entered"
        return self._session

    @property
    def _options(self) -> dict[str, Any]:
        # A redirect would carry our token to wherever it points.
        options: dict[str, Any] = {"allow_redirects": False}
        if self._endpoint.tls_server_name:
            options["server_hostname"] = self._endpoint.tls_server_name
        return options

    def _url(self, path: str) -> str:
        return self._endpoint.server + path


async def _lines(what: str, content: aiohttp.StreamReader) -> AsyncGenerator[bytes, None]:
    # Not `readline`: it has a limit of its own in its buffer, and its error does not say which.
    parts: list[bytes] = []
    size = 0
    async for chunk in content.iter_any():
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            parts.append(end)
            if size + len(end) > MAX_LINE_BYTES:
                raise _too_large(what, "a line", MAX_LINE_BYTES)
            if line := b"".join(parts):
                yield line
            parts.clear()
            size = 0
        parts.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise _too_large(what, "a line", MAX_LINE_BYTES)
    if size:  # no newline: the connection was cut inside an event, whatever it looks like
        raise KubeUnreachableError(0, "Truncated", f"{what}: ended inside a line")


async def _read(what: str, content: aiohttp.StreamReader, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in content.iter_any():
        size += len(chunk)
        if size > limit_bytes:
            raise _too_large(what, "a reply", limit_bytes)
        parts.append(chunk)
    return b"".join(parts)


async def _refusal(what: str, reply: aiohttp.ClientResponse) -> Exception:
    body = await reply.content.read(MAX_ERROR_BYTES)
    return error_from_reply(what, reply.status, body, reply.headers)


def _too_large(what: str, unit: str, limit_bytes: int) -> KubeMalformedError:
    hint = "; a smaller kube.page_size may help" if unit == "a reply" else ""
    return KubeMalformedError(
        0, "TooLarge", f"{what}: {unit} is larger than {limit_bytes} bytes{hint}"
    )


def _unreachable(verb: str, what: str, exc: Exception) -> KubeUnreachableError:
    metrics.api_requests.labels(verb, "none").inc()
    problem = "no answer in time" if isinstance(exc, asyncio.TimeoutError) else str(exc)
    return KubeUnreachableError(0, type(exc).__name__, f"{what}: {problem}")


def _keepalive_socket(addr_info: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket that notices within a minute that its peer is gone: an idle watch sends nothing itself."""
    family, kind, protocol, *_ = addr_info
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
