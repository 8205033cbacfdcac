"""Makes frames of the cloud durable, and sets aside the records that this node cannot keep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from corekit.errors import StoreError
from corekit.logs import RepeatedFault, log_change
from edgecore.edgehub.horizon import Horizon
from edgecore.records import Commit, Report
from synccore.edge_session import Converged
from synccore.messages import Delta, Op
from synccore.session import Acknowledged, Received

logger = logging.getLogger(__name__)

# What this release keeps (docs/protocol.md, section 5).
KINDS = frozenset(
    {
        *("Pod", "ConfigMap", "Secret", "PersistentVolumeClaim", "PersistentVolume"),
        *("Service", "RuntimeClass", "Device", "DeviceModel"),
    }
)
# A full disk is looked at again this often; the frame waits, and the window bounds what waits behind it.
RETRY_S = 1.0

# Of frames that go into one commit: enough for a window of small ones, and no pause for whoever else writes.
MAX_TOGETHER_BYTES = 1 << 20
MAX_TOGETHER = 64

# What waits for the disk, in order: frames, acknowledgements of what this node sent, and that all has come.
ToApply = Received | Acknowledged | Converged


def take_together(first: ToApply, queue: asyncio.Queue[ToApply]) -> list[ToApply]:
    """Return `first` and what waits behind it, as far as one commit should hold it; `Converged` is last."""
    together, size_bytes = [first], _size_bytes(first)
    while not queue.empty() and not isinstance(together[-1], Converged):
        if len(together) == MAX_TOGETHER or size_bytes >= MAX_TOGETHER_BYTES:
            break
        together.append(queue.get_nowait())
        size_bytes += _size_bytes(together[-1])
    return together


def _size_bytes(event: ToApply) -> int:
    return sum(len(delta.body) for delta in event.deltas) if isinstance(event, Received) else 0


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Committing(Protocol):
    """The store, as far as frames need it."""

    async def commit(self, commit: Commit) -> None:
        """Return once durable. Raises: StoreError."""


class Rejection(NamedTuple):
    """A record that was set aside, and why."""

    delta: Delta
    reason: str


# Makes the Event that tells the cluster of a rejection; None if there have been too many lately.
EventOf = Callable[[Rejection], Report | None]


class Applier:
    """Stores deltas; one that cannot be stored does not hold up the others, whatever is wrong with it."""

    def __init__(
        self, store: Committing, event_of: EventOf | None, horizon: Horizon | None = None
    ) -> None:
        self._store, self._event_of, self._horizon = store, event_of, horizon
        self._fault = RepeatedFault(logger, "edgehub: storing what the cloud sent")

    async def apply(self, deltas: Sequence[Delta], horizon: int = 0) -> list[Rejection]:
        """Return once `deltas` are durable, with those that were set aside; their Events are durable too.

        Shapes:  horizon: the furthest of the frames that they come from; becomes durable with them.
        Raises:  StoreError: the store is broken, not a record.
        """
        rejected = [Rejection(d, problem) for d in deltas if (problem := problem_of(d))]
        bad = {id(rejection.delta) for rejection in rejected}
        rejected += await self._store_all([d for d in deltas if id(d) not in bad], horizon)
        for delta in deltas:
            log_change(logger, "applied", delta.key, delta.change_id)
        for rejection in rejected:
            delta = rejection.delta
            logger.warning(
                "edgehub: %s set aside: %s",
                str(delta.key)[:300],
                rejection.reason,
                extra={"change": f"{delta.change_id:x}"},
            )
        events = [self._event_of(rejection) for rejection in rejected] if self._event_of else []
        if reports := [event for event in events if event is not None]:
            await self._commit(Commit(reports=reports))
        return rejected

    async def _store_all(self, deltas: Sequence[Delta], horizon: int) -> list[Rejection]:
        if not deltas:
            return []
        try:
            note = self._horizon.note(horizon) if self._horizon else {}
            await self._commit(Commit(deltas=deltas, local=note))
        except StoreError as exc:
            if type(exc) is not StoreError:  # its leaves are about the file, not about a record
                raise
        else:
            if self._horizon:
                self._horizon.stored(horizon)
            return []
        rejected = []
        for delta in deltas:
            try:
                await self._commit(Commit(deltas=[delta]))
            except StoreError as exc:
                if type(exc) is not StoreError:
                    raise
                await self._commit(
                    Commit(local={("edgehub", "rejected"): b"1"})
                )  # if that fails too, it is the store
                rejected.append(Rejection(delta, str(exc)))
        return rejected

    async def _commit(self, commit: Commit) -> None:
        while True:
            try:
                await self._store.commit(commit)
            except StoreError as exc:
                if not exc.retryable:
                    raise
                self._fault.failed(exc)
                await asyncio.sleep(RETRY_S)
            else:
                self._fault.cleared()
                return


def problem_of(delta: Delta) -> str:
    """Return why this node cannot keep `delta`, or nothing."""
    if delta.op in (Op.TOMBSTONE, Op.FORGET):
        return ""
    if delta.op is not Op.UPSERT:
        return f"operation {delta.op.name} has no meaning here"
    if delta.key.kind not in KINDS:
        return f"kind {delta.key.kind[:63]!r} is not known to this release"
    try:
        _object.decode(delta.body)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        return f"its body is not a JSON object: {exc}"
    return ""
