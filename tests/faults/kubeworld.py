"""A world whose cloud is the whole cloudcore against a Kubernetes API that misbehaves on request."""

from __future__ import annotations

import copy
import json
import logging
import random
from pathlib import Path
from typing import Any, Self

import yaml

from cloudcore.edgecontroller.nodes import AGENT_LABEL
from synccore.messages import Lane, Op
from tests.fakes.kubeapi import FakeKubeApi
from tests.faults.bodies import Key, short_hash
from tests.faults.history import History, Json
from tests.faults.lines import ProcessGoneError, RefusedError, usage_of
from tests.faults.world import NODE, Edge, World

PLURALS = {"Pod": "pods", "ConfigMap": "configmaps", "Device": "devices"}
# Their statuses are what goes up; they stay, so that a status always has where to go.
REPORTED = [("Pod", "default", f"s{number}") for number in range(9)]

# So that every config map there is belongs on the node.
REFERENCES = [{"configMapRef": {"name": f"x{number}"}} for number in range(30)]


class RecordingApi(FakeKubeApi):
    """Notes each status that is stored, and can be restored from a backup."""

    def __init__(self, folder: Path, history: History) -> None:
        super().__init__(folder)
        self._history = history
        # It says at length whom it could not answer: those whose connections a fault has cut.
        logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)

    def snapshot(self) -> Any:
        """Return everything it has now."""
        return copy.deepcopy(self._collections), self.version

    def rewind(self, snapshot: Any) -> None:
        """Become what it was: an etcd restored from its backup, under an API server that starts again."""
        self._collections, self.version = copy.deepcopy(snapshot)
        self.drop_connections()

    def _store(self, plural: str, event: str, obj: Json) -> None:
        held = self._of(plural).objects.get(_place(obj))
        super()._store(plural, event, obj)
        if plural == "pods" and (said := _message(obj)) and said != _message(held):
            key = ("Pod", *_place(obj))
            self._history.add(
                "sink", node=NODE, key=key, op=0, n=int(said), sequence=0,
                hash=short_hash(said.encode()),
            )  # fmt: skip


def _place(obj: Json) -> tuple[str, str]:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _message(obj: Json | None) -> str:
    return str(((obj or {}).get("status") or {}).get("message") or "")


class KubeWorld(World):
    """The same truth as `World`, kept in the API."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        (folder / "api").mkdir(exist_ok=True)
        self.api = RecordingApi(folder / "api", self.history)
        self.canonical = True

    async def __aenter__(self) -> Self:
        await self.api.__aenter__()
        self.api.put("nodes", {"metadata": {"name": NODE, "labels": {AGENT_LABEL: "edgecore"}}})
        for key in REPORTED:
            self.put(key)
        try:
            return await super().__aenter__()
        except BaseException:
            await self.api.__aexit__()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await super().__aexit__(*exc_info)
        finally:
            await self.api.__aexit__()

    async def start_cloud(self, **environment: str) -> None:
        await self.spawn_cloud(**environment)

    async def spawn_cloud(self, **environment: str) -> None:
        kubeconfig, config = self.folder / "kubeconfig", self.folder / "cloudcore.yaml"
        server = f"https://127.0.0.1:{self.api.port}"
        authority = str(self.api.authority.pair.cert_file)
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
                    "clusters": [
                        {
                            "name": "c",
                            "cluster": {"server": server, "certificate-authority": authority},
                        }
                    ],
                    "users": [{"name": "c", "user": {"token": "t"}}],
                }
            )
        )
        kube = {"kubeconfig": str(kubeconfig), "backoff_min_s": 0.05, "backoff_max_s": 0.5}
        config.write_text(yaml.safe_dump({"kube": kube, "hub": self.site.cloud_hub()}))
        await self._start_cloud_process("cloudcore", "--config", str(config), **environment)

    def row(self, number: int, rng: random.Random) -> tuple[Key, Lane, Op]:
        return REPORTED[number * 3 + rng.randrange(3)], Lane.PODS, Op.UPSERT

    def down_keys(self, rng: random.Random) -> list[Key]:
        return [(rng.choice(tuple(PLURALS)), "default", f"x{n}") for n in range(30)]

    def row_body(self, key: Key, n: int, edge: Edge) -> tuple[str, str, str]:
        body = json.dumps({"status": {"phase": "Running", "message": str(n)}})
        held = self.api.get("pods", *key[1:])
        return held["metadata"]["uid"] if held else "u", body, short_hash(str(n).encode())

    def _tell_cloud(self, key: Key, body: str | None) -> None:
        kind, namespace, name = key
        if body is None:
            self.api.remove(PLURALS[kind], namespace, name)
            return
        obj = {**json.loads(body), "metadata": {"namespace": namespace, "name": name}}
        if kind == "Pod":
            obj["spec"] = {"nodeName": NODE, "containers": [{"name": "c"}]}
            if key in REPORTED:
                obj["spec"]["containers"][0]["envFrom"] = REFERENCES
                held = self.api.get("pods", namespace, name) or {}
                obj["status"] = held.get("status", {})
        elif kind == "Device":
            obj["spec"] = {"nodeName": NODE}
        self.api.put(PLURALS[kind], obj)

    async def converged(self) -> bool:
        try:
            state, objects = (
                await self.edge.process.ask("state"),
                await self.edge.process.ask("objects"),
            )
        except (ProcessGoneError, RefusedError):
            return False
        held = {(kind, namespace, name): n for kind, namespace, name, n, _ in objects}
        return held == self.records and state["connected"] and state["waiting"] == 0

    def rewind(self, snapshot: Any) -> None:
        """Restore the API; what was wanted and reported since is gone, and that is right."""
        self.api.rewind(snapshot)
        self.records = {
            (kind, *place): obj["n"]
            for kind, plural in PLURALS.items()
            for place, obj in self.api._of(plural).objects.items()
        }
        restored = [[*key, n] for key, n in self.records.items()]
        self.history.add("rewound", node=NODE, objects=restored)

    async def _cloud_state(self) -> Json:
        return usage_of(self.cloud.pid)

    def read_sink(self) -> None:
        """The API has written to the history all along."""
