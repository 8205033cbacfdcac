"""A small Kubernetes API over real TLS that misbehaves on request: the far end of cloudcore's tests.

It keeps objects as plain JSON, serves list (paged), watch, get, create, patch and delete, and takes `Fault`s:
each waits for a request of its verb and spoils it. What clients sent is in `requests`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import ssl
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from cloudcore.kube.kubeconfig import KubeEndpoint
from corekit.pki import Authority, KeyPair
from corekit.timestamps import rfc3339

Json = dict[str, Any]

# Stands for JSON nested almost as deeply as a Go API server takes, which Python's encoder cannot write.
NESTED = "nested"
_DEEP = b"[" * 9_900 + b"]" * 9_900


def _encode(obj: Json) -> bytes:
    return json.dumps(obj).encode().replace(b'"nested"', _DEEP)


async def until(check: Callable[[], object]) -> None:
    """Wait for `check()`; the test's own timeout is the fuse."""
    while not check():
        await asyncio.sleep(0.005)


@dataclass
class Fault:
    """Spoil the next request of `verb` (list, watch, get, post, patch, delete).

    status: answer with it. how, of a watch: close (at once), cut (inside an event), gone (410 as an event),
    garbage (a line that is no JSON), drop (the connection, without an answer).
    """

    verb: str
    status: int = 0
    how: str = ""
    retry_after: str = ""
    plural: str = ""
    message: str = "as scripted"


@dataclass
class Seen:
    verb: str
    path: str
    node: str
    body: Json
    query: dict[str, str]
    content_type: str


@dataclass
class _Collection:
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    history: list[tuple[int, str, Json]] = field(default_factory=list)
    compacted: int = 0


class FakeKubeApi:
    def __init__(self, folder: Path, missing: tuple[str, ...] = ()) -> None:
        self.authority = Authority(folder, "test CA")
        self.folder = folder
        self.missing = set(missing)
        self.faults: deque[Fault] = deque()
        self.requests: list[Seen] = []
        self.version = 100
        self._collections: dict[str, _Collection] = {}
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.open_watches = 0

    async def __aenter__(self) -> Self:
        pair = KeyPair(self.folder / "api.crt", self.folder / "api.key")
        self.authority.issue(pair, "api", hosts=("127.0.0.1", "localhost"))
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(pair.cert_file, pair.key_file)
        app = web.Application(client_max_size=4 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._runner:
            await self._runner.cleanup()

    def drop_connections(self) -> None:
        """Abort every connection, as a crash would; the port stays open.

        Closing the port as well would leave half-made TLS connections to the garbage collector, loudly.
        """
        assert self._runner
        assert self._runner.server
        for connection in list(self._runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def endpoint(self) -> KubeEndpoint:
        async def nobody() -> str | None:
            return None

        tls = ssl.create_default_context(cafile=str(self.authority.pair.cert_file))
        return KubeEndpoint(f"https://127.0.0.1:{self.port}", tls, nobody)

    # What a test does to the cluster.

    def put(self, plural: str, obj: Json) -> Json:
        """Create or replace, as some other client."""
        meta = obj["metadata"]
        held = self._of(plural).objects.get((meta.get("namespace", ""), meta["name"]))
        obj = copy.deepcopy(obj)
        uid = held["metadata"]["uid"] if held else str(uuid.uuid4())
        obj["metadata"].setdefault("uid", uid)
        self._store(plural, "MODIFIED" if held else "ADDED", obj)
        return obj

    def remove(self, plural: str, namespace: str, name: str) -> None:
        obj = self._of(plural).objects.get((namespace, name))
        if obj:
            self._store(plural, "DELETED", copy.deepcopy(obj))

    def compact(self) -> None:
        """Forget all history: watches from before now get 410."""
        for collection in self._collections.values():
            collection.history.clear()
            collection.compacted = self.version

    def get(self, plural: str, namespace: str, name: str) -> Json | None:
        return self._of(plural).objects.get((namespace, name))

    def state(self, plural: str) -> dict[tuple[str, str], str]:
        objects = self._of(plural).objects
        return {key: o["metadata"]["resourceVersion"] for key, o in objects.items()}

    def sent(self, verb: str, plural: str = "") -> list[Seen]:
        return [s for s in self.requests if s.verb == verb and f"/{plural}" in s.path]

    def _of(self, plural: str) -> _Collection:
        return self._collections.setdefault(plural, _Collection())

    def _store(self, plural: str, event: str, obj: Json) -> None:
        self.version += 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(self.version)
        key = (meta.get("namespace", ""), meta["name"])
        collection = self._of(plural)
        if event == "DELETED":
            collection.objects.pop(key)
        else:
            collection.objects[key] = obj
        collection.history.append((self.version, event, obj))
        self._changed.set()
        self._changed = asyncio.Event()

    # HTTP.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        plural, namespace, name, sub = _parse(request.path)
        verb = request.method.lower()
        if verb == "get" and not name:
            verb = "watch" if "watch" in request.query else "list"
        raw = await request.read()
        node = request.headers.get("Impersonate-User", "").removeprefix("system:node:")
        body = json.loads(raw) if raw else {}
        query = dict(request.query)
        seen = Seen(verb, request.path, node, body, query, request.content_type)
        self.requests.append(seen)
        fault = self._fault(verb, plural)
        if fault and fault.status:
            return _status(fault.status, fault.message, fault.retry_after)
        if fault and fault.how == "drop":
            assert request.transport
            request.transport.abort()
            return web.Response()
        if plural in self.missing:
            return web.Response(status=404, text="404 page not found\n")
        if verb == "watch":
            return await self._watch(request, plural, fault)
        if verb == "list":
            return self._list(request, plural)
        return self._one(seen, plural, namespace, name, sub)

    def _fault(self, verb: str, plural: str) -> Fault | None:
        for fault in self.faults:
            if fault.verb == verb and fault.plural in ("", plural):
                self.faults.remove(fault)
                return fault
        return None

    def _list(self, request: web.Request, plural: str) -> web.Response:
        collection = self._of(plural)
        version, start = self.version, 0
        if token := request.query.get("continue"):
            version, start = map(int, token.split(":"))
            if version < collection.compacted:
                return _status(410, "the continue token is too old")
        limit = int(request.query.get("limit", "0")) or 10**9
        # Pages after the first may show newer objects than a real server's snapshot would; the watch that
        # follows replays those changes, which a client must bear anyway.
        keys = sorted(collection.objects)
        page = [
            _cut(collection.objects[k], request, in_list=True) for k in keys[start : start + limit]
        ]
        metadata: Json = {"resourceVersion": str(version)}
        if start + limit < len(keys):
            metadata["continue"] = f"{version}:{start + limit}"
        body = _encode({"kind": "List", "metadata": metadata, "items": page or None})
        return web.Response(body=body, content_type="application/json")

    async def _watch(
        self, request: web.Request, plural: str, fault: Fault | None
    ) -> web.StreamResponse:
        collection, since = self._of(plural), int(request.query["resourceVersion"])
        if since < collection.compacted:
            return _status(410, "too old resource version")
        how = fault.how if fault else ""
        reply = web.StreamResponse(headers={"Content-Type": "application/json"})
        await reply.prepare(request)
        if how == "close":
            return reply
        self.open_watches += 1
        try:
            while True:
                changed = self._changed
                for version, event, obj in [h for h in collection.history if h[0] > since]:
                    line = _encode({"type": event, "object": _cut(obj, request)})
                    if how == "cut":
                        await reply.write(line[: len(line) // 2])
                        return reply
                    await reply.write(line + b"\n")
                    since = version
                if how == "gone":
                    said = {"kind": "Status", "code": 410, "reason": "Expired"}
                    await reply.write(
                        json.dumps({"type": "ERROR", "object": said}).encode() + b"\n"
                    )
                    return reply
                if how == "garbage":
                    await reply.write(b'{"type": "ADDED", "object": {"metadata": 7}}\n')
                    return reply
                if how == "bookmark":
                    mark = {"metadata": {"name": "", "resourceVersion": str(self.version)}}
                    mark["metadata"].pop("name")
                    await reply.write(
                        json.dumps({"type": "BOOKMARK", "object": mark}).encode() + b"\n"
                    )
                    return reply
                if how == "huge":
                    await reply.write(b"x" * (9 << 20))
                    return reply
                await changed.wait()
        finally:
            self.open_watches -= 1

    def _one(self, seen: Seen, plural: str, namespace: str, name: str, sub: str) -> web.Response:
        if sub == "token":
            return self._token(seen, namespace, name)
        if seen.verb == "post":
            name = seen.body["metadata"]["name"]
        held = self.get(plural, namespace, name)
        if seen.verb == "post":
            if held:
                return _status(409, f"{plural} {name} already exists")
            return web.json_response(self.put(plural, seen.body), status=201)
        if held is None:
            return _status(404, f"{plural} {name} not found")
        if seen.verb == "get":
            return web.json_response(held)
        asked = seen.body.get("preconditions" if seen.verb == "delete" else "metadata") or {}
        if asked.get("uid") not in (None, held["metadata"]["uid"]):
            return _status(409, "the UID in the precondition does not match")
        if seen.verb == "delete":
            self.remove(plural, namespace, name)
            return web.json_response(held)
        patched = _merged(held, seen.body, strategic="strategic" in seen.content_type)
        if sub == "status":  # nothing else may change through it
            patched = held | {"status": patched.get("status", {})}
        self._store(plural, "MODIFIED", copy.deepcopy(patched))
        return web.json_response(patched)

    def _token(self, seen: Seen, namespace: str, name: str) -> web.Response:
        if self.get("serviceaccounts", namespace, name) is None:
            return _status(404, f'serviceaccounts "{name}" not found')
        self.version += 1
        end = time.time() + seen.body["spec"]["expirationSeconds"]
        status = {"token": f"token-{self.version}", "expirationTimestamp": rfc3339(end)}
        return web.json_response(seen.body | {"status": status}, status=201)


def _parse(path: str) -> tuple[str, str, str, str]:
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2:
        namespace, parts = parts[1], parts[2:]
    plural, name, sub, *_ = [*parts, "", ""]
    return plural, namespace, name, sub


def _cut(obj: Json, request: web.Request, *, in_list: bool = False) -> Json:
    if "PartialObjectMetadata" in request.headers.get("Accept", ""):
        return {"metadata": obj["metadata"]}
    if in_list:  # as a real API server: items carry no kind
        return {k: v for k, v in obj.items() if k not in ("kind", "apiVersion")}
    return obj


def _merged(old: Any, new: Any, *, strategic: bool) -> Any:
    """RFC 7396; `strategic` merges lists by `type`, and knows `$patch: replace`, as far as statuses need it."""
    if isinstance(new, list) and strategic:
        if {"$patch": "replace"} in new:
            return [item for item in new if item != {"$patch": "replace"}]
        if new and all(isinstance(i, dict) and "type" in i for i in new):
            held = {item["type"]: item for item in (old or [])}
            fresh = [_merged(held.pop(i["type"], {}), i, strategic=True) for i in new]
            return [*held.values(), *fresh]
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value, strategic=strategic)
    return merged


def _status(code: int, message: str, retry_after: str = "") -> web.Response:
    reasons = {403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid"}
    body = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    body["reason"] = reasons.get(code, "")
    headers = {"Retry-After": retry_after} if retry_after else {}
    return web.json_response(body, status=code, headers=headers)
