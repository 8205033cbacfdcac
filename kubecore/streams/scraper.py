"""Reads the use of all nodes from their kubelets, for as long as somebody asks for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Self

from kubecore.errors import ApiStatusError
from kubecore.storage.store import Store
from kubecore.streams.kubelet import KubeletClient, endpoint_of
from kubecore.streams.resource_metrics import NodeUsage, Page, parse_page, usage_between

logger = logging.getLogger(__name__)

PERIOD_S = 15.0
# Who asks first waits this long: use is a difference of two readings.
FIRST_GAP_S = 2.0
FIRST_WAIT_S = 20.0
# Nobody asked for so long: stop reading, and forget.
IDLE_S = 300.0
SCRAPE_S = 10.0
AT_ONCE = 16
MAX_PAGE_BYTES = 4 << 20


class Scraper:
    """Component: sleep until `usage` is asked for, then read every 15 s until it is not any more."""

    name = "scraper"

    def __init__(
        self,
        store: Store,
        kubelets: KubeletClient,
        *,
        period_s: float = PERIOD_S,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._kubelets = store, kubelets
        self._period_s, self._clock = period_s, steady_clock
        self._asked_at_s = -IDLE_S
        self._wake, self._ready = asyncio.Event(), asyncio.Event()
        self._pages: dict[str, Page] = {}
        self._usage: dict[str, NodeUsage] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Nothing to release."""

    async def usage(self) -> dict[str, NodeUsage]:
        """Return the use of every node that could be read, by name; the first call waits for two readings."""
        self._asked_at_s = self._clock()
        self._wake.set()
        try:
            async with asyncio.timeout(FIRST_WAIT_S):
                await self._ready.wait()
        except TimeoutError:
            logger.warning("no node's use could be read in %.0f s", FIRST_WAIT_S)
        return self._usage

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._scrape()
            await asyncio.sleep(FIRST_GAP_S)
            while self._clock() - self._asked_at_s < IDLE_S:
                await self._scrape()
                self._ready.set()
                await asyncio.sleep(self._period_s)
            self._ready.clear()
            self._pages, self._usage = {}, {}

    async def _scrape(self) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        names = [entry.name for entry in self._store.entries("nodes")]
        for gone in self._pages.keys() - set(names):
            self._pages.pop(gone)
        for gone in self._usage.keys() - set(names):
            self._usage.pop(gone)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._scrape_node(name, slots))

    async def _scrape_node(self, name: str, slots: asyncio.Semaphore) -> None:
        try:
            async with slots, asyncio.timeout(SCRAPE_S):
                page = await self._read(name)
        except (ApiStatusError, TimeoutError) as exc:
            logger.debug("node %s: use not read: %s", name, exc)
            self._usage.pop(name, None)
            self._pages.pop(name, None)
            return
        before = self._pages.get(name)
        self._pages[name] = page
        if before is not None and (usage := usage_between(before, page)):
            self._usage[name] = usage

    async def _read(self, name: str) -> Page:
        entry = self._store.get("nodes", "", name)
        if entry is None:
            return Page()
        path = "/metrics/resource"
        plain = {"Accept-Encoding": "identity"}
        endpoint = endpoint_of(entry.parse())
        async with self._kubelets.request(endpoint, "GET", path, headers=plain) as answer:
            if answer.status != 200:
                raise ApiStatusError(502, "InternalError", f"{path} answered {answer.status}")
            raw = b""
            async for chunk in answer.content.iter_any():
                raw += chunk
                if len(raw) > MAX_PAGE_BYTES:
                    problem = f"{path} is larger than {MAX_PAGE_BYTES} bytes"
                    raise ApiStatusError(502, "InternalError", problem)
        return parse_page(raw.decode("utf-8", "replace"), time.time())
