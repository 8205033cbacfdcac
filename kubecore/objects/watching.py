"""The watch hub: a bounded history of changes, and a bounded queue per watcher.

A watcher that falls behind is closed and starts again from where it was; nobody waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self

from kubecore.errors import ApiStatusError, gone
from kubecore.storage.store import Change, Object, Store, StoredObject

# History kept for watchers that resume: minutes of a busy cluster, hours of a quiet one.
MAX_HISTORY_EVENTS = 8192
MAX_HISTORY_BYTES = 16 << 20
# A watcher this far behind is stuck or dead; 1,000 watchers times this bound what they can hold.
MAX_QUEUED_EVENTS = 4096

Selects = Callable[[Object], bool]


class Subscription:
    """One watcher: an async iterator of changes as the watcher sees them.

    Leaving the selection is a DELETED, entering it an ADDED. Use it as a context manager.
    """

    def __init__(
        self, hub: WatchHub, storage: str, namespace: str, selects: Selects | None
    ) -> None:
        self.storage, self._namespace, self._selects, self._hub = storage, namespace, selects, hub
        self._queue: deque[Change] = deque()
        self._wake = asyncio.Event()
        self._error: ApiStatusError | None = None
        self._closed = False
        self.on_overrun: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._hub.add(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._hub.discard(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._queue:
            if self._error:
                raise self._error
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    async def batch(self, timeout_s: float) -> list[Change] | None:
        """Return all changes there are, waiting up to `timeout_s` for the first; None at the end.

        Raises:  ApiStatusError 410: the watcher fell behind.
        """
        if not self._queue and not self._error and not self._closed:
            self._wake.clear()
            try:
                async with asyncio.timeout(max(timeout_s, 0)):
                    await self._wake.wait()
            except TimeoutError:
                return []
        if self._error:
            raise self._error
        changes, self._queue = list(self._queue), deque()
        return changes if changes or not self._closed else None

    def offer(self, change: Change) -> None:
        """Queue `change` if the watcher selects it, before or after."""
        seen = self._seen(change)
        if seen is None or self._error:
            return
        if len(self._queue) >= MAX_QUEUED_EVENTS:
            self._error = gone("the watcher is too slow; list again")
            self._queue.clear()
            self.on_overrun()
        else:
            self._queue.append(seen)
        self._wake.set()

    def close(self) -> None:
        """End the watch after what is queued."""
        self._closed = True
        self._wake.set()

    def _seen(self, change: Change) -> Change | None:
        if self._namespace and change.entry.namespace != self._namespace:
            return None
        if self._selects is None:
            return change
        after = change.type != "DELETED" and self._selects(self._hub.parsed(change.entry))
        previous = change.previous
        before = previous is not None and self._selects(self._hub.parsed(previous))
        if after:
            kind = "MODIFIED" if before else "ADDED"
            return Change(
                "ADDED" if kind == "ADDED" else "MODIFIED", self.storage, change.entry, previous
            )
        if not before or previous is None:
            return None
        if change.type == "DELETED":
            return change
        # The last state that the watcher selected, at the revision at which it stopped doing so.
        left = StoredObject.encode(previous.parse(), change.entry.revision)
        return Change("DELETED", self.storage, left, previous)


class WatchHub:
    """History and watchers of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watchers: dict[str, list[Subscription]] = {}
        self._history: deque[Change] = deque()
        self._history_bytes = 0
        self._floor = 0  # every change after this revision is in the history
        self._parsed: dict[int, tuple[StoredObject, Object]] = {}

    def start(self) -> None:
        """Follow the store from its current revision; call it once, when the store is open."""
        self._floor = self._store.revision
        self._store.listen(self._on_change)

    def subscribe(
        self, storage: str, namespace: str, *, after: int, selects: Selects | None
    ) -> Subscription:
        """Return a watcher of every change after revision `after`.

        Raises:  ApiStatusError 410: the history does not reach back that far, or never was there.
        """
        if after < self._floor or after > self._store.revision:
            raise gone(f"too old resource version: {after} ({self._floor})")
        subscription = Subscription(self, storage, namespace, selects)
        if after < self._store.changed(storage):
            for change in self._history:
                if change.entry.revision > after and change.storage == storage:
                    subscription.offer(change)
        return subscription

    def add(self, subscription: Subscription) -> None:
        """Deliver changes to `subscription` from now on."""
        self._watchers.setdefault(subscription.storage, []).append(subscription)

    def discard(self, subscription: Subscription) -> None:
        """Stop delivering to `subscription`."""
        self._watchers[subscription.storage].remove(subscription)

    def close(self) -> None:
        """End every watch."""
        for watchers in self._watchers.values():
            for subscription in watchers:
                subscription.close()

    def parsed(self, entry: StoredObject) -> Object:
        """Return `entry` as a dict to look at, parsed once for all watchers of one change."""
        known = self._parsed.get(id(entry))
        if known is None:
            known = self._parsed[id(entry)] = (entry, entry.parse())
        return known[1]

    def _on_change(self, change: Change) -> None:
        self._history.append(change)
        self._history_bytes += len(change.entry.raw)
        while len(self._history) > MAX_HISTORY_EVENTS or self._history_bytes > MAX_HISTORY_BYTES:
            oldest = self._history.popleft()
            self._history_bytes -= len(oldest.entry.raw)
            self._floor = oldest.entry.revision
        for subscription in self._watchers.get(change.storage, ()):
            subscription.offer(change)
        self._parsed.clear()
