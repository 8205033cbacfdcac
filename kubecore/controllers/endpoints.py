"""Keeps the Endpoints and EndpointSlices of services with selectors equal to the pods behind them.

Of services without one the Endpoints are somebody's own; their slices say the same.
A change of a pod is looked up among the services of its namespace; only services it touches are worked on. Pods are
followed from the first service that has a selector on: where there is none, their every report would be read for nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any, Self

from kubecore.controllers.endpoint_sets import (
    MANAGED_BY,
    MANAGER_LABEL,
    MIRRORED_BY,
    SERVICE_NAME,
    backends,
    endpoints_of,
    has_selector,
    mirrored_of,
    selects,
    shrink_pod,
    slices_of,
)
from kubecore.controllers.mirror import Mirror, builtin, key_of
from kubecore.controllers.passes import pass_after_changes
from kubecore.errors import ApiStatusError
from kubecore.objects.client import Objects

logger = logging.getLogger(__name__)

Object = dict[str, Any]
Key = tuple[str, str]
# Pods of one workload change together; one pass serves them.
SETTLE_S = 0.05
_MANAGERS = (MANAGED_BY, MIRRORED_BY)


class ServiceEndpoints:
    """Component: one pass over what was touched after each burst of changes."""

    name = "endpoints"

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._wake, self._needed = asyncio.Event(), asyncio.Event()
        self._dirty: set[Key] = set()
        self._gone: set[Key] = set()  # services whose Endpoints go too
        self._by_namespace: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        wake = self._wake.set
        self._endpoints_kind = builtin(objects, "", "endpoints")
        self._slices_kind = builtin(objects, "discovery.k8s.io", "endpointslices")
        self._services = Mirror(
            objects, builtin(objects, "", "services"), wake, on_object=self._on_service
        )
        self._pods = Mirror(
            objects,
            builtin(objects, "", "pods"),
            wake,
            shrink=shrink_pod,
            on_object=self._on_pod,
        )
        self._endpoints = Mirror(objects, self._endpoints_kind, wake, on_object=self._on_endpoints)
        self._slices = Mirror(objects, self._slices_kind, wake, on_object=self._on_slice)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            for mirror in (self._services, self._endpoints, self._slices):
                group.create_task(mirror.run(), name=self.name)
            group.create_task(self._follow_pods(), name=self.name)
            await pass_after_changes(
                "endpoints", self._wake, self._is_synced, self._pass, settle_s=SETTLE_S
            )

    async def _follow_pods(self) -> None:
        await self._needed.wait()
        await self._pods.run()

    def _is_synced(self) -> bool:
        followed = not self._needed.is_set() or self._pods.synced
        rest = (self._services, self._endpoints, self._slices)
        return followed and all(mirror.synced for mirror in rest)

    # -- what changed

    def _on_service(self, before: Object | None, after: Object | None) -> None:
        self._touch(before, after)
        if before is not None and after is None:
            self._gone.add(key_of(before))
        if after is not None and has_selector(after):
            self._needed.set()

    def _on_pod(self, before: Object | None, after: Object | None) -> None:
        some = after or before
        if before == after or some is None:
            return
        namespace, name = key_of(some)
        if after is None:
            self._by_namespace[namespace].pop(name, None)
        else:
            self._by_namespace[namespace][name] = after
        for service in list(self._services.objects.values()):
            if service["metadata"]["namespace"] != namespace:
                continue
            if any(pod is not None and selects(service, pod) for pod in (before, after)):
                self._dirty.add(key_of(service))

    def _on_endpoints(self, before: Object | None, after: Object | None) -> None:
        self._touch(before, after)

    def _on_slice(self, before: Object | None, after: Object | None) -> None:
        for obj in (before, after):
            labels = (obj or {}).get("metadata", {}).get("labels") or {}
            if obj is not None and labels.get(MANAGER_LABEL) in _MANAGERS:
                self._dirty.add((obj["metadata"]["namespace"], labels.get(SERVICE_NAME, "")))

    def _touch(self, before: Object | None, after: Object | None) -> None:
        some = after or before
        if some is not None:
            self._dirty.add(key_of(some))

    # -- what is done

    async def _pass(self) -> bool:
        """Work off what was touched; return whether a write failed that may pass later."""
        dirty, self._dirty = self._dirty, set()
        slices: defaultdict[Key, list[Object]] = defaultdict(list)
        for one in self._slices.objects.values() if dirty else ():
            labels = one["metadata"].get("labels") or {}
            if labels.get(MANAGER_LABEL) in _MANAGERS:
                slices[one["metadata"]["namespace"], labels.get(SERVICE_NAME, "")].append(one)
        failed = False
        for key in sorted(dirty):
            try:
                await self._tend(key, slices[key])
            except ApiStatusError as exc:
                # 404, 409: it went or changed meanwhile, and its event is on its way.
                if exc.status not in (403, 404, 409):
                    self._dirty.add(key)
                    failed = True
                logger.debug("endpoints %s/%s: %s", *key, exc)
        return failed

    async def _tend(self, key: Key, slices: list[Object]) -> None:
        service = self._services.objects.get(key)
        if service is None or "deletionTimestamp" in service["metadata"]:
            # As upstream also those that somebody wrote; slices go with their owner.
            if service is None and key in self._gone and key in self._endpoints.objects:
                await self._objects.delete(self._endpoints_kind, *key)
            self._gone.discard(key)
            return
        if not has_selector(service):
            own = self._endpoints.objects.get(key)
            await self._write_slices(key[0], slices, mirrored_of(own) if own else [])
            return
        pods = [p for p in self._by_namespace[key[0]].values() if selects(service, p)]
        found = backends(service, pods)
        await self._write_endpoints(key, endpoints_of(service, found))
        await self._write_slices(key[0], slices, slices_of(service, found))

    async def _write_endpoints(self, key: Key, wanted: Object) -> None:
        present = self._endpoints.objects.get(key)
        if present is None:
            await self._objects.create(self._endpoints_kind, key[0], wanted)
            return
        changed = {k: v for k, v in present.items() if k != "subsets"} | wanted
        changed["metadata"] = {**present["metadata"], **wanted["metadata"]}
        if changed != present:
            await self._objects.update(self._endpoints_kind, *key, changed)

    async def _write_slices(
        self, namespace: str, present: list[Object], wanted: list[Object]
    ) -> None:
        """Change as few slices as possible: equal ones stay, others are taken over by those that are new."""
        missing = []
        left = list(present)
        for one in wanted:
            same = next((p for p in left if _over(p, one) == p), None)
            if same is not None:
                left.remove(same)
            else:
                missing.append(one)
        for one in missing:
            reused = next((p for p in left if p["addressType"] == one["addressType"]), None)
            if reused is None:
                await self._objects.create(self._slices_kind, namespace, one)
            else:
                left.remove(reused)
                await self._objects.update(self._slices_kind, *key_of(reused), _over(reused, one))
        for one in left:
            await self._objects.delete(self._slices_kind, *key_of(one))


def _over(present: Object, wanted: Object) -> Object:
    """Return `present` with what is wanted of it; its name stays."""
    metadata = {k: v for k, v in wanted["metadata"].items() if k != "generateName"}
    return {**present, **wanted, "metadata": {**present["metadata"], **metadata}}
