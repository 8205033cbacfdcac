"""What a client reads from or does in a pod through its node's kubelet: log, exec, attach, portforward, proxy."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict

from kubecore.access.target import Target
from kubecore.errors import ApiStatusError, method_not_allowed, not_found, unknown_path
from kubecore.kinds.registry import Registry
from kubecore.serving.answers import refusal_of
from kubecore.serving.api_proxy import ProxyApi, relay
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

STREAMS = frozenset({"log", "exec", "attach", "portforward", "proxy"})
# Each holds two connections and at most a few hundred KiB; kubectl opens one per container.
MAX_STREAMS = 512
_PLAIN = {"Accept-Encoding": "identity"}


class StreamApi:
    """Serves what has to ask a kubelet."""

    def __init__(self, store: Store, registry: Registry, kubelets: KubeletClient) -> None:
        self._store, self._registry, self._kubelets = store, registry, kubelets
        self._proxy = ProxyApi(store, registry, kubelets)
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
        if target.subresource == "proxy":
            return await self._proxy.serve(request, target)
        if target.plural != "pods":
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
            return await relay(request, answer, CIMultiDict({"Content-Type": "text/plain"}))
