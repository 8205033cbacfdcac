"""What a client reads from or does in a pod through its node's kubelet: log, exec, attach, portforward, proxy."""

from __future__ import annotations

import logging

from aiohttp import ClientError, ClientResponse, web
from multidict import CIMultiDict, CIMultiDictProxy

from kubecore.access.target import Target
from kubecore.errors import ApiStatusError, bad_request, method_not_allowed, not_found, unknown_path
from kubecore.kinds.registry import Registry
from kubecore.serving.answers import refusal_of
from kubecore.serving.messages import send_messages, wants_messages
from kubecore.serving.upgrades import serve_upgrade
from kubecore.storage.store import Object, Store
from kubecore.streams.errors import KubeletAnswerError
from kubecore.streams.kubelet import Endpoint, KubeletClient, endpoint_of
from kubecore.streams.pipes import CHUNK_BYTES
from kubecore.streams.requests import (
    command_path,
    container_of,
    forward_path,
    log_path,
    node_of,
    wanted_streams,
)

logger = logging.getLogger(__name__)

STREAMS = frozenset({"log", "exec", "attach", "portforward", "proxy"})
# Each holds two connections and at most a few hundred KiB; kubectl opens one per container.
MAX_STREAMS = 512
_PLAIN = {"Accept-Encoding": "identity"}
# Headers that belong to one connection, or tell who the client is.
_NOT_PROXIED = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class StreamApi:
    """Serves what has to ask a kubelet."""

    def __init__(self, store: Store, registry: Registry, kubelets: KubeletClient) -> None:
        self._store, self._registry, self._kubelets = store, registry, kubelets
        self._open = 0

    async def serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer one request, which may last as long as the client wants.

        Raises:  ApiStatusError: refused, by us or by the kubelet, before anything was answered.
        """
        if self._open >= MAX_STREAMS:
            problem = f"{MAX_STREAMS} streams are open, which is the limit; try again later"
            raise ApiStatusError(429, "TooManyRequests", problem, details={"retryAfterSeconds": 5})
        self._open += 1
        try:
            return await self._serve(request, target)
        except KubeletAnswerError as exc:
            raise refusal_of(exc.status, exc.body) from exc
        finally:
            self._open -= 1

    async def _serve(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.plural == "nodes" and target.subresource == "proxy":
            return await self._proxy(request, self._endpoint(target.name), target.tail)
        if target.plural != "pods" or target.subresource == "proxy":
            raise unknown_path()
        pod = self._object("pods", target.namespace, target.name)
        if target.subresource == "log":
            return await self._log(request, pod)
        if target.verb not in ("get", "create"):
            raise method_not_allowed()
        endpoint = self._endpoint(node_of(pod))
        if target.subresource == "portforward":
            path = forward_path(pod, request.query.getall("ports", []))
            return await serve_upgrade(request, self._kubelets, endpoint, path)
        wanted = wanted_streams(request.query)
        container = container_of(pod, request.query.get("container", ""))
        command = request.query.getall("command", [])
        path = command_path(target.subresource, pod, container, wanted, command)
        return await serve_upgrade(request, self._kubelets, endpoint, path, wanted)

    def _object(self, plural: str, namespace: str, name: str) -> Object:
        resource = self._registry.find("", "v1", plural)
        assert resource is not None
        entry = self._store.get(plural, namespace, name)
        if entry is None:
            raise not_found(resource, name)
        return entry.parse()

    def _endpoint(self, node: str) -> Endpoint:
        return endpoint_of(self._object("nodes", "", node))

    async def _log(self, request: web.Request, pod: Object) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        container = container_of(pod, request.query.get("container", ""))
        path = log_path(pod, container, request.query)
        if not pod["spec"].get(
            "nodeName"
        ):  # as upstream: nothing was written yet, which is no error
            return web.Response(content_type="text/plain")
        endpoint = self._endpoint(pod["spec"]["nodeName"])
        async with self._kubelets.request(endpoint, "GET", path, headers=_PLAIN) as answer:
            if answer.status != 200:
                raise refusal_of(answer.status, await answer.content.read(CHUNK_BYTES))
            if wants_messages(request):
                return await send_messages(request, answer)
            response = web.StreamResponse(headers={"Content-Type": "text/plain"})
            return await _relay(request, response, answer)

    async def _proxy(
        self, request: web.Request, endpoint: Endpoint, path: str
    ) -> web.StreamResponse:
        if "upgrade" in request.headers.get("Connection", "").lower():
            raise bad_request("upgraded connections are not proxied; use exec or port-forward")
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        sent = CIMultiDict(_proxied(request.headers))
        body = await request.read() if request.can_read_body else None
        async with self._kubelets.request(
            endpoint, request.method, f"{path}{query}", headers=sent, data=body
        ) as answer:
            headers = CIMultiDict(_proxied(answer.headers))
            response = web.StreamResponse(status=answer.status, headers=headers)
            return await _relay(request, response, answer)


async def _relay(
    request: web.Request, response: web.StreamResponse, answer: ClientResponse
) -> web.StreamResponse:
    """Send the kubelet's body as it comes. What breaks it off breaks off the client's too: its end would be a lie."""
    try:
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except (ClientError, OSError) as exc:
        logger.debug("%s: broken off: %s", request.path, exc)
        if request.transport:
            request.transport.abort()
    return response


def _proxied(headers: CIMultiDictProxy[str]) -> list[tuple[str, str]]:
    return [(k, v) for k, v in headers.items() if k.lower() not in _NOT_PROXIED]
