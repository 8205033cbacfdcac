"""What edgecore's parts share about records: stored objects, reports to the cloud, and the store's seam.

`metamanager` implements `RecordStore`; `edged` and `devicetwin` use it; none of them sees SQL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from synccore.messages import Delta, Lane, ObjectKey, Op

# Key of every outbox row whose body is a block of readings and not JSON.
SAMPLE_BLOCK = ObjectKey("SampleBlock", "", "")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object this node must hold, as cloudcore last sent it.

    Shapes:  body: JSON of the Kubernetes object without status, managedFields and resourceVersion.
    """

    key: ObjectKey
    uid: str
    version: int
    body: bytes


class Report(NamedTuple):
    """One thing the edge tells the cloud: the newest state of `key`, its end, or one log entry.

    Shapes:  body: JSON; empty in a TOMBSTONE.
    """

    key: ObjectKey
    uid: str
    body: bytes
    lane: Lane
    op: Op = Op.UPSERT


class OutboxRow(NamedTuple):
    """A report that waits for its acknowledgement; `version` grows with every change in one database."""

    report: Report
    version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What becomes durable together, or not at all.

    Shapes:  local: (owner, key) -> bytes, or None to delete; a component's own notes that survive a restart.
    """

    deltas: Sequence[Delta] = ()
    reports: Sequence[Report] = ()
    local: Mapping[tuple[str, str], bytes | None] = field(default_factory=dict)


class ChangeFeed(Protocol):
    """Keys that changed since the last call; bounded by the number of keys, because it coalesces."""

    async def changed(self) -> set[ObjectKey]:
        """Wait until at least one key changed; return all that did, and forget them."""


class RecordStore(Protocol):
    """The node's durable memory."""

    async def commit(self, commit: Commit) -> None:
        """Return once `commit` is durable (fsync). Raises: StoreError."""

    async def get(self, key: ObjectKey) -> StoredObject | None:
        """Return the stored object, or None."""

    async def list(self, kind: str) -> list[StoredObject]:
        """Return all stored objects of `kind`, sorted by key."""

    async def local(self, owner: str) -> dict[str, bytes]:
        """Return everything `owner` has stored with `Commit.local`."""

    def feed(self, *kinds: str) -> ChangeFeed:
        """Return a feed of changes of `kinds` from now on (tombstones too). It lives as long as the store."""


class Uplink(Protocol):
    """The hub, as seen by those who have something to say that is worthless later (a lease renewal)."""

    @property
    def connected(self) -> bool:
        """Whether a session is live now."""

    def on_report_all(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the cloud wants every state again: the cluster had given this node up."""

    def offer(self, report: Report) -> None:
        """Send `report` if a session is live, newest per key; forget it otherwise. Never blocks."""

    async def ask(self, kind: str, body: bytes) -> bytes:
        """Return cloudcore's answer to one question (docs/protocol.md, section 10).

        Raises:  AskError: no session is live or it ended, the deadline of 30 s passed, or the answer is a refusal.
        """
