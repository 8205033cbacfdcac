"""`proxy` below nodes, pods and services: any request, upgraded ones too, to what listens there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import ClientResponse, web
from multidict import CIMultiDict
from yarl import URL

from kubecore.access.target import Target
from kubecore.errors import bad_request, not_found, unknown_path
from kubecore.kinds.registry import Registry
from kubecore.serving.hijack import Hijacked, take_over
from kubecore.serving.upgrades import join, joined
from kubecore.storage.store import Object, Store
from kubecore.streams.forwarding import Forwarded, forwarded
from kubecore.streams.html_links import rewrite_links, unzipped
from kubecore.streams.kubelet import ANSWER_S, KubeletClient, endpoint_of, head, parse_head
from kubecore.streams.pipes import CHUNK_BYTES, Pipe
from kubecore.streams.proxying import (
    PodPort,
    ProxyName,
    answered,
    forwarded_headers,
    moved,
    parse_name,
    passed_on,
    pod_port,
    service_port,
    unavailable,
)
from kubecore.streams.requests import forward_path, node_of

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler

logger = logging.getLogger(__name__)
# How an application's answer can fail to come.
_BROKEN = (
    aiohttp.ClientError,
    asyncio.LimitOverrunError,
    OSError,
    EOFError,
    ValueError,
    TimeoutError,
)
# A page of a person's making is far smaller; what is larger keeps its links.
MAX_PAGE_BYTES = 4 << 20
# An application may think for as long as it wants; only the connection has to be made in time.
_TIMEOUT = aiohttp.ClientTimeout(total=None)
# An address, so that TLS sends no server name: a pod has none.
_NO_NAME = "127.0.0.1"


class ProxyApi:
    """Serves the subresource `proxy`."""

    def __init__(self, store: Store, registry: Registry, kubelets: KubeletClient) -> None:
        self._store, self._registry, self._kubelets = store, registry, kubelets

    async def serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer with what the application answers.

        Raises:  ApiStatusError: refused or not reached. KubeletAnswerError: the node refused.
        """
        if not target.tail and not _switches(request):
            # Relative links of the page would lead out of the proxy otherwise.
            return web.Response(status=301, headers={"Location": _slashed(request)})
        match target.plural:
            case "nodes":
                return await self._node(request, target)
            case "pods":
                wanted = parse_name(target.name, "pod")
                pod = self._object("pods", target.namespace, wanted.name)
                return await self._pod(request, target, pod, pod_port(pod, wanted))
            case "services":
                port = self._behind(target.namespace, parse_name(target.name, "service"))
                pod = self._object("pods", target.namespace, port.pod)
                return await self._pod(request, target, pod, port)
        raise unknown_path()

    def _behind(self, namespace: str, wanted: ProxyName) -> PodPort:
        service = self._object("services", namespace, wanted.name)
        entry = self._store.get("endpoints", namespace, wanted.name)
        return service_port(service, entry.parse() if entry else None, wanted)

    def _object(self, plural: str, namespace: str, name: str) -> Object:
        resource = self._registry.find("", "v1", plural)
        assert resource is not None
        entry = self._store.get(plural, namespace, name)
        if entry is None:
            raise not_found(resource, name)
        return entry.parse()

    async def _node(self, request: web.Request, target: Target) -> web.StreamResponse:
        wanted = parse_name(target.name, "node")
        endpoint = endpoint_of(self._object("nodes", "", wanted.name))
        if wanted.port and wanted.port != str(endpoint.port):
            problem = f"of a node only the kubelet's port, {endpoint.port}, is proxied"
            raise bad_request(problem)
        path = (target.tail or "/") + _query(request)
        if _switches(request):
            headers = _upgrade_headers(request)
            upgraded = await self._kubelets.upgrade(endpoint, request.method, path, headers)
            return await join(request, upgraded)
        async with self._kubelets.request(
            endpoint, request.method, path, headers=_plain_headers(request), data=_body(request)
        ) as answer:
            headers_back = CIMultiDict(passed_on(answer.headers.items()))
            return await relay(request, answer, headers_back)

    async def _pod(
        self, request: web.Request, target: Target, pod: Object, port: PodPort
    ) -> web.StreamResponse:
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            raise unavailable(f"error trying to reach service: pod {port.pod} has ended")
        node = endpoint_of(self._object("nodes", "", node_of(pod)))
        path = forward_path(pod, [])
        async with forwarded(self._kubelets, node, path, port.port) as connection:
            try:
                if _switches(request):
                    return await _upgrade(request, target, port, connection)
                return await _exchange(request, target, pod, port, connection)
            except _BROKEN as exc:
                cause = connection.problem or str(exc) or type(exc).__name__
                where = f"pod {port.pod}, port {port.port}"
                raise unavailable(f"error trying to reach service: {where}: {cause}") from exc


async def _exchange(
    request: web.Request, target: Target, pod: Object, port: PodPort, connection: Forwarded
) -> web.StreamResponse:
    """Send one request over the connection, and its answer back."""
    prefix = _prefix(request, target)
    sent = _plain_headers(request)
    sent.update(forwarded_headers(request.host, prefix, target.tail))
    sent["Host"] = request.host
    # What can be taken apart again, should it be a page.
    zipped = "gzip" in request.headers.get("Accept-Encoding", "")
    sent["Accept-Encoding"] = "gzip" if zipped else "identity"
    address = pod.get("status", {}).get("podIP") or "127.0.0.1"
    url = URL(f"{port.scheme}://{_bracketed(address)}:{port.port}", encoded=True)
    path = f"{target.tail or '/'}{_query(request)}"
    async with (
        _session(connection.socket) as session,
        session.request(
            request.method,
            URL(f"{url}{path}", encoded=True),
            headers=sent,
            data=_body(request),
            allow_redirects=False,
            ssl=_unverified(),
        ) as answer,
    ):
        back = CIMultiDict(answered(answer.headers.items()))
        names = (f"{address}:{port.port}", address)
        turn = partial(moved, prefix=prefix, host=request.host, sources=names)
        if location := back.get("Location"):
            back["Location"] = turn(location)
        if answer.content_type == "text/html" and request.method != "HEAD":
            return await _page(request, answer, back, turn)
        return await relay(request, answer, back)


async def _page(
    request: web.Request,
    answer: ClientResponse,
    headers: CIMultiDict[str],
    turn: Callable[[str], str],
) -> web.StreamResponse:
    """Send an HTML page with its links turned; one that is too large, or not to be read, as it is."""
    raw = b""
    async for chunk in answer.content.iter_any():
        raw += chunk
        if len(raw) > MAX_PAGE_BYTES:
            return await relay(request, answer, headers, first=raw)
    encoding = headers.get("Content-Encoding", "identity").lower()
    page = unzipped(raw, MAX_PAGE_BYTES) if encoding == "gzip" else raw
    if page is None or encoding not in ("gzip", "identity"):
        return web.Response(status=answer.status, headers=headers, body=raw)
    headers.popall("Content-Encoding", None)
    body = await asyncio.to_thread(rewrite_links, page, turn)
    return web.Response(status=answer.status, reason=answer.reason, headers=headers, body=body)


async def _upgrade(
    request: web.Request, target: Target, port: PodPort, connection: Forwarded
) -> web.StreamResponse:
    """Pass on a request to switch protocols; once the application agrees, carry bytes."""
    secure = port.scheme == "https"
    reader, writer = await asyncio.open_connection(
        sock=connection.socket,
        limit=CHUNK_BYTES,
        ssl=_unverified() if secure else None,
        server_hostname=_NO_NAME if secure else None,
    )
    try:
        known = forwarded_headers(request.host, _prefix(request, target), target.tail)
        headers = [("Host", request.host), *_upgrade_headers(request), *known.items()]
        path = f"{target.tail or '/'}{_query(request)}"
        writer.write(head(request.method, path, headers))
        async with asyncio.timeout(ANSWER_S):
            raw = await reader.readuntil(b"\r\n\r\n")
        status, given = parse_head(raw)
        if status != 101:
            return await _refused(status, given, reader)
        await joined(take_over(request, given), Pipe(reader, writer))
        return Hijacked()
    finally:
        writer.close()


async def _refused(
    status: int, headers: list[tuple[str, str]], reader: asyncio.StreamReader
) -> web.StreamResponse:
    """Pass on the answer of an application that does not switch; it is short, and the connection's last."""
    body = b""
    with contextlib.suppress(asyncio.IncompleteReadError):
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        wanted = int(lengths[0]) if lengths and lengths[0].isdigit() else 0
        async with asyncio.timeout(ANSWER_S):
            body = await reader.readexactly(min(wanted, CHUNK_BYTES))
    kept = CIMultiDict(answered(headers))
    return web.Response(status=status, headers=kept, body=body)


@contextlib.asynccontextmanager
async def _session(sock: socket.socket) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        connector=_OneConnection(sock),
        timeout=_TIMEOUT,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept-Encoding", "Accept", "Content-Type", "User-Agent"),
    ) as session:
        yield session


class _OneConnection(aiohttp.BaseConnector):
    """A connector that has one connection, which is there already, for one request."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(force_close=True, limit=1)
        self._sock: socket.socket | None = sock

    async def _create_connection(self, req: aiohttp.ClientRequest, *_: object) -> ResponseHandler:
        sock, self._sock = self._sock, None
        if sock is None:  # aiohttp tries again what ended without an answer
            raise aiohttp.ClientConnectionError("the connection ended without an answer")
        secure = req.is_ssl()
        made = await self._loop.create_connection(
            self._factory,
            sock=sock,
            ssl=_unverified() if secure else None,
            server_hostname=_NO_NAME if secure else None,
        )
        return made[1]


def _unverified() -> ssl.SSLContext:
    """As upstream: a pod's certificate is its own, and it was reached through its node."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def relay(
    request: web.Request, answer: ClientResponse, headers: CIMultiDict[str], first: bytes = b""
) -> web.StreamResponse:
    """Send an answer as it comes. What breaks it off breaks off the client's too: its end would be a lie.

    Shapes:  first: what of its body has been read already.
    """
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    if answer.content_length is not None and request.method != "HEAD":
        response.content_length = answer.content_length
    await response.prepare(request)
    try:
        if first:
            await response.write(first)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except (aiohttp.ClientError, OSError) as exc:
        logger.debug("%s: broken off: %s", request.path, exc)
        if request.transport:
            request.transport.abort()
    return response


def _switches(request: web.Request) -> bool:
    return "upgrade" in request.headers.get("Connection", "").lower()


def _plain_headers(request: web.Request) -> CIMultiDict[str]:
    kept = passed_on(request.headers.items())
    headers = CIMultiDict((name, value) for name, value in kept if name.lower() != "host")
    if request.content_length is not None and request.can_read_body:
        headers["Content-Length"] = str(request.content_length)
    return headers


def _upgrade_headers(request: web.Request) -> list[tuple[str, str]]:
    kept = [(n, v) for n, v in passed_on(request.headers.items()) if n.lower() != "host"]
    kind = request.headers.get("Upgrade", "")
    headers = [("Connection", "Upgrade"), ("Upgrade", kind), *kept]
    if request.method == "POST":
        headers.append(("Content-Length", "0"))
    return headers


def _body(request: web.Request) -> aiohttp.StreamReader | None:
    return request.content if request.can_read_body else None


def _query(request: web.Request) -> str:
    query = request.rel_url.raw_query_string
    return f"?{query}" if query else ""


def _prefix(request: web.Request, target: Target) -> str:
    """Return the path of the request up to `proxy`."""
    return request.rel_url.raw_path.removesuffix(target.tail)


def _slashed(request: web.Request) -> str:
    return f"{request.rel_url.raw_path}/{_query(request)}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
