"""Pods that wait for what they refer to: a node gets a new pod after the ConfigMaps and Secrets that exist. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from synccore.messages import ObjectKey


class HeldBack:
    """Which owners wait for which keys."""

    def __init__(self) -> None:
        self._waiting: dict[ObjectKey, set[ObjectKey]] = {}
        self._awaited: dict[ObjectKey, set[ObjectKey]] = {}

    def hold(self, owner: ObjectKey, keys: Iterable[ObjectKey]) -> None:
        """Let `owner` wait for all of `keys` (at least one)."""
        self._waiting[owner] = set(keys)
        for key in self._waiting[owner]:
            self._awaited.setdefault(key, set()).add(owner)

    def also(self, owner: ObjectKey, key: ObjectKey) -> None:
        """Let an owner that waits wait for `key` too."""
        self._waiting[owner].add(key)
        self._awaited.setdefault(key, set()).add(owner)

    def holds(self, owner: ObjectKey) -> bool:
        """Tell whether `owner` waits."""
        return owner in self._waiting

    def awaits(self, key: ObjectKey) -> bool:
        """Tell whether somebody waits for `key`."""
        return key in self._awaited

    def settle(self, key: ObjectKey) -> list[ObjectKey]:
        """Note that `key` is known now, or known not to exist; return the owners that wait no longer."""
        free = []
        for owner in self._awaited.pop(key, ()):
            keys = self._waiting[owner]
            keys.discard(key)
            if not keys:
                del self._waiting[owner]
                free.append(owner)
        return free

    def release(self, owner: ObjectKey) -> bool:
        """Let `owner` wait no longer; return whether it did."""
        keys = self._waiting.pop(owner, None)
        for key in keys or ():
            owners = self._awaited[key]
            owners.discard(owner)
            if not owners:
                del self._awaited[key]
        return keys is not None
