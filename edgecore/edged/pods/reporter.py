"""What one pod tells: its status, its Events and its memory, gathered and made durable together."""

from __future__ import annotations

from typing import Any

import msgspec

from edgecore.edged.machine.memory import PodMemory
from edgecore.edged.pods.events import EventSubject
from edgecore.edged.pods.site import OWNER, Site
from edgecore.records import Commit, Report
from synccore.messages import Lane, ObjectKey, Op


class PodReporter:
    """Reports of one pod; nothing is committed that did not change."""

    def __init__(self, site: Site, uid: str, memory: PodMemory, stored: bytes = b"") -> None:
        self._site, self._uid, self._memory = site, uid, memory
        self._stored = stored
        self._pending: list[Report] = []
        self.reports_as = uid  # of a static pod: its mirror's, "" while there is none
        self._subject = EventSubject("Pod", memory.namespace, memory.name, uid)

    def emit(self, reason: str, message: str, container: str = "", warning: bool = False) -> None:  # noqa: FBT001, FBT002
        """Queue an Event; the next `flush` sends it."""
        inits = self._memory.init_names
        kind = "initContainers" if container in inits else "containers"
        field = f"spec.{kind}{{{container}}}" if container else ""
        event = self._site.recorder.event(
            self._subject, reason, message, warning=warning, field=field
        )
        if event is not None:
            self._pending.append(event)

    async def flush(self, status: dict[str, Any] | None = None) -> None:
        """Commit the queued Events, the memory if it changed, and `status` if it differs from the last one."""
        memory, reports = self._memory, self._pending
        if status is not None and status != memory.status:
            memory.status = status
            if self.reports_as:
                body = msgspec.json.encode({"status": status})
                reports = [*reports, Report(self._key, self.reports_as, body, Lane.PODS)]
        note = msgspec.json.encode(memory)
        if not reports and note == self._stored:
            return
        self._pending = []
        await self._site.store.commit(Commit(reports=reports, local={(OWNER, self._uid): note}))
        self._stored = note

    def report_again(self) -> None:
        """Queue the newest status although it was reported before; the next `flush` sends it."""
        if self._memory.ended:
            self._pending.append(self._tombstone())
        elif self._memory.status and self.reports_as:
            body = msgspec.json.encode({"status": self._memory.status})
            self._pending.append(Report(self._key, self.reports_as, body, Lane.PODS))

    def _tombstone(self) -> Report:
        # With the last status in it: the outbox keeps one row per key, and the end would hide the exit codes.
        body = msgspec.json.encode({"status": self._memory.status}) if self._memory.status else b""
        return Report(self._key, self._uid, body, Lane.PODS, Op.TOMBSTONE)

    async def end(self) -> None:
        """Tell the cloud that the pod is gone from here."""
        self._memory.ended = True
        tombstone = self._tombstone()
        self._pending.append(tombstone)
        await self.flush()

    async def forget(self) -> None:
        """Drop the pod's memory: its record is gone, and so is everything that ran."""
        await self._site.store.commit(
            Commit(reports=self._pending, local={(OWNER, self._uid): None})
        )
        self._pending, self._stored = [], b""

    @property
    def _key(self) -> ObjectKey:
        return ObjectKey("Pod", self._memory.namespace, self._memory.name)
