"""The labels and taints of this node's own Node object: asked of the cloud, kept for when it cannot be asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from edgecore.edged.admission.book import AdmissionBook
from edgecore.records import Commit, RecordStore, Uplink
from synccore.asking import AskError

logger = logging.getLogger(__name__)

OWNER, KEY = "edged-node", "facts"  # of what is kept with Commit.local
KIND = "Node"
REFRESH_S = (
    60.0  # a label that somebody gives the node is known this soon, without any pod that needs it
)
CHECK_S = 1.0
# Said of a node that cannot be reached; one that hears of it can be reached again.
_ABOUT_SILENCE = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")


class _Facts(msgspec.Struct):
    labels: dict[str, str]
    taints: list[dict[str, str]]


_decoder = msgspec.json.Decoder(_Facts)


class NodeFactsKeeper:
    """Keeps the book's knowledge of the node; without any, labels and taints refuse nobody."""

    def __init__(
        self,
        store: RecordStore,
        uplink: Uplink | None,
        book: AdmissionBook,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._uplink, self._book, self._clock = store, uplink, book, clock
        self._kept = b""

    async def load(self) -> None:
        """Take what was kept."""
        kept = (await self._store.local(OWNER)).get(KEY, b"")
        if kept:
            self._take(kept)

    async def run(self) -> None:
        """Ask on each connecting, and now and then; until cancelled."""
        asked_s, was_connected = float("-inf"), False
        while self._uplink is not None:
            connected = self._uplink.connected
            if connected and (not was_connected or self._clock() - asked_s >= REFRESH_S):
                asked_s = self._clock()
                connected = await self.refresh()  # if it failed, the next look counts as a new link
            was_connected = connected
            await asyncio.sleep(CHECK_S)

    async def refresh(self) -> bool:
        """Ask now; return whether there was an answer. Raises: StoreError."""
        if self._uplink is None or not self._uplink.connected:
            return False
        try:
            answer = await self._uplink.ask(KIND, b"{}")
        except AskError as exc:  # not registered yet, or an older cloudcore
            logger.debug("labels and taints of the node not known: %s", exc)
            return False
        if answer != self._kept and self._take(answer):
            await self._store.commit(Commit(local={(OWNER, KEY): answer}))
        return True

    def _take(self, answer: bytes) -> bool:
        try:
            facts = _decoder.decode(answer)
        except msgspec.DecodeError as exc:
            logger.warning("labels and taints of the node do not decode: %s", exc)
            return False
        self._kept = answer
        taints = [taint for taint in facts.taints if taint.get("key") not in _ABOUT_SILENCE]
        self._book.know_node(facts.labels, taints)
        return True
