"""Which history of the API server's data we are in, for all reflectors of one server.

A resourceVersion counts for every kind of one store. So a list that is older than what any reflector has seen tells that
the store was restored from a backup; and then what every kind was told since the backup is another history's.
"""

from __future__ import annotations

import asyncio


class History:
    """The newest resourceVersion that anybody has seen, and how often the server began again from an older one."""

    def __init__(self) -> None:
        self.newest = 0
        self.newest_object = 0
        self.restores = 0
        self._restored = asyncio.Event()

    def saw(self, version: str) -> None:
        """Note a version of a list, an event or a bookmark; one that is no number says nothing."""
        if version.isdecimal():
            self.newest = max(self.newest, int(version))

    def saw_object(self, version: str) -> None:
        """Note the version of an object, which every process that follows the same kinds comes to see.

        Lists and bookmarks have later ones, at other moments for each process.
        """
        if version.isdecimal():
            self.newest_object = max(self.newest_object, int(version))

    def restored(self, version: str) -> None:
        """Begin again at `version`: whoever follows a kind must list it."""
        self.newest = int(version)
        self.newest_object = min(self.newest_object, self.newest)
        self.restores += 1
        self._restored.set()
        self._restored = asyncio.Event()

    async def until_restored(self, restores: int) -> None:
        """Return once there were more than `restores`."""
        while self.restores <= restores:
            await self._restored.wait()
