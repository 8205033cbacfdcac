"""Keeps what is used of each quota in its status, for people; the refusals do not depend on it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Self

from kubecore.controllers.mirror import builtin
from kubecore.errors import ApiStatusError
from kubecore.objects.client import Objects
from kubecore.objects.quotas import QUOTAS, QuotaUsage, shown
from kubecore.storage.store import Change, Store

logger = logging.getLogger(__name__)

Object = dict[str, Any]
# Objects come in bursts; one count serves them.
SETTLE_S = 0.05
RETRY_S = 1.0


class QuotaStatus:
    """Component: count again in namespaces where something changed, if they have quotas."""

    name = "quotastatus"

    def __init__(self, store: Store, objects: Objects, usage: QuotaUsage) -> None:
        self._store, self._objects, self._usage = store, objects, usage
        self._quotas = builtin(objects, "", QUOTAS)
        self._limited: set[str] = set()  # namespaces that have quotas
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._store.listen(self._on_change)
        self._limited = {entry.namespace for entry in self._store.entries(QUOTAS)}
        self._dirty = set(self._limited)
        self._wake.set()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(SETTLE_S)
            self._wake.clear()
            if await self._pass():
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    def _on_change(self, change: Change) -> None:
        entry = change.entry
        if change.type == "DELETED":
            self._usage.forget(change.storage, entry.namespace, entry.name)
        if change.storage == QUOTAS and change.type == "ADDED":
            self._limited.add(entry.namespace)
        # Events come by the hundred, and no quota is told of by their changes.
        if entry.namespace in self._limited and change.storage != "events":
            self._dirty.add(entry.namespace)
            self._wake.set()

    async def _pass(self) -> bool:
        """Count in every namespace that was touched; return whether a write failed that may pass later."""
        dirty, self._dirty = self._dirty, set()
        failed = False
        for namespace in sorted(dirty):
            quotas = self._usage.quotas(namespace)
            if not quotas:
                self._limited.discard(namespace)
            for quota in quotas:
                try:
                    await self._report(quota)
                except ApiStatusError as exc:
                    # 404, 409: it went or changed meanwhile, and its event is on its way.
                    if exc.status not in (404, 409):
                        self._dirty.add(namespace)
                        failed = True
                    logger.debug("quota %s: %s", quota["metadata"]["name"], exc)
        return failed

    async def _report(self, quota: Object) -> None:
        used = {name: shown(name, amount) for name, amount in self._usage.used(quota).items()}
        status = {"hard": dict(quota["spec"].get("hard") or {}), "used": used}
        if quota.get("status") == status:
            return
        meta = quota["metadata"]
        changed = {**quota, "status": status}
        await self._objects.update(
            self._quotas, meta["namespace"], meta["name"], changed, subresource="status"
        )
