"""What every namespace has: the service account `default`, and the ConfigMap by which pods know this server."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Self

from corekit.errors import SETTINGS, ConfigError
from kubecore.controllers.mirror import RELIST_DELAY_S, builtin
from kubecore.errors import ApiStatusError
from kubecore.kinds.resource import Resource
from kubecore.objects.client import Objects

logger = logging.getLogger(__name__)

Object = dict[str, Any]
ROOT_CA = "kube-root-ca.crt"
_ABOUT = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as "
    "the internal service IP or kubernetes.default.svc."
)


class NamespaceDefaults:
    """Component: give every namespace both, on enter and whenever one is new, gone or changed."""

    name = "namespacedefaults"

    def __init__(self, objects: Objects, root_ca_file: Path) -> None:
        self._objects, self._root_ca_file = objects, root_ca_file
        self._namespaces = builtin(objects, "", "namespaces")
        self._accounts = builtin(objects, "", "serviceaccounts")
        self._config_maps = builtin(objects, "", "configmaps")
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            self._root_ca = self._root_ca_file.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            problem = f"{self._root_ca_file} cannot be read: {exc}"
            raise ConfigError(SETTINGS, "accounts.root_ca_file", problem) from exc
        await self._pass()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(self._namespaces, ""))
            group.create_task(self._follow(self._accounts, "metadata.name=default"))
            group.create_task(self._follow(self._config_maps, f"metadata.name={ROOT_CA}"))
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._pass()

    async def _follow(self, resource: Resource, selector: str) -> None:
        """Wake the pass at every change of what is selected."""
        while True:
            try:
                _, version = await self._objects.list(resource, field_selector=selector)
                self._wake.set()
                async for _ in self._objects.watch(
                    resource, resource_version=version, field_selector=selector
                ):
                    self._wake.set()
            except ApiStatusError:  # 410: too far behind; 500: the store failed
                await asyncio.sleep(RELIST_DELAY_S)

    async def _pass(self) -> None:
        namespaces, _ = await self._objects.list(self._namespaces)
        for namespace in namespaces:
            if "deletionTimestamp" not in namespace["metadata"]:
                name = namespace["metadata"]["name"]
                await self._ensure(self._accounts, name, {"metadata": {"name": "default"}})
                await self._ensure(self._config_maps, name, self._bundle())

    def _bundle(self) -> Object:
        annotations = {"kubernetes.io/description": _ABOUT}
        metadata = {"name": ROOT_CA, "annotations": annotations}
        return {"metadata": metadata, "data": {"ca.crt": self._root_ca}}

    async def _ensure(self, resource: Resource, namespace: str, wanted: Object) -> None:
        name = wanted["metadata"]["name"]
        try:
            found = await self._objects.get(resource, namespace, name)
            if "data" in wanted and found.get("data") != wanted["data"]:
                changed = {**found, "data": wanted["data"]}
                await self._objects.update(resource, namespace, name, changed)
        except ApiStatusError as exc:
            if exc.status == 404:
                await self._create(resource, namespace, wanted)
            else:  # changed meanwhile: its event is on its way
                logger.debug("%s %s/%s: %s", resource.kind, namespace, name, exc)

    async def _create(self, resource: Resource, namespace: str, wanted: Object) -> None:
        try:
            await self._objects.create(resource, namespace, wanted)
        except ApiStatusError as exc:
            if exc.status not in (403, 404, 409):  # there already, or its namespace is going
                raise
