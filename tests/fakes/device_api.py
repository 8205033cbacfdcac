"""The Kubernetes API as devicecontroller sees it: devices in memory, merge patches, faults on command."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from cloudcore.kube.errors import KubeConflictError, KubeNotFoundError
from cloudcore.kube.informer import Informer
from cloudcore.kube.resources import DEVICES, read_object
from corekit.errors import KubeApiError

Json = dict[str, Any]


class FakeDeviceApi:
    """Keeps devices and feeds the informer given, as a watch would."""

    def __init__(self, devices: Informer) -> None:
        self.faults: deque[KubeApiError] = deque()
        self.patches: list[tuple[str, Json]] = []
        self._devices, self._objects, self._version = devices, {}, 0

    def put(self, document: Json, *, seen: bool = True) -> None:
        """Create or replace; `seen`: the informer knows it too."""
        meta = document["metadata"]
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        self._objects[meta["namespace"], meta["name"]] = document
        if seen:
            self._devices.upsert(read_object("Device", json.dumps(document).encode()))

    def device(self, name: str = "lamp-01") -> Json:
        return self._objects["default", name]

    async def get(self, path: str) -> bytes:
        return json.dumps(self._find(path)).encode()

    async def patch(self, path: str, body: bytes, *, content_type: str = "") -> bytes:
        assert content_type == "application/merge-patch+json"
        if self.faults:
            raise self.faults.popleft()
        document, patch = self._find(path.split("/status?")[0]), json.loads(body)
        if patch["metadata"]["uid"] != document["metadata"]["uid"]:
            raise KubeConflictError(409, "Conflict", "uid")
        self.patches.append((path, patch["status"]))
        document = document | {"status": document.get("status", {}) | patch["status"]}
        self.put(document)
        return json.dumps(document).encode()

    def _find(self, path: str) -> Json:
        *_, namespace, plural, name = path.split("/")
        assert plural == DEVICES.plural
        if (namespace, name) not in self._objects:
            raise KubeNotFoundError(404, "NotFound", path)
        return self._objects[namespace, name]
