"""A watch over HTTP: one JSON event a line until the client or the time is up."""

from __future__ import annotations

import asyncio
import random

import msgspec
from aiohttp import web

from kubecore.access.target import Target, flag
from kubecore.errors import ApiStatusError, bad_request
from kubecore.kinds.resource import Resource
from kubecore.objects.operations import Operations, in_version, selector
from kubecore.objects.watching import Subscription
from kubecore.printing.tables import table
from kubecore.serving.answers import include_object, partial
from kubecore.serving.requests import Form, number
from kubecore.storage.store import Object, StoredObject

# As Kubernetes: without a wish of the client, a watch ends after half an hour to an hour, not all at once.
_DEFAULT_TIMEOUT_S = (1800, 3600)
MAX_TIMEOUT_S = 24 * 3600
BOOKMARK_EVERY_S = 60.0
_INITIAL_CHUNK = 200

_encode = msgspec.json.Encoder().encode


class Events:
    """Writes changes as lines in one form; a table's columns go with the first row only."""

    def __init__(self, request: web.Request, resource: Resource, form: Form) -> None:
        self._resource, self._form = resource, form
        self._include = include_object(request)
        self._with_columns = True

    def line(self, kind: str, entry: StoredObject) -> bytes:
        """Return the line of one change."""
        entry = in_version(self._resource, entry)
        if self._form is Form.OBJECT:
            raw = entry.raw
        elif self._form is Form.PARTIAL:
            raw = _encode(partial(entry.parse()))
        else:
            raw = self._table([entry.parse()], entry.revision)
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), raw)

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """Return the line that says "you have seen everything up to `revision`"."""
        metadata: Object = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj: Object = {
            "kind": self._resource.kind,
            "apiVersion": self._resource.api_version,
            "metadata": metadata,
        }
        if self._form is Form.PARTIAL:
            obj = partial(obj)
        elif self._form is Form.TABLE:
            obj = {
                "kind": "Table",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "rows": [],
            }
        return b'{"type":"BOOKMARK","object":%b}\n' % _encode(obj)

    def error(self, error: ApiStatusError) -> bytes:
        """Return the line that ends a failed watch."""
        return b'{"type":"ERROR","object":%b}\n' % _encode(error.body())

    def _table(self, objects: list[Object], revision: int) -> bytes:
        shown = table(
            self._resource,
            objects,
            include_object=self._include,
            with_columns=self._with_columns,
            list_meta={"resourceVersion": str(revision)},
        )
        self._with_columns = False
        return _encode(shown)


async def serve_watch(
    request: web.Request, operations: Operations, resource: Resource, target: Target, form: Form
) -> web.StreamResponse:
    """Answer a watch request."""
    query = request.query
    selects = (query.get("labelSelector", ""), query.get("fieldSelector", ""))
    selector(*selects)  # a wrong one is a plain 400, not an event
    timeout_s = min(number(request, "timeoutSeconds"), MAX_TIMEOUT_S)
    initial = flag(request, "sendInitialEvents")
    revision = number(request, "resourceVersion")
    if initial and query.get("resourceVersionMatch") != "NotOlderThan":
        raise bad_request("sendInitialEvents requires resourceVersionMatch=NotOlderThan")
    # Without a version to start from, the current state comes first.
    state_first = initial or (revision == 0 and "sendInitialEvents" not in query)
    events = Events(request, resource, form)
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    lines: list[bytes] = []
    if state_first or revision == 0:
        revision = operations.store.revision
    if state_first:
        page = operations.list(
            resource, target.namespace, label_selector=selects[0], field_selector=selects[1]
        )
        lines = [events.line("ADDED", entry) for entry in page.entries]
    if initial:
        lines.append(events.bookmark(revision, initial_end=True))
    try:
        subscription = operations.watch(
            resource,
            _namespace(resource, target),
            after=revision,
            label_selector=selects[0],
            field_selector=selects[1],
        )
    except ApiStatusError as exc:
        await response.prepare(request)
        await response.write(events.error(exc))
        return response
    with subscription:
        if request.transport:
            subscription.on_overrun = request.transport.abort
        await response.prepare(request)
        for start in range(0, len(lines), _INITIAL_CHUNK):
            await response.write(b"".join(lines[start : start + _INITIAL_CHUNK]))
        lines.clear()
        bookmarks = initial or flag(request, "allowWatchBookmarks")
        ends_s = timeout_s or random.uniform(*_DEFAULT_TIMEOUT_S)
        await _follow(response, subscription, events, operations, ends_s, bookmarks=bookmarks)
    return response


async def _follow(
    response: web.StreamResponse,
    subscription: Subscription,
    events: Events,
    operations: Operations,
    timeout_s: float,
    *,
    bookmarks: bool,
) -> None:
    now = asyncio.get_running_loop().time
    end, bookmark_at = now() + timeout_s, now() + BOOKMARK_EVERY_S
    while True:
        try:
            changes = await subscription.batch(min(end, bookmark_at) - now())
        except ApiStatusError as exc:
            await response.write(events.error(exc))
            return
        if changes is None:
            return
        if changes:
            await response.write(b"".join(events.line(c.type, c.entry) for c in changes))
        elif bookmarks:
            # Nothing is queued, so everything committed up to now has been sent.
            await response.write(events.bookmark(operations.store.revision))
        if now() >= bookmark_at:
            bookmark_at = now() + BOOKMARK_EVERY_S
        if now() >= end:
            return


def _namespace(resource: Resource, target: Target) -> str:
    return target.namespace if resource.namespaced else ""
