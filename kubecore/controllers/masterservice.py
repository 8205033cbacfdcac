"""Keeps `default/kubernetes`: the Service, Endpoints and EndpointSlice by which pods find this server."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Any, Self

from kubecore.controllers.mirror import RELIST_DELAY_S, builtin
from kubecore.errors import ApiStatusError
from kubecore.kinds.resource import Resource
from kubecore.objects.client import Objects
from kubecore.settings import ServiceSettings

logger = logging.getLogger(__name__)

Object = dict[str, Any]
NAMESPACE, NAME, PORT = "default", "kubernetes", 443
_SELECT = f"metadata.name={NAME}"
# To find out which address the machine has towards others; no packet is sent.
_SOMEWHERE = {4: (socket.AF_INET, "192.0.2.1"), 6: (socket.AF_INET6, "2001:db8::1")}


class MasterService:
    """Component: make the three on enter, and again whenever somebody changed them.

    Shapes:  bound: host and port that kubecore listens on, known once it does.
    """

    name = "masterservice"

    def __init__(
        self,
        objects: Objects,
        settings: ServiceSettings,
        cluster_ip: str,
        bound: Callable[[], tuple[str, int]],
    ) -> None:
        self._objects, self._settings = objects, settings
        self._cluster_ip, self._bound = cluster_ip, bound
        self._services = builtin(objects, "", "services")
        self._endpoints = builtin(objects, "", "endpoints")
        self._slices = builtin(objects, "discovery.k8s.io", "endpointslices")
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        host, self._port = self._bound()
        self._address = self._settings.advertise_address or advertised(host)
        if not self._address:
            logger.info("kubecore listens on loopback: default/kubernetes has no endpoint")
        await self._pass()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for resource in (self._services, self._endpoints, self._slices):
                group.create_task(self._follow(resource), name=self.name)
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._pass()

    async def _follow(self, resource: Resource) -> None:
        while True:
            try:
                _, version = await self._objects.list(resource, NAMESPACE, field_selector=_SELECT)
                self._wake.set()
                async for _ in self._objects.watch(
                    resource, NAMESPACE, resource_version=version, field_selector=_SELECT
                ):
                    self._wake.set()
            except ApiStatusError:  # 410: too far behind; 500: the store failed
                await asyncio.sleep(RELIST_DELAY_S)

    async def _pass(self) -> None:
        for resource, wanted, keys in (
            (self._services, self._service(), ("spec",)),
            (self._endpoints, self._endpoint_list(), ("subsets",)),
            (self._slices, self._endpoint_slice(), ("endpoints", "ports")),
        ):
            try:
                await self._ensure(resource, wanted, keys)
            except (
                ApiStatusError
            ) as exc:  # changed meanwhile, or its address is taken: the log says so
                logger.warning("default/kubernetes: %s", exc)

    async def _ensure(self, resource: Resource, wanted: Object, keys: tuple[str, ...]) -> None:
        try:
            found = await self._objects.get(resource, NAMESPACE, NAME)
        except ApiStatusError as exc:
            if exc.status != 404:
                raise
            await self._objects.create(resource, NAMESPACE, wanted)
            return
        if resource is self._services and found["spec"].get("clusterIP") != self._cluster_ip:
            # Of another range, or of a time when services had no addresses: the address cannot be changed.
            await self._objects.delete(resource, NAMESPACE, NAME)
            await self._objects.create(resource, NAMESPACE, wanted)
            return
        changed = {**found, **{key: _over(found.get(key), wanted.get(key)) for key in keys}}
        labels = {**(found["metadata"].get("labels") or {}), **wanted["metadata"]["labels"]}
        changed["metadata"] = {**found["metadata"], "labels": labels}
        changed = {key: value for key, value in changed.items() if value is not None}
        if changed != found:
            await self._objects.update(resource, NAMESPACE, NAME, changed)

    def _service(self) -> Object:
        port = {"name": "https", "port": PORT, "protocol": "TCP", "targetPort": self._port}
        labels = {"component": "apiserver", "provider": "kubernetes"}
        spec = {"type": "ClusterIP", "clusterIP": self._cluster_ip, "ports": [port]}
        return {"metadata": {"name": NAME, "labels": labels}, "spec": spec}

    def _endpoint_list(self) -> Object:
        labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
        ports = [{"name": "https", "port": self._port, "protocol": "TCP"}]
        subsets = [{"addresses": [{"ip": self._address}], "ports": ports}]
        made: Object = {"metadata": {"name": NAME, "labels": labels}}
        return {**made, "subsets": subsets} if self._address else made

    def _endpoint_slice(self) -> Object:
        version = ipaddress.ip_address(self._address or self._cluster_ip).version
        labels = {"kubernetes.io/service-name": NAME}
        endpoints = [{"addresses": [self._address], "conditions": {"ready": True}}]
        return {
            "metadata": {"name": NAME, "labels": labels},
            "addressType": f"IPv{version}",
            "endpoints": endpoints if self._address else [],
            "ports": [{"name": "https", "port": self._port, "protocol": "TCP"}],
        }


def advertised(host: str) -> str:
    """Return the address by which others reach what listens on `host`; "" if nobody does."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""  # a name: whom it leads to depends on who asks
    if address.is_loopback:
        return ""
    if not address.is_unspecified:
        return host
    family, somewhere = _SOMEWHERE[address.version]
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((somewhere, 9))
        own = str(probe.getsockname()[0])
        return "" if ipaddress.ip_address(own).is_loopback else own
    return ""


def _over(found: Any, wanted: Any) -> Any:
    """Return `found` with what is wanted of it; what the API filled in beside stays."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {**found, **wanted}
    return wanted
