"""Kubernetes Events about pods and the node: counted, named deterministically, and rate-limited."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from corekit.timestamps import rfc3339
from edgecore.records import Commit, RecordStore, Report
from synccore.messages import Lane, ObjectKey

# kubelet's own spam filter: so many at once per object, then one each five minutes.
BURST = 25
REFILL_S = 300.0
# From the tenth different message of one reason within ten minutes on, they are told as one, as kubelet does.
MAX_SIMILAR = 10
SIMILAR_S = 600.0
COMBINED = "(combined from similar events): "
MAX_REMEMBERED = 4096  # distinct events; the oldest starts counting again
MAX_SUBJECT_CHARS = 236  # a name has 253 at most, the hash and its dot take 17
MAX_MESSAGE_CHARS = 1024  # the API server's limit


@dataclass(frozen=True)
class EventSubject:
    """The object an Event is about."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass
class _Seen:
    first_s: float
    count: int = 0


@dataclass
class _Similar:
    messages: dict[str, None]
    updated_s: float


@dataclass
class _Allowance:
    left: float
    updated_s: float


class NodeEvents:
    """Events about the node itself, made durable at once."""

    def __init__(self, recorder: EventRecorder, store: RecordStore, node_name: str) -> None:
        self._recorder, self._store = recorder, store
        # As kubelet: the Node's events carry its name for a uid.
        self._subject = EventSubject("Node", "", node_name, node_name)

    async def tell(self, reason: str, message: str) -> None:
        """Tell of something that is wrong. Raises: StoreError."""
        await self._keep(reason, message, warning=True)

    async def note(self, reason: str, message: str) -> None:
        """Tell of something that is as it should be. Raises: StoreError."""
        await self._keep(reason, message, warning=False)

    async def _keep(self, reason: str, message: str, *, warning: bool) -> None:
        event = self._recorder.event(self._subject, reason, message, warning=warning)
        if event is not None:
            await self._store.commit(Commit(reports=[event]))


class EventRecorder:
    """Makes Events of one node."""

    def __init__(self, node_name: str, clock: Callable[[], float]) -> None:
        self._node_name, self._clock = node_name, clock
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()
        self._similar: OrderedDict[tuple[str, str, bool], _Similar] = OrderedDict()

    def event(
        self, subject: EventSubject, reason: str, message: str, *, warning: bool, field: str = ""
    ) -> Report | None:
        """Return the report of an Event, or None if its subject has had too many lately.

        Shapes:  field: path of the container, as `spec.containers{web}`.
        """
        now_s = self._clock()
        if not self._allowed(subject.uid, now_s):
            return None
        identity = (subject.uid, reason, message, field)
        if self._is_one_of_many(subject.uid, reason, message, now_s, warning=warning):
            identity = (subject.uid, reason, COMBINED, "")
            message = COMBINED + message
        message = message[:MAX_MESSAGE_CHARS]
        material = repr(identity).encode(errors="replace")
        name = f"{subject.name[:MAX_SUBJECT_CHARS]}.{hashlib.sha256(material).hexdigest()[:16]}"
        seen = self._seen.setdefault(name, _Seen(now_s))
        self._seen.move_to_end(name)
        seen.count += 1
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        # The API keeps Events of cluster-scoped objects in `default`.
        namespace = subject.namespace or "default"
        involved = {"apiVersion": "v1", "kind": subject.kind, "name": subject.name}
        involved |= {"namespace": subject.namespace, "uid": subject.uid, "fieldPath": field}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {k: v for k, v in involved.items() if v},
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "count": seen.count,
            "firstTimestamp": rfc3339(seen.first_s),
            "lastTimestamp": rfc3339(now_s),
            "source": {"component": "kubelet", "host": self._node_name},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node_name,
        }
        key = ObjectKey("Event", namespace, name)
        return Report(key, "", msgspec.json.encode(body), Lane.SAMPLES)

    def _is_one_of_many(
        self, uid: str, reason: str, message: str, now_s: float, *, warning: bool
    ) -> bool:
        """Note the message; return whether its subject has had too many different ones for this reason."""
        key = (uid, reason, warning)
        similar = self._similar.get(key)
        if similar is None or now_s - similar.updated_s > SIMILAR_S:
            similar = self._similar[key] = _Similar({}, now_s)
        self._similar.move_to_end(key)
        if len(self._similar) > MAX_REMEMBERED:
            self._similar.popitem(last=False)
        similar.messages[message], similar.updated_s = None, now_s
        if len(similar.messages) < MAX_SIMILAR:
            return False
        similar.messages.pop(next(iter(similar.messages)))
        return True

    def _allowed(self, uid: str, now_s: float) -> bool:
        allowance = self._allowances.setdefault(uid, _Allowance(BURST, now_s))
        self._allowances.move_to_end(uid)
        if len(self._allowances) > MAX_REMEMBERED:
            self._allowances.popitem(last=False)
        gained = max(now_s - allowance.updated_s, 0.0) / REFILL_S
        allowance.left, allowance.updated_s = min(allowance.left + gained, BURST), now_s
        if allowance.left < 1:
            return False
        allowance.left -= 1
        return True
