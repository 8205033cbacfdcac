"""Keeps a mirror pod in the cluster for each static pod: made, made again, and taken away by the cloud."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgecore.edged.pods.staticpods import MIRROR_ANNOTATION, mirror_body
from edgecore.edged.spec.podspec import decode_identity
from edgecore.records import Commit, RecordStore, Report, StoredObject
from synccore.messages import Lane, ObjectKey, Op

# A wish that was not met (the cloud lost it, or refused it for now) is told again, at this pace.
ASK_AGAIN_S = 60.0
_MARK = f'"{MIRROR_ANNOTATION}"'.encode()


def is_mirror(stored: StoredObject) -> bool:
    """Return whether `stored` is a mirror pod: it says what runs here and asks for nothing."""
    return _MARK in stored.body and bool(_mirrored(stored))


class Mirrors:
    """The mirrors of one node's static pods.

    Shapes:  pods: the static pods now, by their key. link: told (static uid, mirror uid or "").
    """

    def __init__(
        self,
        store: RecordStore,
        pods: Callable[[], Mapping[ObjectKey, StoredObject]],
        link: Callable[[str, str], None],
        clock: Callable[[], float],
    ) -> None:
        self._store, self._pods, self._link, self._clock = store, pods, link, clock
        self._records: dict[tuple[str, str], StoredObject] = {}  # mirrors by namespace and name
        self._asked: dict[tuple[str, str], float] = {}

    def take(self, key: ObjectKey, stored: StoredObject | None) -> bool:
        """Take a Pod record; return whether it is, or was, a mirror's."""
        place = (key.namespace, key.name)
        if stored is not None and is_mirror(stored):
            self._records[place] = stored
            return True
        known = self._records.pop(place, None)
        if known is not None:
            self._asked.pop(place, None)
        return known is not None and stored is None

    async def settle(self) -> None:
        """Tell the cloud what is missing, old or too much; and each pod whose status it has."""
        now_s, reports = self._clock(), []
        pods = {(key.namespace, key.name): stored for key, stored in self._pods().items()}
        for place, stored in pods.items():
            record = self._records.get(place)
            meta = decode_identity(record.body) if record is not None else None
            good = meta is not None and _mirrored(record) == stored.uid
            self._link(stored.uid, record.uid if record is not None and good else "")
            if good and meta is not None and not meta.deletion_timestamp:
                self._asked.pop(place, None)
            elif self._due(place, now_s):
                if record is not None and meta is not None and meta.deletion_timestamp:
                    # Deleting the mirror does not end the pod: let it go, and make another one.
                    key = ObjectKey("Pod", *place)
                    reports.append(Report(key, record.uid, b"", Lane.PODS, Op.TOMBSTONE))
                else:
                    body = mirror_body(stored)
                    reports.append(Report(_mirror_key(place), stored.uid, body, Lane.PODS))
        for place in self._records.keys() - pods.keys():
            if self._due(place, now_s):
                uid = self._records[place].uid
                reports.append(Report(_mirror_key(place), uid, b"", Lane.PODS, Op.TOMBSTONE))
        for place in self._asked.keys() - pods.keys() - self._records.keys():
            del self._asked[place]
        if reports:
            await self._store.commit(Commit(reports=reports))

    def ask_again(self) -> None:
        """Forget what was asked: the next `settle` asks for all that is missing."""
        self._asked.clear()

    def _due(self, place: tuple[str, str], now_s: float) -> bool:
        asked_s = self._asked.get(place)
        if asked_s is not None and 0 <= now_s - asked_s < ASK_AGAIN_S:
            return False
        self._asked[place] = now_s
        return True


def _mirrored(stored: StoredObject | None) -> str:
    meta = decode_identity(stored.body) if stored is not None else None
    return meta.annotations.get(MIRROR_ANNOTATION, "") if meta is not None else ""


def _mirror_key(place: tuple[str, str]) -> ObjectKey:
    return ObjectKey("MirrorPod", *place)
